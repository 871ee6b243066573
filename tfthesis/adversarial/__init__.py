"""Translation of images by adversaries: data, networks, figures, pictures and served functions that methods share."""
