"""Benchmarks of the loss core; see README.md here. Not part of the distribution."""
