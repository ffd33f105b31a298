"""`python -m geomalign.adapters.verl [--config FILE] [OVERRIDE…]`: whether a run would find what it names."""

import sys

from geomalign.adapters.verl.preflight import check


def main(arguments: list[str]) -> int:
    """Run `check` and print what it found, or what is missing.

    Args:
        arguments: `--config FILE`, and overrides as verl's launcher takes them.

    Returns:
        The exit code: 1 where something is missing.
    """
    path = None
    if arguments[:1] == ["--config"]:
        if len(arguments) < 2:
            print("not ok: --config needs a file: --config my.yaml", file=sys.stderr)
            return 1
        path, arguments = arguments[1], arguments[2:]
    try:
        print(*check(arguments, path), sep="\n")
    except RuntimeError as error:
        print(f"not ok: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
