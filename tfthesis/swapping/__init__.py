"""Clothes swapped between photos of persons: data, networks, figures, pictures and served functions of SwapGAN."""
