"""From words on the command line to settings: hyper-parameters, lists, dotted keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from geomalign._util.words import literal, named
from geomalign.tasks.config import KINDS
from geomalign.training.config.settings import Choice


def hyperparameters(words: Sequence[str]) -> dict[str, Any]:
    """The options that the command itself does not know: hyper-parameters of the recipe.

    >>> hyperparameters(["--alpha", "0.4", "--mu=1", "--std-epsilon", "1e-6"])
    {'alpha': 0.4, 'mu': 1, 'std_epsilon': 1e-06}

    Raises:
        ValueError: a word that is no option, or an option without a value.
    """
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise ValueError(f"{word!r} was not expected here; hyper-parameters are written --name value.")
        name, given, value = word[2:].partition("=")
        if not given:
            if not rest or (rest[0].startswith("--") and rest[0] != "--"):
                raise ValueError(f"--{name} has no value; hyper-parameters are written --name value.")
            value = rest.pop(0)
        found[name.replace("-", "_")] = literal(value)
    return found


def settings(words: Iterable[str]) -> dict[str, Any]:
    """`key=value` words as settings with dotted keys.

    >>> settings(["rl.iterations=40", "model.hidden=64"])
    {'rl.iterations': 40, 'model.hidden': 64}

    Raises:
        ValueError: a word without "=".
    """
    found = {}
    for word in words:
        key, given, value = word.partition("=")
        if not (given and key.strip()):
            raise ValueError(f"--set {word!r}: write key=value, such as rl.iterations=40.")
        found[key.strip()] = literal(value.strip())
    return found


def choice(text: str) -> Choice:
    """One objective of a comparison: its name, then its hyper-parameters, `label=` for how the report calls it, and
    `control=` for what sets its stiffness.

    >>> choice("opo mu=10 alpha=0.4 label=soft")
    Choice(name='opo', options={'mu': 10, 'alpha': 0.4}, label='soft', tuning='', control='')

    Raises:
        ValueError: no name, or a word without "=".
    """
    name, given = named(text, where="--objective", example="opo mu=10 label=soft")
    label, control = str(given.pop("label", "")), str(given.pop("control", ""))
    return Choice(name, given, label, control=control)


def task(text: str, before: str) -> dict[str, Any]:
    """The settings of a task: its name, then its options.

    >>> task("reasoning_gym:chain_sum max_terms=3", "reasoning_gym:chain_sum")
    {'task.name': 'reasoning_gym:chain_sum', 'task.options': {'max_terms': 3}}

    Args:
        before: name of the task that it replaces; if it is another one, its options and tiers are forgotten.

    Raises:
        ValueError: no name, or a word without "=".
    """
    name, chosen = named(text, where="--task", example="data.jsonl verifier=exact")
    found: dict[str, Any] = {"task.name": name}
    if chosen or name != before:
        found["task.options"] = chosen
    forgotten = ("task.train_tiers", "task.eval_tiers", "warm_start.tiers", "warm_start.weights")
    if name != before and (":" not in name or name.split(":")[0] in KINDS):
        found |= {setting: [] for setting in forgotten}
    return found


def numbers(texts: Sequence[str], kind: type, name: str) -> list[Any]:
    """Numbers given one by one or with commas between them.

    >>> numbers(["5e-5,2e-4", "1e-3"], float, "rates")
    [5e-05, 0.0002, 0.001]

    Raises:
        ValueError: something that is not such a number.
    """
    found = []
    for word in ",".join(texts).split(","):
        try:
            found.append(kind(word.strip()))
        except ValueError:
            raise ValueError(
                f"--{name} {word.strip()!r} is not {'an integer' if kind is int else 'a number'}."
            ) from None
    return found
