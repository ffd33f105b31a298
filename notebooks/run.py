"""Execute the notebooks: every NN_name.py (Jupytext percent) into NN_name.ipynb with its figures.

Outputs are stripped of what differs between equal runs (execution times, cell ids): a change is a small diff.

    python notebooks/run.py            all of them, in place
    python notebooks/run.py 03 08      some
    python notebooks/run.py --out DIR  elsewhere
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
os.environ.pop("MPLBACKEND", None)  # inside a notebook figures are shown


def shrink(png: str) -> str:
    """The base64 of a PNG in a palette of 200 colours: half the size, the same picture."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        small, out = image.convert("RGB").quantize(200, dither=Image.Dither.NONE), io.BytesIO()
    small.save(out, "PNG", optimize=True)
    return min(base64.b64encode(out.getvalue()).decode(), png.replace("\n", ""), key=len)


def execute(source: Path, out: Path, *, limit: int) -> float:
    """Run one script as a notebook and write it; seconds taken. Raises at the first cell that fails."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    started = time.perf_counter()
    notebook = jupytext.read(source)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    where = {"metadata": {"path": str(HERE)}}
    # A cell's prints are one output, however they arrive: where they are cut depends on the time they take.
    client = NotebookClient(notebook, timeout=limit, kernel_name="python3", resources=where, coalesce_streams=True)
    client.execute()
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        cell["id"] = f"{source.stem}-{index:02d}"
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = shrink(output["data"]["image/png"])
    notebook.metadata["language_info"] = {"name": "python"}
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out / f"{source.stem}.ipynb")
    return time.perf_counter() - started


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 03; all where none is given")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--limit", type=int, default=300, help="seconds a cell")
    options = parser.parse_args(arguments)
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    sources = sorted(
        p for p in HERE.glob("[0-9][0-9]_*.py") if not options.names or p.name.startswith(tuple(options.names))
    )
    if not sources:
        parser.error(f"no notebook begins with {', '.join(options.names)}")
    total = 0.0
    for source in sources:
        seconds = execute(source, options.out, limit=options.limit)
        total += seconds
        print(f"{source.name:36s} {seconds:6.1f} s", flush=True)
    print(f"{len(sources)} notebooks, {total:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
