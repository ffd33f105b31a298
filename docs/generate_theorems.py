"""Write docs/theorems.md and docs/errata.md from the tests of tests/theory.

Every test states its theorem in its docstring, with the fields Source and Notebook; tests of errata have Claim,
Holds instead and Verdict as well. Nothing is imported: the files are parsed.

    python docs/generate_theorems.py            write both pages
    python docs/generate_theorems.py --check    fail if they are not what the tests say
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "theory"
NOTEBOOKS = ROOT / "notebooks"
FIELDS = ("Claim", "Holds instead", "Source", "Verdict", "Notebook")
MADE = "<!-- Made by docs/generate_theorems.py from the docstrings of tests/theory. Edit those. -->\n"

TITLES = {
    "test_theorems_duality": "One formula: duality",
    "test_theorems_projection": "Closed forms",
    "test_theorems_escort": "The escort family",
    "test_theorems_dynamics": "Curvature at work",
    "test_theorems_groups": "The group as an event",
}
SECTIONS = {
    1: "Saturation in the logit",
    2: "Zero targets",
    3: "One update per anchor",
    4: "Other methods, as described",
    5: "Decoupling",
    6: "Statements that need their metric",
    7: "Scale, centring, the batch mean",
    8: "The escort weight",
    9: "The log-ratio surrogate",
    10: "Constraints and entropy",
    11: "W-GOPO",
    12: "Confirmed",
}
INTRODUCTION = """# Errata

