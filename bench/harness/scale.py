"""What grows with the number of files: start, memory, disk."""

BENCHMARKS = []
