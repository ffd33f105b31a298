"""Which wrong lines of code does a fast test notice?

* `python -m tests.mutants run [--package P] [--sample N] [--seed S] [--out FILE]`: change one place of the code at a
  time, in a private copy of the tree, and run the fast tests that cover it (targets.py) until one fails. The record is
  written after every mutant, and a run that was cut off goes on where it stopped.
* `python -m tests.mutants again FILE…`: run the survivors of earlier records again, against the tests as they are now.
* `python -m tests.mutants known`: the wrong lines of known.py, written by hand, each against the one file of tests that
  notices it; the exit status is the number that survive.
* `python -m tests.mutants slow`: whether each of the slowest fast tests notices something that its neighbours do not.
* `python -m tests.mutants render FILE…`: write docs/results/mutants.md from records, with a table for every seed.

One process runs one mutant at a time: a sample of 150 takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.mutants import report, runner, targets
from tests.mutants.mutations import Mutant, mutants

ROOT = Path(__file__).parents[2]


def drawn(packages: list[str], sample: int | None, seed: int) -> list[tuple[str, Mutant]]:
    """Of every package the same number of mutants, in an order in which any beginning is a fair sample."""
    of: dict[str, list[Mutant]] = {}
    for package in packages:
        found = [mutant for path in targets.modules(ROOT, package) for mutant in mutants(ROOT, path)]
        random.Random(f"{seed} {package}").shuffle(found)
        of[package] = found if sample is None else found[: -(-sample // len(packages))]
    rounds = max(len(found) for found in of.values())
    return [(package, found[at]) for at in range(rounds) for package, found in of.items() if at < len(found)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the fast tests on mutants of the code")
    run.add_argument("--package", action="append", choices=list(targets.PACKAGES), help="may be repeated; all")
    run.add_argument("--sample", type=int, help="how many mutants, as many of every package; without it all of them")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--out", type=Path, default=Path("build/mutants.json"))
    commands.add_parser("known", help="run the wrong lines that are written by hand")
    commands.add_parser("slow", help="run wrong lines that only a slow test notices")
    again = commands.add_parser("again", help="run the survivors of records again")
    render = commands.add_parser("render", help="write the page of records")
    for command in (again, render):
        command.add_argument("files", nargs="+", type=Path)
    render.add_argument("--page", type=Path, default=Path("docs/results/mutants.md"))
    given = parser.parse_args(arguments)
    match given.command:
        case "run":
            packages = given.package or list(targets.PACKAGES)
            runner.run(ROOT, drawn(packages, given.sample, given.seed), given.out, given.seed)
        case "again":
            for file in given.files:
                runner.again(ROOT, file)
        case "known":
            return runner.known(ROOT)
        case "slow":
            return runner.slow(ROOT)
        case "render":
            given.page.write_text(report.page(report.read(given.files)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
