"""Sphinx: MyST, executed notebooks, and API pages made from the code."""

import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import api_pages

import geomalign

project = "geomalign"
author = "The geomalign authors"
copyright = "2026, the geomalign authors"
release = version = geomalign.__version__

extensions = ["myst_nb", "sphinx_proof", "sphinxcontrib.bibtex", "sphinx_copybutton", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "geomalign"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are executed, and committed, by notebooks/run.py
bibtex_bibfiles = [str(path.relative_to(HERE)) for path in sorted(HERE.rglob("*.bib")) if "_build" not in path.parts]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
python_use_unqualified_type_names = True
add_module_names = False
suppress_warnings = ["toc.empty_glob", "myst.header", "mystnb.unknown_mime_type", "config.cache"]


def make_pages(app: Any) -> None:
    """API pages and notebooks, in folders that git does not keep."""
    api_pages.write(HERE / "api")
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    names = []
    for notebook in sorted((HERE.parent / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(notebook, target / notebook.name)
        names.append(notebook.stem)
    listing = "```{toctree}\n" + "\n".join(names) + "\n```\n" if names else "`make notebooks` executes them.\n"
    page = f"# Notebooks\n\nThe first one does not import the library.\n\n{listing}"
    if not (target / "index.md").exists() or (target / "index.md").read_text(encoding="utf-8") != page:
        (target / "index.md").write_text(page, encoding="utf-8")


def copy_explorer(app: Any, error: Exception | None) -> None:
    """The explorer beside the pages, with a link back to them."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "explorer"
        shutil.copytree(HERE / "explorer", target, dirs_exist_ok=True)
        page = (target / "index.html").read_text(encoding="utf-8")
        link = '<p class="crumb"><a href="../index.html">geomalign documentation</a></p>'
        (target / "index.html").write_text(page.replace("<!-- documentation -->", link), encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", make_pages)
    app.connect("build-finished", copy_explorer)
