"""A mutation run: does a wrong line of code fail a fast test? `python -m tests.mutants run` and `make mutants`."""
