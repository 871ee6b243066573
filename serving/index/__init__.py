"""The life of an index: items that come and go, and versions of a searchable model made of them."""
