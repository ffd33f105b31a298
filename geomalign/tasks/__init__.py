"""Tasks with a verifiable reward: the demo's chains, `reasoning_gym`, tables with a verifier, and one's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from geomalign._util.importing import imported
from geomalign.tasks.chain import Chain as Chain
from geomalign.tasks.config import KINDS, TaskConfig
from geomalign.tasks.gym import Gym as Gym
from geomalign.tasks.preferences import Preference as Preference
from geomalign.tasks.preferences import Preferences as Preferences
from geomalign.tasks.rows import is_table
from geomalign.tasks.table import Dataset as Dataset
from geomalign.tasks.table import load as load
from geomalign.tasks.task import HELD_OUT as HELD_OUT
from geomalign.tasks.task import Problem as Problem
from geomalign.tasks.task import Task as Task
from geomalign.tasks.task import draw as draw
from geomalign.tasks.task import evaluation_set as evaluation_set
from geomalign.tasks.task import held_out as held_out
from geomalign.tasks.task import score as score
from geomalign.tasks.verifiers import verifier as verifier
from geomalign.tasks.verifiers.base import Exact as Exact
from geomalign.tasks.verifiers.base import Verifier as Verifier
from geomalign.tasks.verifiers.choice import MultipleChoice as MultipleChoice
from geomalign.tasks.verifiers.instructions import Instructions as Instructions
from geomalign.tasks.verifiers.mathematics import MathVerify as MathVerify
from geomalign.tasks.verifiers.programs import UnitTests as UnitTests

_KINDS: dict[str, Callable[..., Any]] = dict(zip(KINDS, (Gym, load, Preferences.read)))


def build(config: TaskConfig) -> Task:
    """The task that a configuration names.

    The name is `chain`, `reasoning_gym:NAME`, `dataset:NAME` (a file, a directory of `save_to_disk`, or a name of the
    hub; a path to a file needs no prefix), `preferences:NAME`, or `my_module:MyTask`.

    Raises:
        ValueError: the task is unknown, it does not take the options, or what was named is no task.

    >>> build(TaskConfig("chain", options={"largest": 4}))
    Chain(largest=4, skip_probability=0.55, slip=0.05)
    """
    kind, _, rest = config.name.partition(":")
    make: Callable[..., Any]
    if config.name == "chain":
        make = Chain
    elif kind in _KINDS and rest:
        make = partial(_KINDS[kind], rest)
    elif is_table(config.name):
        make = partial(load, config.name)
    elif rest:
        make = imported(config.name)
    else:
        raise ValueError(
            f"there is no task {config.name!r}; there are 'chain', 'reasoning_gym:NAME', 'dataset:NAME' or the path of "
            "a .jsonl, .json, .csv or .parquet file, 'preferences:NAME', and 'my_module:MyTask' for your own."
        )
    try:
        task = make(**config.options)
    except TypeError as error:
        raise ValueError(
            f"task {config.name!r} could not be built with {config.options}: {error}. It takes {signature(make)}."
        ) from error
    if not isinstance(task, Task):
        raise ValueError(
            f"task {config.name!r} is a {type(task).__name__} without the methods of geomalign.tasks.Task."
        )
    return task
