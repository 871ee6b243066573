"""Serving exported models over the TensorFlow Serving API."""
