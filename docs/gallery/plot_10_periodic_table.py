"""
The recipes, by what pulls and what resists
===========================================

Which combinations of parts have been published, and which have not? Rows say what pulls and columns what resists,
in the first term of a recipe. The number is that of the recipes in a cell, and below it are the first of them by
name. An empty cell is a combination that nobody has published or that this library does not have.

The `interactive table <../periodic-table/index.html>`_ shows every recipe with its formula, its parts and its
source, and filters by slot.
"""

import textwrap

import matplotlib.pyplot as plt
import torch

from geomalign.plotting import STYLE
from geomalign.recipes.catalogue import PULLS, RESISTS, periodic_table

plt.rcParams.update(STYLE)

cells = periodic_table()
names = [[[tile.name for tile in cells.get((row, column), [])] for column in RESISTS] for row in PULLS]
counts = torch.tensor([[len(cell) for cell in row] for row in names])
figure, axis = plt.subplots(figsize=(11, 7), layout="constrained")
axis.imshow(torch.where(counts > 0, counts, torch.nan).log1p().numpy(), cmap="Blues", vmax=5.5, aspect="auto")
for i, row in enumerate(names):
    for j, cell in enumerate(row):
        if cell:
            axis.annotate(str(len(cell)), (j, i - 0.25), ha="center", va="center", fontsize=13, weight="bold")
            few = ", ".join(cell[:4]) + (", …" if len(cell) > 4 else "")
            axis.annotate("\n".join(textwrap.wrap(few, 24)), (j, i + 0.12), ha="center", va="center", fontsize=7.5)
axis.set_xticks(range(len(RESISTS)), ["\n".join(textwrap.wrap(name, 14)) for name in RESISTS])
axis.set_yticks(range(len(PULLS)), ["\n".join(textwrap.wrap(name, 16)) for name in PULLS])
axis.set(xlabel="what resists (optimization geometry)", ylabel="what pulls (sampling geometry)")
axis.set_title(f"{int(counts.sum())} recipes")
axis.grid(False)
plt.show()
