"""Run the parity table where a reference implementation is installed, and make the report.

* `python -m tests.parity run [NAME…] [--out FILE]`: compare with the implementations installed here and write the
  records as JSON; the exit status is 1 where a verdict is unexpected.
* `python -m tests.parity render FILE… [--docs DIR]`: from the records of several environments make DIR/parity.md and
  DIR/parity/parity.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from tests.parity import report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="compare with the reference implementations that are installed here")
    runner.add_argument("implementations", nargs="*", help="names of reference implementations; all that are installed")
    runner.add_argument("--verdicts-only", action="store_true", help="without looking for minimal cases")
    runner.add_argument("--out", type=Path, help="file for the JSON records")
    renderer = commands.add_parser("render", help="make the report of the records of several environments")
    renderer.add_argument("files", nargs="+", type=Path)
    renderer.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args(arguments)
    if given.command == "render":
        report.write(report.merge(*(json.loads(file.read_text(encoding="utf-8")) for file in given.files)), given.docs)
        return 0
    warnings.simplefilter("ignore")  # other libraries warn about each other
    records, unexpected = report.fresh(implementations=given.implementations or None, examples=not given.verdicts_only)
    if given.out:
        given.out.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    for verdict in unexpected:
        print(verdict, file=sys.stderr)
    counts = {
        v: sum(r["verdicts"]["ragged"] == v for r in records)
        for v in sorted({r["verdicts"]["ragged"] for r in records})
    }
    print(f"{len(records)} comparisons: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return 1 if unexpected or not records else 0


if __name__ == "__main__":
    sys.exit(main())
