"""Functional models with the training steps of the methods."""

from tfthesis.lazy import exporting

__getattr__, __dir__ = exporting(__name__, __path__)
