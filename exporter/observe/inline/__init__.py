"""The observer inside the relay's process."""
