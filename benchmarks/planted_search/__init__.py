"""Search among a million planted images by several indexes, for `benchmarks/deep_index.py`."""
