"""Readers of the real datasets in the layouts in which they are published, and of the drawn scenes.

A file that defines `DATASETS` (names it reads, each with a sentence on what must lie in the folder) and
`open_dataset(name, directory, **options)` is found by itself.
"""
