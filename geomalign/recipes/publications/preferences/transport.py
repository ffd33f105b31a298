"""The publications of the recipes of `recipes/preferences/transport.py`."""

from __future__ import annotations

from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

PUBLICATIONS: dict[str, Reference] = {
    "aot": Reference(
        title="Distributional Preference Alignment of LLMs via Optimal Transport",
        authors="Melnyk, Igor and others",
        year=2024,
        arxiv="2406.05882",
        equation="the paired loss",
        loss="−(1/P) Σ_k log σ(β(m_(k) − m^ref_(k))), m = log π(y⁺) − log π(y⁻), both sorted over the batch",
        conventions=("the batch is the sample: ranks are taken within it",),
        departures=(
            ("TRL 1.16", "`aot`, as published, with label smoothing; sorts within a process, not over all of them"),
        ),
    ),
    "aot_unpaired": Reference(
        title="Distributional Preference Alignment of LLMs via Optimal Transport",
        authors="Melnyk, Igor and others",
        year=2024,
        arxiv="2406.05882",
        equation="the unpaired loss",
        loss="−(1/P) Σ_k log σ(β(Δ⁺_(k) − Δ⁻_(k))), chosen and rejected log-ratios each sorted over the batch",
        conventions=("chosen and rejected need not belong to one prompt",),
        departures=(("TRL 1.16", "`aot_unpaired`, as published, with label smoothing"),),
    ),
}
"""Each recipe of that file has its entry, by its name."""
