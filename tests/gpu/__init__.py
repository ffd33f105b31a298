"""What a GPU has to show, in one command of at most eight minutes: tests/gpu/run.sh."""
