"""Custom Keras layers, one public class a file."""

from tfthesis.lazy import exporting

__getattr__, __dir__ = exporting(__name__, __path__)
