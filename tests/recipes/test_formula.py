"""The formulas that recipes print: one for every objective, in the papers' symbols."""

from __future__ import annotations

import inspect
import re
import typing
import warnings

import pytest

import geomalign as ga
from geomalign._util.symbol import Symbol
from geomalign.recipes import lookup, symbolic
from geomalign.recipes.symbolic import formula

VARIANTS = [f"f_dpo divergence={name}" for name in ("reverse_kl", "js", "hellinger", "chi2", "alpha alpha=0.3")]
EVERY = [
    *ga.recipes.names(),
    *VARIANTS,
    "opo form=ratio",
    "grpo beta=0.04",
    "ppo dual_clip=3",
    "generalized_jsd beta=0.2",
]
# Hyper-parameters that a recipe has no use for at the defaults of its others, or writes by another name.
UNWRITTEN = {"f_dpo": {"alpha"}, "opo_trust_region": {"temperature"}, "sapo": {"tau_positive", "tau_negative"}}


def plain(name: str) -> ga.BaseObjective:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        return ga.recipes.get(name)


def test_objectives_that_differ_print_different_formulas() -> None:
    """χPO and f-DPO under any divergence too: ψ' is written out."""
    printed: dict[str, ga.BaseObjective] = {}
    for name in EVERY:
        objective = plain(name)
        text = objective.latex()
        assert printed.setdefault(text, objective) == objective, f"{name} prints what another objective prints: {text}"
    penalties = [
        ga.FDivergence(d).latex("u", "g") for d in (ga.JensenShannon(), ga.CressieRead(1.5), ga.CressieRead(3.0))
    ]
    assert len(set(penalties)) == 3


@pytest.mark.parametrize("name", EVERY)
def test_a_ratio_is_not_written_as_the_exponential_of_a_logarithm(name: str) -> None:
    text = plain(name).latex()
    for logarithm in (r"\log", r"\frac{1}{|y_i|}\log"):
        assert rf"\exp\left({logarithm}" not in text and f"e^{{{logarithm}" not in text
    assert r"\psi'" not in text


@pytest.mark.parametrize("name", ga.recipes.names())
def test_the_symbols_of_a_recipe_stand_where_its_numbers_do(name: str) -> None:
    text = formula(name)
    assert text.count("{") == text.count("}") and text.count(r"\left") == text.count(r"\right")
    assert not re.search(r"\\(alpha|beta|eta|gamma|mu|tau)[A-Za-z]", text), "a command of LaTeX runs into a letter"
    for key, parameter in lookup.parameters(name).items():
        kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
        numeric = float in kinds and isinstance(parameter.default, (int, float)) and parameter.default
        if numeric and key not in symbolic._NUMBERS | UNWRITTEN.get(name, set()):
            assert symbolic._SYMBOLS.get(key, key) in text, f"{key} is not in {text}"


def test_numbers_are_printed_where_there_are_no_symbols() -> None:
    assert formula("ipo", tau=0.5).endswith(r"g_i=\tfrac{1}{\tau}") and ga.recipes.ipo(0.5).latex().endswith("g_i=2")
    assert r"\beta\,\mathcal{L}_{2}" in formula("grpo", beta="0.04") and r"\beta" not in formula("grpo", beta=0)
    assert formula("geomalign.recipes:opo") == ga.recipes.opo().latex()
    assert r"\log\frac{1-\varepsilon}{\varepsilon}" in formula("exo")


def test_symbols_compute_and_equal_no_number() -> None:
    a, b = Symbol(2.0, "a"), Symbol(4.0, "b")
    for made, value, text in (
        (a + b, 6.0, r"\left(a+b\right)"),
        (1 - a, -1.0, r"\left(1-a\right)"),
        (3 * a / b, 1.5, r"\tfrac{3\,a}{b}"),
        (-a, -2.0, "-a"),
        (a * 1.0, 2.0, "a"),
        (a - 0, 2.0, "a"),
    ):
        assert (float(made), f"{made:g}") == (value, text)
    assert a != 2.0 and a == Symbol(2.0, "a") and len({a, Symbol(2.0, "a"), b}) == 2
    assert 0 * a == 0 and 0 / a == 0
    with pytest.raises(TypeError):
        a + "text"  # type: ignore[operator]
    assert inspect.isclass(Symbol) and repr(a) == "Symbol(2.0, 'a')"
