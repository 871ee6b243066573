"""Image-text matching, hashing and retrieval methods of three theses as Keras 3 models."""

__version__ = "0.1.0"
