"""Evaluation protocols of the field, computed in chunks."""

from tfthesis.lazy import exporting

__getattr__, __dir__ = exporting(__name__, __path__)
