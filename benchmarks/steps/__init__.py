"""One training step of MMC-Net in three implementations, for `benchmarks/step.py`."""
