"""One training step of a method in several implementations, for `benchmarks/step.py` and `benchmarks/cfn_step.py`."""
