"""Facts to numbers and sentences. Sockets are not known here."""