The OPO (arXiv [2601.12415](https://arxiv.org/abs/2601.12415), v1 to v5, and the author's later LaTeX), GOPO (arXiv
[2602.21269](https://arxiv.org/abs/2602.21269)) and W-GOPO (the author's LaTeX) papers are where this library's view of
alignment comes from. Every mathematical claim in them was listed and attacked numerically, over finite supports where
expectations are sums. This page lists those that do not hold as stated, each with the smallest counterexample, as a
test that fails if we are wrong, and with what does hold. Claims that survived are in the
[table of theorems](theorems.md); those tested beside the errata are on this page, too, with the verdict "confirmed".
The LaTeX files are those of 28 February 2026 in the author's public repository, `opo3.tex`, `gopo.tex` and
`wgopo.tex`: numbers of theorems, equations and figures are theirs, and so are all words in quotation marks; a claim
without them is our summary. Sentences of this documentation's own that did not hold are entries too.
`notebooks/08_errata` shows the entries at work.

"Refuted" is said of the sentence, not of the method: most of what is below leaves the algorithms untouched and changes
what may be expected of them. Measured results of the papers (rewards, gradient norms, entropies) are not judged here.
"""


def _sentence(text: str) -> str:
    """The text with a capital, unless it begins with a symbol."""
    return text[0].upper() + text[1:] if text[0].isascii() and text[1] in " abcdefghijklmnopqrstuvwxyz" else text


def _prose(text: str) -> str:
    """The text for Markdown, in which the star of u* must not begin an emphasis."""
    return re.sub(r"(?<![A-Za-z])([A-Za-zλπρφψμ])\*", r"\1\\*", text)


@dataclass(frozen=True)
class Theorem:
    """One test and what it states."""

    file: str
    test: str
    statement: str
    fields: dict[str, str]

    @property
    def title(self) -> str:
        """The test's name as a sentence."""
        words = self.test.removeprefix("test_").replace("_", " ")
        for plain, proper in _NAMES.items():
            words = re.sub(rf"\b{plain}\b", proper, words)
        return _sentence(words)

    @property
    def notebook(self) -> tuple[str, int]:
        """Its notebook's number and the section."""
        number, section = re.fullmatch(r"(\d\d) §(\d+)", self.fields["Notebook"]).groups()  # type: ignore[union-attr]
        return number, int(section)


_NAMES = {
    "w gopos": "W-GOPO's", "w gopo": "W-GOPO", "gopo": "GOPO", "opos": "OPO's",
    "opo": "OPO", "beta": "β", "dpos": "DPO's", "dpo": "DPO",
    "ipo": "IPO",
    "kl penalised": "KL-penalised", "kls": "KL's", "kl": "KL", "the links and": "the link's and",
    "fenchel young": "Fenchel–Young", "box cox": "Box–Cox",
    "chi square": "χ²", "policys": "policy's", "surrogates": "surrogate's", "the divergences": "the divergence's",
    "energys": "energy's", "mu": "μ", "alpha": "α", "inverse probability": "inverse-probability",
    "fine tuning": "fine-tuning", "self adjoint": "self-adjoint",
}  # fmt: skip


def read(path: Path) -> list[Theorem]:
    """The theorems of one file, in order."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        doc = ast.get_docstring(node)
        if doc is None:
            raise SystemExit(f"{path.name}: {node.name} has no docstring to state its theorem.")
        fields, name, lines = {}, "", []
        for line in doc.splitlines():
            start = next((f for f in FIELDS if line.startswith(f"{f}:")), None)
            if start:
                name, line = start, line[len(start) + 1 :]
            (fields.setdefault(name, []) if name else lines).append(line.strip())
        values = {k: " ".join(filter(None, v)) for k, v in fields.items()}
        theorem = Theorem(path.stem, node.name, " ".join(filter(None, lines)), values)
        needed = FIELDS if "errata" in path.stem else ("Source", "Notebook")
        missing = [f for f in needed if not theorem.fields.get(f)]
        if missing:
            raise SystemExit(f"{path.name}: {node.name} lacks {', '.join(missing)}.")
        found.append(theorem)
    return found


def sections(number: str) -> dict[int, str]:
    """The numbered headings of a notebook."""
    (source,) = NOTEBOOKS.glob(f"{number}_*.py")
    headings = re.findall(r"^# ## (\d+)\. (.+)$", source.read_text(encoding="utf-8"), re.M)
    return {int(k): title for k, title in headings}


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _where(theorem: Theorem) -> str:
    number, section = theorem.notebook
    headings = sections(number)
    if section not in headings:
        raise SystemExit(f"{theorem.file}: {theorem.test} names notebook {number} §{section}, which is not there.")
    return f"{number} §{section}"


def theorems_page(files: dict[str, list[Theorem]]) -> str:
    """The table theorem × test × notebook section."""
    count = sum(len(files[f]) for f in TITLES)
    confirmed = [t for t in files["test_errata"] if t.fields["Verdict"].startswith("confirmed")]
    out = [MADE, "# Theorems as tests\n"]
    out.append(
        f"{count} statements, each one test, by enumeration and property-based search in float64 (`tests/theory`). The "
        "last column is the notebook section on its subject. Claims that did not hold as stated are in the "
        "[errata](errata.md).\n"
    )
    for file, title in TITLES.items():
        out.append(f"## {title}\n\nTests in `tests/theory/{file}.py`.\n")
        out.append("| statement | source | test | notebook |\n|---|---|---|---|")
        for t in files[file]:
            out.append(f"| {_cell(t.statement)} | {_cell(t.fields['Source'])} | `{t.test}` | {_where(t)} |")
        out.append("")
    out.append("## Confirmed claims\n\nTests in `tests/theory/test_errata.py`.\n")
    out.append("| statement | source | test | notebook |\n|---|---|---|---|")
    for t in confirmed:
        out.append(f"| {_cell(t.fields['Claim'])} | {_cell(t.fields['Source'])} | `{t.test}` | {_where(t)} |")
    return "\n".join(out) + "\n"


def errata_page(entries: list[Theorem]) -> str:
    """Every entry in prose, by section of notebook 08."""
    refuted = sum(not t.fields["Verdict"].startswith("confirmed") for t in entries)
    out = [MADE, INTRODUCTION]
    out.append(f"{refuted} entries refuted as stated, {len(entries) - refuted} confirmed.\n")
    for section, title in SECTIONS.items():
        here = [t for t in entries if t.notebook[1] == section]
        if not here:
            continue
        out.append(f"## {section}. {title}\n")
        for t in here:
            _where(t)
            holds = t.fields["Holds instead"]
            out.append(f"### {t.title}\n")
            out.append(f"**Claim.** {_prose(_sentence(t.fields['Claim']))}\n")
            if holds != "—":
                out.append(f"**What holds.** {_prose(_sentence(holds))}\n")
            out.append(f"*Source: {t.fields['Source']}. Verdict: {t.fields['Verdict']}. Test: `{t.test}`.*\n")
    return "\n".join(out)


def pages() -> dict[Path, str]:
    """Both pages as the tests state them."""
    files = {p.stem: read(p) for p in sorted(TESTS.glob("test_*.py")) if p.stem != "test_documents"}
    unknown = set(files) - set(TITLES) - {"test_errata"}
    if unknown:
        raise SystemExit(f"no title for {', '.join(sorted(unknown))}; add one to TITLES.")
    return {
        ROOT / "docs" / "theorems.md": theorems_page(files),
        ROOT / "docs" / "errata.md": errata_page(files["test_errata"]),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python docs/generate_theorems.py")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
