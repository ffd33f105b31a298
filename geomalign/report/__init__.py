"""The report of a comparison: Markdown, figures, CSV and JSON lines, from the files that the runs left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geomalign.report.figures import draw
from geomalign.report.results import FinishedRun, Results, read, write_records
from geomalign.report.statistics import Difference, differences, interval
from geomalign.report.text import markdown


def write(directory: str | Path, formats: Sequence[str] = ("png",)) -> Path:
    """Write report.md, figures/, metrics.csv, metrics.jsonl and finals.csv into the directory of a comparison or a run.

    Args:
        directory: that `train` or `compare` wrote.
        formats: of the figures, each `"png"`, `"pdf"` or `"svg"`; the report shows the first.

    Returns:
        the path of report.md.

    Raises:
        ValueError: no run in the directory is finished.

    >>> write("nowhere")
    Traceback (most recent call last):
    ...
    ValueError: nowhere holds no finished run; let `geomalign compare --resume` finish one first.
    """
    directory = Path(directory)
    results = read(directory)
    write_records(results, directory)
    figures = draw(results, directory / "figures", formats)
    path = directory / "report.md"
    path.write_text(markdown(results, figures), encoding="utf-8")
    return path
