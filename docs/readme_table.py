"""The table of recipes in README.md, made from the recipes: `python docs/readme_table.py` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from geomalign import recipes
from geomalign._util.words import short
from geomalign.objective import SLOTS

README = Path(__file__).parent.parent / "README.md"
NAMES = (
    "reinforce", "rloo", "ppo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "gopo", "opo", "mirror_descent",
    "dpo", "ipo", "simpo", "slic", "chi_po",
)  # fmt: skip


def table() -> str:
    """The table in Markdown."""
    lines = ["| recipe | " + " | ".join(SLOTS) + " | decoupled |", "|---" * (len(SLOTS) + 2) + "|"]
    for name in NAMES:
        objective = recipes.get(name)
        cells = [f"`{short(getattr(objective.terms[0][1], slot))}`" for slot in SLOTS]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {'yes' if objective.decoupled else 'no'} |")
    return "\n".join(lines)


def written(text: str) -> str:
    """README.md with the table in its place."""
    place = re.compile(r"<!-- recipes -->\n(\n\|.*?\n(?=\n))?", re.DOTALL)
    return place.sub(lambda _: f"<!-- recipes -->\n\n{table()}\n", text, count=1)


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
