"""Convolutional networks that methods for pixels and patches build on."""
