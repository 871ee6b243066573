"""Segmentation of images: data, networks, figures, pictures and served functions that methods share."""
