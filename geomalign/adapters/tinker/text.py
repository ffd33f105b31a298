"""The loop with which Tinker trains an objective."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from geomalign.adapters import hosted
from geomalign.objective import BaseObjective

__all__ = ["configuration"]


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The loop that trains an objective by Tinker; see `geomalign.adapters.export.configuration`.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {"mu": 2.0}).splitlines()[3])
    objective = "opo mu=2.0"
    """
    given = {"reward": not objective.paired, "group": not objective.paired}
    given |= {"reference": objective.needs_reference, "margin": objective.paired and objective.driven}
    known = [key for key, needed in given.items() if needed]
    about = (
        "chosen and rejected in turn, with weights" if objective.paired else "one per response, with logprobs and mask"
    )
    return f"""from geomalign.adapters import tinker as geometry
from tinker import types

objective = {json.dumps(hosted.in_one_line(name, hyperparameters))}


def update({", ".join(["client", "data", *known])}, size=64):
    # data: {about}
    data = geometry.prepare({", ".join(["objective", "data", *(f"{key}={key}" for key in known)])})
    futures = []
    for start in range(0, len(data), size):
        futures.append(client.forward_backward_custom(data[start : start + size], geometry.loss(objective)))
        client.optim_step(types.AdamParams(learning_rate=4e-5))
    return [future.result().metrics for future in futures]
"""
