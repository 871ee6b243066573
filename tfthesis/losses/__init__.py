"""Losses: pure functions on tensors, and thin serialisable classes over them."""

from tfthesis.lazy import exporting

__getattr__, __dir__ = exporting(__name__, __path__)
