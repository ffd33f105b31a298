"""Whether a model is on this machine or on the hub, and transformers without its own notes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

#: Seconds within which the hub must answer whether it has a model.
HUB_SECONDS = 5.0


def is_local(name: str) -> bool:
    """Whether a hub name is among the files that were downloaded before; if not, the hub has it.

    Raises:
        ValueError: neither; after one attempt of seconds, where transformers would retry for a minute.

    >>> is_local("opo-checkpoint")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: model 'opo-checkpoint' is no directory; it is a directory with a checkpoint and its tokenizer, or ...
    """
    from huggingface_hub import model_info, try_to_load_from_cache

    seen, words = "is no directory", name.split("/")
    if len(words) <= 2 and all(words):
        with contextlib.suppress(ValueError):  # no name that the hub could have
            if isinstance(try_to_load_from_cache(name, "config.json"), str):
                return True
    if len(words) == 2 and all(words):
        try:
            model_info(name, timeout=HUB_SECONDS)
            return False
        except Exception as error:  # of the network or of the hub, or that it is switched off
            said = (str(error).splitlines() or [""])[0][:200]
            seen = f"is no directory, and the hub does not give it ({type(error).__name__}: {said})"
    raise ValueError(
        f"model {name!r} {seen}; it is a directory with a checkpoint and its tokenizer, or a name of the hub, "
        f"OWNER/NAME. As a directory it would be {Path(name).absolute()}."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers without its own progress bars and notes, inside this block.

    >>> from transformers.utils import logging
    >>> with quiet():
    ...     logging.is_progress_bar_enabled()
    False
    """
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
