"""Figures show what they claim: checked on the drawn data, not on the picture."""

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geomalign as ga
from geomalign import plotting
from geomalign.analysis.identification import as_loss, identify
from geomalign.plotting import field, identified, panels, potential, tiles


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved during a test."""
    kept: list[Any] = []
    save = plotting.save

    def keep(figure: Any, path: Path, **options: Any) -> Path:
        kept.append(figure)
        return save(figure, path, **options)

    for module in (field, identified, panels, potential, tiles):
        monkeypatch.setattr(module, "save", keep)
    return kept


def axes_of(figure: Any) -> list[Any]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def kinds() -> list[str]:
    """One recipe for every combination of a unit, a chart and an optimization geometry."""
    found: dict[tuple[type, ...], str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        for name in ga.recipes.names():
            for _, term in ga.recipes.get(name).terms:
                found.setdefault((type(term.unit), type(term.chart), type(term.optimization)), name)
    return sorted(set(found.values()))


@pytest.mark.parametrize("name", kinds())
def test_gradient_field_of_every_kind_of_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is drawn is finite, or NaN by design; without rendering, which is what takes the time."""
    kept: list[Any] = []
    monkeypatch.setattr(field, "save", lambda figure, path, **options: kept.append(figure))
    monkeypatch.setattr("matplotlib.figure.Figure.draw_without_rendering", lambda self: None)
    plotting.gradient_field(ga.recipes.get(name), tmp_path / "field.png")
    assert len(axes_of(kept[0])) == 3 * len(ga.recipes.get(name).terms)
    for axis in axes_of(kept[0]):
        for line in axis.get_lines():
            assert np.isfinite(line.get_ydata()).all()


@pytest.mark.parametrize("name", ["grpo", "dpo"])
def test_a_gradient_field_is_a_picture(name: str, tmp_path: Path) -> None:
    path = plotting.gradient_field(ga.recipes.get(name), tmp_path / "field.png", title=name)
    assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10_000


@pytest.mark.parametrize("name", ["opo", "grpo", "gopo", "chi_po", "reinforce"])
def test_push_is_minus_the_gradient_of_the_loss(name: str, tmp_path: Path, figures: list[Any]) -> None:
    """The left panel against autograd of the objective itself, event by event."""
    objective = ga.recipes.get(name)
    plotting.gradient_field(objective, tmp_path / "field.png")
    (line, *_) = axes_of(figures[0])[0].get_lines()
    x = torch.tensor(line.get_xdata())[::20].clone().requires_grad_()
    term = objective.terms[0][1]
    drive = torch.full_like(x, term.sampling.drive_range.low if term.unit.paired else -1.0)
    u = x if term.unit.paired else term.chart(x)
    (gradient,) = torch.autograd.grad(term.optimization.energy(u, drive).sum(), x)
    np.testing.assert_allclose(line.get_ydata()[::20], -gradient.numpy(), rtol=1e-9, atol=1e-12)


def test_every_term_of_a_sum_has_its_row(tmp_path: Path, figures: list[Any]) -> None:
    plotting.gradient_field(ga.recipes.get("grpo", beta=0.04), tmp_path / "field.png")
    drawn = axes_of(figures[0])
    assert len(drawn) == 6 and drawn[3].get_title(loc="left").endswith("times 0.04")


def test_window_follows_the_geometry(tmp_path: Path, figures: list[Any]) -> None:
    """GSPO's walls stand at a few times 1e-4: a window of 1.5 nats would hide them."""
    plotting.gradient_field(ga.recipes.get("gspo"), tmp_path / "gspo.png")
    assert axes_of(figures[0])[0].get_xlim()[1] < 2e-3
    with pytest.raises(ValueError, match="positive"):
        plotting.gradient_field(ga.recipes.get("gspo"), tmp_path / "gspo.png", reach=0.0)


