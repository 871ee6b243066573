"""One training step of a method in several implementations, for the benchmarks of steps."""
