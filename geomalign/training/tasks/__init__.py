"""Tasks with a verifiable reward: the demo's chains, `reasoning_gym`, tables with a verifier, and tasks of one's
own."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

from geomalign.training.config import KINDS, TaskConfig, imported
from geomalign.training.tasks.chain import Chain as Chain
from geomalign.training.tasks.dataset import Dataset as Dataset
from geomalign.training.tasks.dataset import load as load
from geomalign.training.tasks.gym import Gym as Gym
from geomalign.training.tasks.instructions import Instructions as Instructions
from geomalign.training.tasks.mathematics import MathVerify as MathVerify
from geomalign.training.tasks.preferences import Preference as Preference
from geomalign.training.tasks.preferences import Preferences as Preferences
from geomalign.training.tasks.programs import UnitTests as UnitTests
from geomalign.training.tasks.protocol import HELD_OUT as HELD_OUT
from geomalign.training.tasks.protocol import Problem as Problem
from geomalign.training.tasks.protocol import Task as Task
from geomalign.training.tasks.protocol import draw as draw
from geomalign.training.tasks.protocol import evaluation_set as evaluation_set
from geomalign.training.tasks.protocol import held_out as held_out
from geomalign.training.tasks.protocol import score as score
from geomalign.training.tasks.rows import is_table
from geomalign.training.tasks.verifiers import Exact as Exact
from geomalign.training.tasks.verifiers import MultipleChoice as MultipleChoice
from geomalign.training.tasks.verifiers import Verifier as Verifier
from geomalign.training.tasks.verifiers import verifier as verifier

_KINDS: dict[str, Callable[..., Any]] = dict(zip(KINDS, (Gym, load, Preferences.read)))


def build(config: TaskConfig) -> Task:
    """The task a configuration names.

    `chain`, `reasoning_gym:NAME`, `dataset:NAME` (a file, a directory of `save_to_disk`, or a name of the hub; a path
    to a file needs no prefix), `preferences:NAME`, or `my_module:MyTask`.

    Raises:
        ValueError: for an unknown task, options it does not take, or an object that is no task.
    """
    kind, _, rest = config.name.partition(":")
    make: Callable[..., Any]
    words: tuple[str, ...]
    if config.name == "chain":
        make, words = Chain, ()
    elif kind in _KINDS and rest:
        make, words = _KINDS[kind], (rest,)
    elif is_table(config.name):
        make, words = load, (config.name,)
    elif rest:
        make, words = imported(config.name), ()
    else:
        raise ValueError(
            f"there is no task {config.name!r}; there are 'chain', 'reasoning_gym:NAME', 'dataset:NAME' or the path of "
            "a .jsonl, .json, .csv or .parquet file, 'preferences:NAME', and 'my_module:MyTask' for your own."
        )
    try:
        task = make(*words, **config.options)
    except TypeError as error:
        raise ValueError(
            f"task {config.name!r} could not be built with {config.options}: {error}. It takes {signature(make)}."
        ) from error
    if not isinstance(task, Task):
        raise ValueError(
            f"task {config.name!r} is a {type(task).__name__} without the methods of geomalign.training.tasks.Task."
        )
    return task
