"""Recipes with the constants of TRL's `GRPOConfig` instead of those of the papers, by name:

```py
trainer = GeometryGRPOTrainer(…, objective="geomalign.adapters.trl.constants:grpo beta=0.04")
```

TRL adds 1e-4 to the standard deviation of a group's rewards, where the recipes add 1e-6, and its upper clip range
`epsilon_high` is `epsilon` unless it is set, where DAPO's paper has 0.28 and GSPO's has 3e-4 and 4e-4. A group whose
rewards have a standard deviation of 0.01 is pulled by 1 % less in TRL. The recipes here train TRL's weights.
"""

from __future__ import annotations

from geomalign import recipes
from geomalign.objective import BaseObjective

__all__ = ["EPSILON", "STD_EPSILON", "dapo", "grpo", "gspo", "sapo"]

#: TRL's clip range on both sides, `GRPOConfig.epsilon`.
EPSILON = 0.2
#: What TRL adds to the standard deviation of a group's rewards.
STD_EPSILON = 1e-4


def grpo(
    epsilon: float = EPSILON, epsilon_high: float | None = None, *, beta: float = 0.0, scale_rewards: str = "group"
) -> BaseObjective:
    """`recipes.grpo` with TRL's constants: `loss_type="grpo"`.

    Args: as of `geomalign.recipes.grpo`. TRL weighs the KL penalty of `beta` by the ratio, too, unless
        `use_bias_correction_kl=False`.

    >>> grpo().sampling.epsilon
    0.0001
    """
    return recipes.grpo(epsilon, epsilon_high, beta=beta, scale_rewards=scale_rewards, std_epsilon=STD_EPSILON)


def dapo(epsilon: float = EPSILON, epsilon_high: float | None = None) -> BaseObjective:
    """`recipes.dapo` with TRL's constants: `loss_type="dapo"`, TRL's default.

    Args: as of `geomalign.recipes.dapo`; `epsilon_high` is `epsilon` unless it is given.

    >>> dapo().optimization
    Clip(low=0.2, high=0.2, dual=None)
    """
    return recipes.dapo(epsilon, epsilon if epsilon_high is None else epsilon_high, std_epsilon=STD_EPSILON)


def gspo(epsilon: float = EPSILON, epsilon_high: float | None = None) -> BaseObjective:
    """`recipes.gspo` with TRL's constants: `loss_type="grpo", importance_sampling_level="sequence"`.

    Args: as of `geomalign.recipes.gspo`; `epsilon_high` is `epsilon` unless it is given.

    >>> gspo(3e-4, 4e-4) == recipes.gspo(std_epsilon=STD_EPSILON)
    True
    """
    return recipes.gspo(epsilon, epsilon if epsilon_high is None else epsilon_high, std_epsilon=STD_EPSILON)


def sapo(tau_positive: float = 1.0, tau_negative: float = 1.05) -> BaseObjective:
    """`recipes.sapo` with TRL's constants: `loss_type="sapo"`.

    Args: as of `geomalign.recipes.sapo`.

    >>> sapo().sampling == grpo().sampling
    True
    """
    return recipes.sapo(tau_positive, tau_negative, std_epsilon=STD_EPSILON)
