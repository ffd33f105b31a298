"""The rows of a batch written as a dump."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geomalign.audit.columns import LOG_PROBS
from geomalign.batch import Batch

__all__ = ["record"]


def record(path: str | Path, batch: Batch, *, rollout: int = 0, step: int = 0, rank: int = 0) -> None:
    """Append the rows of a batch as JSON lines that `read` and `audit` understand, one file per process.

    Args:
        path: a file; with a suffix of the rank for ranks above zero.
        batch: with what is to be recorded; masked tokens are left out.
        rollout: number of the rollout, in which equal `group` ids are one prompt.
        step: number of the optimiser step.
        rank: of this process.

    >>> import tempfile, torch
    >>> rows = Batch(torch.tensor([[-0.5, -1.5]]), torch.tensor([[-0.5, -1.0]]), reward=torch.tensor([1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(folder, rows, rollout=3, step=12)
    ...     print(Path(folder, "rollouts.jsonl").read_text().strip())
    {"rollout": 3, "step": 12, "policy": [-0.5, -1.5], "old": [-0.5, -1.0], "reward": 1.0}
    """
    path = Path(path)
    path = path if path.suffix else path / "rollouts.jsonl"
    path = path.with_suffix(f".{rank}{path.suffix}") if rank else path
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {"rollout": [rollout] * batch.size, "step": [step] * batch.size}
    support = batch.support
    for name in LOG_PROBS:
        value = getattr(batch, name)
        if value is not None:
            tokens = batch.tokens(value.detach().float())
            columns[name] = [
                [round(x, 6) for x in row[keep].tolist()] for row, keep in zip(tokens, support, strict=True)
            ]
    if batch.reward is not None:
        columns["reward"] = batch.per_response(batch.reward).tolist()
    if batch.prompt is not None:
        columns["group"] = batch.prompt.tolist()
    with path.open("a", encoding="utf-8") as file:
        for values in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")
