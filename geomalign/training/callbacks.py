"""Code of the user's inside a run: a callback, by name or as an object, and when it is called."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from geomalign._util.importing import imported
from geomalign._util.words import named

if TYPE_CHECKING:
    from geomalign.training.run import Run


class Callback:
    """What a run calls while it works; a subclass overrides the methods that it needs.

    Every process of a run has its own callbacks and calls them after the same steps. A callback reads the run: its
    `step`, `policy`, `objective`, `config`, `directory`. It ends the run with `run.stop()`; an error that it raises
    ends the run with an error.

    >>> class Patience(Callback):
    ...     def on_evaluation(self, run, metrics):
    ...         if metrics["accuracy_in"] > 0.95:
    ...             run.stop()
    >>> isinstance(Patience(), Callback)
    True
    """

    def on_start(self, run: Run) -> None:
        """Before the first step, and before the first one after a resumption."""

    def on_step(self, run: Run, metrics: dict[str, float]) -> None:
        """After an iteration, or an optimiser step on pairs.

        Args:
            metrics: the line of this step in `metrics.jsonl`, before it is written: numbers may be added to it.
        """

    def on_evaluation(self, run: Run, metrics: Mapping[str, float]) -> None:
        """After the base was evaluated (at step 0), and after `on_step` where the policy was.

        Args:
            metrics: the line of this step, with `accuracy/LEVEL`, `greedy_reward/LEVEL` and their means.
        """

    def on_end(self, run: Run, summary: Mapping[str, Any] | None) -> None:
        """When the run is finished, or ends before that.

        Args:
            summary: as in `summary.json`; None where the run was interrupted or failed.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, so that a resumed run goes on as if it had not been interrupted."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned when the checkpoint was written."""


def check_callback(callback: Callback) -> None:
    """Refuse a callback with a method that is never called, or cannot be, before a run spends time on it.

    Raises:
        ValueError: it is none, a method does not take what it is called with, or `on_…` is no moment.

    >>> class Wrong(Callback):
    ...     def on_evaluate(self, run, metrics): ...
    >>> check_callback(Wrong())
    Traceback (most recent call last):
    ValueError: Wrong.on_evaluate is never called; the moments are on_start, on_step, on_evaluation, on_end.
    """
    name = type(callback).__name__
    if not isinstance(callback, Callback):
        raise ValueError(f"{name} is no callback; it is made by a subclass of geomalign.training.Callback.")
    methods = {method: found for method, found in vars(Callback).items() if not method.startswith("_")}
    moments = [method for method in methods if method.startswith("on_")]
    for method in dir(callback):
        if method.startswith("on_") and method not in moments and callable(getattr(callback, method)):
            raise ValueError(f"{name}.{method} is never called; the moments are {', '.join(moments)}.")
    for method, found in methods.items():
        given = list(inspect.signature(found).parameters)[1:]
        try:
            inspect.signature(getattr(callback, method)).bind(*given)
        except TypeError as error:
            raise ValueError(
                f"{name}.{method} is called with ({', '.join(given)}), which it does not take: {error}."
            ) from error


def callbacks_of(names: Iterable[str]) -> list[Callback]:
    """The callbacks that `"module:object"` names, with options behind it, as in `"my_module:Patience steps=3"`.

    Args:
        names: each of a subclass of `Callback`, of a function that returns a callback, or of a callback itself.

    Raises:
        ValueError: there is no such object, it does not take the options, or it is no callback that can be called.

    >>> [type(found).__name__ for found in callbacks_of(["geomalign.training:Callback"])]
    ['Callback']
    >>> callbacks_of(["math:pi"])
    Traceback (most recent call last):
    ValueError: callback 'math:pi' is float, not a geomalign.training.Callback, nor a class or function that makes one.
    """
    return [_callback(text) for text in names]


def _callback(text: str) -> Callback:
    name, options = named(text, where="--callback", example="my_module:Patience steps=3")
    if ":" not in name:
        raise ValueError(f"callback {name!r} names no object; write module:object, such as my_module:Patience.")
    found = imported(name)
    if callable(found) and not isinstance(found, Callback):
        try:
            found = found(**options)
        except TypeError as error:
            raise ValueError(f"callback {text!r} could not be made: {error}.") from error
    elif options:
        raise ValueError(f"callback {text!r}: {name} is an object already, so it takes no options.")
    if not isinstance(found, Callback):
        raise ValueError(
            f"callback {name!r} is {type(found).__name__}, not a geomalign.training.Callback, nor a class or function "
            "that makes one."
        )
    check_callback(found)
    return found
