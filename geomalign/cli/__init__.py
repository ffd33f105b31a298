"""The command line: `geomalign COMMAND`, one function each. Nothing heavy loads before it is needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from geomalign.cli.commands import app
from geomalign.cli.progress import Stopped, console


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C.

    Args:
        arguments: without the program's name; those of the process if None.
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
    except (ValueError, FileNotFoundError) as error:
        console.print(f"[bold red]Error:[/] {_plain(error)}", soft_wrap=True, highlight=False)
        return 2
    return 0


def _quoted(words: Sequence[str]) -> str:
    import shlex

    return shlex.join(words)


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))
