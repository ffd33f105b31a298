"""Sphinx: MyST, executed notebooks, API pages made from the code, formulas set without a network."""

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

extensions = [
    "myst_nb",
    "sphinx_proof",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "katex_math",
    "sphinx_gallery.gen_gallery",
]
# The gallery's pages are in auto_gallery, beside its programs as notebooks to download, which are no pages.
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "gallery", "auto_gallery/*.ipynb"]
html_theme = "furo"
html_title = "geomalign"
smartquotes = False  # they make an apostrophe of the prime of φ'(u)
html_static_path = ["_static"]
html_math_renderer = "katex"
html_copy_source = False

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are executed, and committed, by notebooks/run.py
# The programs of docs/gallery are run by every build, and one that fails fails the build.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
}
default_role = "code"  # single back-ticks are code in the gallery's texts, too
bibtex_bibfiles = [str(path.relative_to(HERE)) for path in sorted(HERE.rglob("*.bib")) if "_build" not in path.parts]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
python_use_unqualified_type_names = True
add_module_names = False
nitpicky = True  # a reference that leads nowhere is a warning, and `make docs` makes warnings errors
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
    about = "Each one answers a question. The first takes ten minutes and needs no prior reading."
    page = f"# Notebooks\n\n{about}\n\n{listing}"
    if not (target / "index.md").exists() or (target / "index.md").read_text(encoding="utf-8") != page:
        (target / "index.md").write_text(page, encoding="utf-8")


def copy_standalone(app: Any, error: Exception | None) -> None:
    """The pages that stand alone, beside the others, with a link back to them."""
    if error is not None or app.builder.format != "html":
        return
    for name in ("explorer", "periodic-table"):
        target = Path(app.outdir) / name
        shutil.copytree(HERE / name, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("template.html"))
        page = (target / "index.html").read_text(encoding="utf-8")
        link = '<p class="crumb"><a href="../index.html">geomalign documentation</a></p>'
        (target / "index.html").write_text(page.replace("<!-- documentation -->", link), encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", make_pages)
    app.connect("build-finished", copy_standalone)
