"""Nearest-neighbour search over indexed vectors."""
