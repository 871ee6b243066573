"""Decoding, readers of the real datasets' layouts, and the scene renderer."""
