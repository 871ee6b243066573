"""A search page on the REST port."""