def test_potentials_are_drawn_with_their_derivatives_and_conjugates(tmp_path: Path, figures: list[Any]) -> None:
    """The middle panel is the derivative of the left one, the right one its conjugate by a search over u."""
    members = {
        "χ²": ga.ChiSquare(0.7),
        "KL": ga.KL(1.3),
        "DPO": ga.Logistic(2.0),
        "LPO": ga.optimization.GroupPotential(),
    }
    plotting.potentials(members, tmp_path / "potentials.png", drive=0.4, title="four")
    cost, force, gain = ([line for line in axis.get_lines() if len(line.get_xdata()) > 2] for axis in figures[0].axes)
    assert len(cost) == len(members)
    for left, middle, right in zip(cost, force, gain, strict=True):
        u, value = left.get_xdata(), left.get_ydata()
        slope = np.gradient(value, u)
        np.testing.assert_allclose(middle.get_ydata()[5:-5], slope[5:-5], rtol=2e-2, atol=1e-3)
        g, drawn = right.get_xdata(), right.get_ydata()
        searched = (g[:, None] * u - value).max(1)
        inside = np.isfinite(drawn) & (g > slope[5:-5].min()) & (g < slope[5:-5].max())
        assert inside.sum() > 100
        np.testing.assert_allclose(drawn[inside], searched[inside], atol=2e-3)


def test_potentials_refuse_what_has_no_one_curve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains the drive"):
        plotting.potentials({"clip": ga.Clip()}, tmp_path / "p.png")
    with pytest.raises(ValueError, match="0 geometries"):
        plotting.potentials({}, tmp_path / "p.png")
    with pytest.raises(ValueError, match="positive"):
        plotting.potentials({"χ²": ga.ChiSquare()}, tmp_path / "p.png", reach=-1.0)


def test_identification_is_drawn_with_its_chart(tmp_path: Path, figures: list[Any]) -> None:
    found = identify(as_loss(ga.recipes.get("grpo")))
    plotting.identification(found, tmp_path / "identified.png", title="grpo")
    chart = axes_of(figures[0])[1].get_lines()[-1]
    np.testing.assert_allclose(chart.get_ydata(), np.expm1(chart.get_xdata()), atol=1e-6)
    assert "coupled" in axes_of(figures[0])[2].get_title(loc="left")


def test_the_periodic_table_names_every_recipe_inside_its_tile(tmp_path: Path, figures: list[Any]) -> None:
    plotting.periodic_table(tmp_path / "table.png")
    axis, renderer = figures[0].axes[0], figures[0].canvas.get_renderer()
    texts = {text.get_text().replace("\n", ""): text for text in axis.texts}
    assert set(ga.recipes.names()) <= set(texts)
    tiles = [patch.get_window_extent(renderer) for patch in axis.patches]
    for name in ga.recipes.names():
        box = texts[name].get_window_extent(renderer)
        assert any(t.x0 <= box.x0 and box.x1 <= t.x1 and t.y0 <= box.y0 and box.y1 <= t.y1 for t in tiles), name


def test_labels_do_not_overlap_and_keep_their_order() -> None:
    places = plotting.spread([0.5, 0.51, 0.505, 0.9, 0.0], 0.1, 0.0, 1.0)
    order = sorted(places)
    assert min(b - a for a, b in itertools.pairwise(order)) > 0.1 - 1e-9
    assert [places.index(p) for p in order] == [4, 0, 2, 1, 3]
    assert order[0] >= 0 and order[-1] <= 1


def test_intervals_and_seeds_of_the_main_figure(tmp_path: Path, figures: list[Any]) -> None:
    data = {("a", "1e-4", 0): (0.5, 0.2, np.array([0.4, 0.6])), ("b", "1e-4", 0): (0.9, math.nan, np.array([0.9]))}
    plotting.step_sizes(tmp_path / "main.png", ["a", "b"], ["1e-4"], [("trained", 0.06)], data)
    axis = axes_of(figures[0])[0]
    (bar,) = [c for c in axis.collections if hasattr(c, "get_segments")]
    assert np.allclose(bar.get_segments()[0][:, 1], [0.3, 0.7])
    hollow = [line for line in axis.get_lines() if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow] == [[0.4, 0.6]]
    assert "6%" in axis.get_title(loc="left")


def test_colours_are_distinct() -> None:
    looks = plotting.looks(list("abcdefg"))
    assert len({look["color"] for look in looks.values()}) == 7 == len({look["marker"] for look in looks.values()})


@pytest.mark.parametrize("high", [1.3, 2.5, 20.0, 1e4])
def test_a_logarithmic_axis_has_ticks_to_read_it_by(high: float) -> None:
    from geomalign.plotting.panels import _log_axis
    from geomalign.plotting.style import canvas

    with canvas(1, 1, panel=(4.6, 2.25)) as (_, axes):
        axes[0, 0].plot([0, 1], [0.93, high])
        _log_axis(axes[0, 0])
        low, top = axes[0, 0].get_ylim()
        assert sum(low <= tick <= top for tick in axes[0, 0].get_yticks()) >= 3
