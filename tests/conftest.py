"""Strict by configuration: float64, seeded, one thread, warnings are errors (pyproject.toml)."""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import random
import signal
from collections.abc import Iterator

import numpy
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job that a shell put in the background ignores it

settings.register_profile(
    "geomalign",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("geomalign")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "float32: run with float32 as the default type, as a model is trained")


@pytest.fixture(autouse=True)
def strict(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test starts from one seed, in float64 unless it is marked `float32`, and restores the default type."""
    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002 (third parties draw from it)
    torch.manual_seed(0)
    dtype = torch.float32 if request.node.get_closest_marker("float32") else torch.float64
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)
