"""Optimizers as the theses used them, where Keras's differ."""

from tfthesis.lazy import exporting

__getattr__, __dir__ = exporting(__name__, __path__)
