"""Whole jobs of Hadoop's and Spark's own programs on both systems."""

BENCHMARKS = []
