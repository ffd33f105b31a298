"""The command line `geomalign COMMAND`, with one function per command, which imports what it needs when it runs."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from geomalign.cli import runs, study  # their commands register themselves
from geomalign.cli.app import app
from geomalign.cli.progress import Stopped, console
from geomalign.training.events import Failed


@contextlib.contextmanager
def _warnings_in_words() -> Iterator[None]:
    """Warnings of this library, such as one of a broken plug-in, are printed without a line of its source."""
    before = warnings.formatwarning

    def told(message: Any, category: type[Warning], *place: Any, **line: Any) -> str:
        ours = category.__module__.startswith("geomalign.")
        return f"warning: {message}\n" if ours else before(message, category, *place, **line)

    warnings.formatwarning = told
    try:
        yield
    finally:
        warnings.formatwarning = before


@_warnings_in_words()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The code is 0; 1 where the user's code raised or a run failed; 2 for what the user can correct: words, settings,
    files or directories; 130 after Ctrl-C.

    Args:
        arguments: without the program's name; those of the process if None.

    >>> main(["show", "opoo"])  # doctest: +ELLIPSIS
    Error: there is no recipe 'opoo'. Did you mean 'opo'? ...
    2
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments, prog_name="geomalign")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Stopped:
        again = arguments if "--resume" in arguments else [*arguments, "--resume"]
        console.print("\n[bold]Interrupted; everything is saved.[/] Continue with")
        console.print(f"  {_quoted(['geomalign', *again])}", soft_wrap=True, highlight=False, markup=False)
        return 130
    except (ValueError, OSError, Failed) as error:
        console.print(f"[bold red]Error:[/] {_plain(error)}", soft_wrap=True, highlight=False)
        return 1 if isinstance(error, Failed) else 2
    return 0


def _quoted(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def _plain(error: Exception) -> str:
    from rich.markup import escape

    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        text = f"{place}{error.strerror}. Is the path right, may you use it, and is there room on the disk?"
    return escape(text)
