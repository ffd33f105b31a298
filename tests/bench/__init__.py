"""The benchmark: every figure beside its peers, in one process, in rounds that alternate. `make bench` runs it."""
