"""HTML pages of the admin port."""
