"""The formula of a recipe in the symbols of its paper, where its objective prints their values."""

from __future__ import annotations

import contextlib
import typing
import warnings
from typing import Any

from geomalign._util.symbol import Symbol
from geomalign.objective import UnboundedLossWarning
from geomalign.recipes import lookup

__all__ = ["formula"]

_SYMBOLS: dict[str, str] = {
    "beta1": r"\beta_1",
    "beta2": r"\beta_2",
    "beta_reward": r"\beta_r",
    "cap": "c",
    "delta": r"\delta",
    "desirable": r"\lambda_D",
    "dual_clip": "c",
    "epsilon": r"\varepsilon",
    "epsilon_high": r"\varepsilon_{\mathrm{high}}",
    "label_smoothing": r"\varepsilon",
    "lambda_": r"\lambda",
    "length": "L",
    "preference": r"\lambda",
    "reference_point": "z_0",
    "scale": "c",
    "spread": "r",
    "tau_negative": r"\tau_-",
    "tau_positive": r"\tau_+",
    "temperature": "T",
    "undesirable": r"\lambda_U",
    **{name: rf"\{name}" for name in ("alpha", "beta", "eta", "gamma", "mu", "tau")},
}
"""How a hyper-parameter is written; one that is not here is written by its name."""

_NUMBERS = {"std_epsilon"}
"""Hyper-parameters that keep a division finite, which papers do not write."""


def formula(name: str, /, **hyperparameters: Any) -> str:
    r"""The LaTeX of a recipe with symbols in the place of its numbers that are not zero; of what is no recipe of this
    library, with the numbers.

    Args:
        name: as of `get`.
        hyperparameters: the recipe's own; where one is zero or None, its part of the formula is left out.

    >>> formula("opo").split(r"\quad ")[0]
    '\\mathcal{L}(\\theta)=\\frac{1}{N}\\sum_i\\left[\\frac{\\mu}{2}u_i^2-g_i\\,u_i\\right],'
    """
    values = dict(hyperparameters)
    for key, parameter in lookup.parameters(name).items() if name in lookup.names() else ():
        value = values.get(key, parameter.default)
        with contextlib.suppress(TypeError, ValueError):
            value = float(value) if not isinstance(value, bool) else None
        kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
        if float in kinds and isinstance(value, float) and value and key not in _NUMBERS:
            values[key] = Symbol(value, _SYMBOLS.get(key, rf"\mathrm{{{key}}}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnboundedLossWarning)
        return lookup.get(name, **values).latex()
