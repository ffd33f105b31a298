"""Checkpoints survive what happens to disks; metrics follow them."""

import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from geomalign.training import checkpoint


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state"
    checkpoint.write_atomically(path, lambda handle: handle.write(b"old"))

    def full(handle: BinaryIO) -> None:
        handle.write(b"half of the n")
        handle.flush()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_atomically(path, full)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_the_file_system_itself_refusing_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A process that may write 100 kB to a file saves 40 kB, then tries 400 kB."""
    program = (
        "import resource, signal, torch\n"
        "from pathlib import Path\n"
        "from geomalign.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "path = Path('checkpoint.pt')\n"
        "checkpoint.save(path, {'weights': torch.full((10_000,), 1.0)})\n"
        "try:\n"
        "    checkpoint.save(path, {'weights': torch.full((100_000,), 2.0)})\n"
        "except OSError as error:\n"
        "    print('refused')\n"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout == "refused\n"
    assert torch.equal(checkpoint.load(tmp_path / "checkpoint.pt")["weights"], torch.full((10_000,), 1.0).float())
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_every_global_random_state_comes_back(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    draw()
    checkpoint.save(tmp_path / "state", {})
    expected = draw()
    draw()
    checkpoint.load(tmp_path / "state")
    assert draw() == expected


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000] if damage is None else damage)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint of this library, or is damaged"):
        checkpoint.load(path)


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = checkpoint.MetricsFile(path)
    metrics.write({"step": 1, "loss": 0.1})
    position = metrics.position()
    metrics.write({"step": 2, "loss": 0.2})
    metrics.close()
    with open(path, "a") as handle:
        handle.write('{"step": 3, "lo')
    assert [line["step"] for line in checkpoint.read_metrics(path)] == [1, 2]
    metrics = checkpoint.MetricsFile(path, position)
    metrics.write({"step": 2, "loss": 0.25})
    metrics.close()
    assert checkpoint.read_metrics(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.25}]
