"""From words on the command line to settings: hyper-parameters, lists, dotted keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geomalign._util.words import literal, named

#: Of figures.
FORMATS = ("png", "pdf", "svg")


def given(settings: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The options that were given: those that are not None, false or an empty list.

    >>> given({"model.path": None, "seed": 0}, rates=[], mode="rl")
    {'seed': 0, 'mode': 'rl'}
    """
    return {
        key: value
        for key, value in {**(settings or {}), **more}.items()
        if value not in (None, []) and value is not False
    }


def objective(text: str, words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The name of an objective and its hyper-parameters, from the text and from options of their own, which win.

    >>> objective("opo mu=2 alpha=0.5", ["--mu", "3"])
    ('opo', {'mu': 3, 'alpha': 0.5})

    Raises:
        ValueError: no name, a word without "=", or an option without a value.
    """
    name, hyper = named(text, where="the objective", example="opo mu=2")
    return name, hyper | hyperparameters(words)


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


def task(text: str | None, before: str) -> dict[str, Any]:
    """The settings of a task: its name, then its options; none without a text.

    >>> task("reasoning_gym:chain_sum max_terms=3", "reasoning_gym:chain_sum")
    {'task.name': 'reasoning_gym:chain_sum', 'task.options': {'max_terms': 3}}

    Args:
        before: name of the task that it replaces; if it is another one, its options and levels are forgotten.

    Raises:
        ValueError: no name, or a word without "=".
    """
    if text is None:
        return {}
    from geomalign.tasks.config import KINDS

    name, chosen = named(text, where="--task", example="data.jsonl verifier=exact")
    found: dict[str, Any] = {"task.name": name}
    if chosen or name != before:
        found["task.options"] = chosen
    forgotten = ("task.train_levels", "task.eval_levels", "warm_start.levels", "warm_start.weights")
    if name != before and (":" not in name or name.split(":")[0] in KINDS):
        found |= {setting: [] for setting in forgotten}
    return found


def texts(words: Sequence[str]) -> list[str]:
    """Names given one by one or with commas between them.

    >>> texts(["wandb,trackio", "tensorboard"])
    ['wandb', 'trackio', 'tensorboard']
    """
    return [word.strip() for word in ",".join(words).split(",") if word.strip()]


def formats(text: str) -> list[str]:
    """The formats of figures that a text names.

    >>> formats("png,pdf")
    ['png', 'pdf']

    Raises:
        ValueError: there is none, or one that is not offered.
    """
    found = [word.removeprefix(".").lower() for word in texts([text])]
    if not found or not set(found) <= set(FORMATS):
        raise ValueError(f"--figures {text!r}: the formats are {', '.join(FORMATS)}; write one or more, with commas.")
    return found


def numbers(texts: Sequence[str], kind: type, name: str) -> list[Any]:
    """Numbers given one by one or with commas between them; none without texts.

    >>> numbers(["5e-5,2e-4", "1e-3"], float, "rates")
    [5e-05, 0.0002, 0.001]

    Raises:
        ValueError: something that is not such a number.
    """
    found = []
    for word in ",".join(texts).split(",") if texts else []:
        try:
            found.append(kind(word.strip()))
        except ValueError:
            raise ValueError(
                f"--{name} {word.strip()!r} is not {'an integer' if kind is int else 'a number'}."
            ) from None
    return found
