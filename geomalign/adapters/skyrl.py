"""SkyRL: a policy loss and an advantage estimator in its two registries.

```python
from geomalign.adapters import skyrl

cfg = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
skyrl.register(cfg, "opo alpha=0.4 mu=1.0")  # before validate_cfg and initialize_ray, which send it to the workers
```

The sampling geometry makes the drive in SkyRL's driver, where groups are whole. SkyRL then multiplies the advantages
with the weights of its reduction (`trainer.algorithm.loss_reduction`) and expects a loss that is a sum. That is exact
where the gradient is proportional to the drive (PPO, GRPO, GSPO, …). A potential that resists by itself (OPO, mirror
descent, …) needs the weights too: they are divided out where the configuration says what they are, and refused where
SkyRL alone knows them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.measure import FixedBudget
from geomalign.objective import BaseObjective

__all__ = ["GeometryAdvantage", "GeometryLoss", "configuration", "homogeneous", "register"]

_OF_ONE_ROW = ("sequence_mean", "seq_mean_token_sum_norm")
"""Reductions whose weights follow from the row and the configuration; of the others they need the whole batch."""

_SCALED = ("/drive_mean", "/drive_std", "/force")


def homogeneous(objective: BaseObjective) -> bool:
    """Whether c times the drive has c times the gradient, c > 0: then weights may be folded into the advantages.

    True of surrogates, whose every part pulls in proportion to the drive; false as soon as a potential resists by
    itself. It is tried on random numbers, in float64.

    Args:
        objective: of single responses, without a term from the reference.

    >>> from geomalign import recipes
    >>> homogeneous(recipes.get("ppo")), homogeneous(recipes.get("opo"))
    (True, False)
    """
    random = torch.Generator().manual_seed(0)
    policy, old, engine, advantages = torch.randn(4, 16, 5, generator=random, dtype=torch.float64)
    gradients = []
    for factor in (1.0, 2.0**-6):  # a power of two, which rounds nothing
        leaf = (0.3 * policy - 2).requires_grad_()
        batch = Batch(leaf, 0.3 * old - 2, behavior=0.3 * engine - 2)
        loss = hosted.evaluate(objective, batch, factor * advantages[:, 0], torch.ones_like(leaf)).loss
        gradients.append(torch.autograd.grad(loss, leaf)[0] / factor)
    return torch.allclose(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


@dataclasses.dataclass(frozen=True)
class GeometryLoss:
    """An objective as SkyRL's policy loss: a sum over tokens, whose advantages carry the weights of the reduction.

    Args:
        objective: of single responses, without a term from the reference.
        reduction: SkyRL's `loss_reduction`.
        rows: responses in a mini-batch, > 0; None where it varies (step-wise training).
        length: SkyRL's `max_seq_len`, of the reduction `seq_mean_token_sum_norm`.

    Raises:
        ValueError: the objective compares pairs or measures from the reference; or its potential resists by itself and
            the weights of the reduction are not known to a loss.

    >>> from geomalign import recipes
    >>> GeometryLoss(recipes.get("opo"), "sequence_mean", rows=2).known
    True
    >>> GeometryLoss(recipes.get("opo"), "token_mean", rows=2)
    Traceback (most recent call last):
    ...
    ValueError: SkyRL multiplies the advantages with the weights of loss_reduction 'token_mean', which a loss ...
    """

    objective: BaseObjective
    reduction: str
    rows: int | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        hosted.note(self.objective, "SkyRL", reference=False)
        if not self.known and not homogeneous(self.objective):
            way = (
                "train without step_wise_trajectories, which makes the number of rows vary"
                if self.reduction in _OF_ONE_ROW
                else f"set trainer.algorithm.loss_reduction to {' or '.join(_OF_ONE_ROW)}"
            )
            raise ValueError(
                f"SkyRL multiplies the advantages with the weights of loss_reduction {self.reduction!r}, which a loss "
                "cannot divide out, and the gradient of this objective is not proportional to them: its potential "
                f"would be weighted otherwise than its drive. Remedy: {way}."
            )

    @property
    def known(self) -> bool:
        """Whether the weights of the reduction follow from a row and the configuration."""
        missing = self.reduction == "seq_mean_token_sum_norm" and self.length is None
        return self.rows is not None and self.reduction in _OF_ONE_ROW and not missing

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        config: Any = None,
        loss_mask: Tensor | None = None,
        rollout_logprobs: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """SkyRL's call: `(row, token)` each, of a micro-batch → the sum, and metrics as numbers."""
        batch = Batch(log_probs, old_log_probs, loss_mask, behavior=rollout_logprobs)
        scale = advantages.new_ones(())
        if self.rows is not None and self.known:
            lengths = batch.support.sum(-1, keepdim=True).clamp(min=1)
            if self.length is not None and self.reduction == "seq_mean_token_sum_norm":
                lengths = torch.full_like(lengths, self.length)
            scale = scale / (self.rows * lengths)
        outcome = hosted.evaluate(self.objective, batch, advantages / scale, batch.support * scale)
        # SkyRL averages what micro-batches report: what need not be finite is left out, as where a host adds up.
        seen = hosted.host_metrics(outcome, advantages.new_ones(()))
        if not self.known:  # drives are then in units of the unknown weights
            seen = {name: value for name, value in seen.items() if not name.endswith(_SCALED)}
        return outcome.loss, hosted.numbers(seen | {"clip_ratio": hosted.clip_fraction(seen)})


@dataclasses.dataclass(frozen=True)
class GeometryAdvantage:
    """An objective's sampling geometry as SkyRL's advantage estimator.

    In step-wise training SkyRL passes the last steps, with masks of ones, and gives every step its trajectory's value:
    a drive that depends on lengths then sees equal ones.

    Args:
        objective: whose terms have one drive.

    >>> import torch
    >>> from geomalign import recipes
    >>> estimate = GeometryAdvantage(recipes.get("grpo scale_rewards=none"))
    >>> advantages, returns = estimate(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2), ["a", "a"])
    >>> advantages
    tensor([[ 0.5000,  0.5000],
            [-0.5000, -0.5000]])
    """

    objective: BaseObjective

    def __call__(
        self, token_level_rewards: Tensor, response_mask: Tensor, index: Any, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """SkyRL's call: rewards and mask `(row, token)`, the prompts' names `(row,)` → advantages and returns."""
        rows = hosted.outcomes(token_level_rewards, response_mask, index)
        drive = hosted.drive_of(self.objective, rows)
        drive = torch.where(rows.support, drive if drive.ndim == 2 else drive[:, None], 0)
        return drive, drive


def register(cfg: Any, objective: BaseObjective | str = "opo", *, estimator: bool = True) -> str:
    """Put an objective into SkyRL's registries and select it in its configuration.

    Call it before `validate_cfg` and `initialize_ray`: SkyRL sends to its workers what is registered by then.

    Args:
        cfg: SkyRL's `SkyRLTrainConfig`; `trainer.algorithm.policy_loss_type` and `advantage_estimator` are set.
        objective: it, or its description in one line.
        estimator: whether its sampling geometry makes the advantages; False: SkyRL's own are the drive.

    Returns:
        The name under which the two are registered, and which the configuration now has.

    Raises:
        ValueError: what `recipes.get` or `GeometryLoss` raise; an off-policy correction, which weighs SkyRL's own
            token losses; terms with different drives, or advantages normalised over the batch, with `estimator=True`.

    ```py
    register(cfg, "opo alpha=0.4 mu=1")  # returns "geomalign/opo"
    ```
    """
    from skyrl.backends.skyrl_train.utils.off_policy_correction_utils import off_policy_correction_enabled
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry, PolicyLossRegistry

    algorithm, generator = cfg.trainer.algorithm, cfg.generator
    chosen = hosted.objective_of(objective)
    if off_policy_correction_enabled(algorithm.off_policy_correction) or algorithm.use_tis:
        raise ValueError(
            "trainer.algorithm.off_policy_correction weighs SkyRL's own token losses, which the objective replaces: "
            "leave it out, or weigh the drive with ga.TruncatedImportance."
        )
    if estimator and algorithm.advantage_batch_normalize:
        raise ValueError("trainer.algorithm.advantage_batch_normalize would change the drive: set it to false.")
    if estimator and len({term.sampling for term in chosen.driven_terms}) > 1:
        raise ValueError("the terms of this objective have different drives, and SkyRL passes one: estimator=False.")
    rows = (
        None
        if generator.step_wise_trajectories
        else cfg.trainer.policy_mini_batch_size * generator.n_samples_per_prompt
    )
    loss = GeometryLoss(chosen, algorithm.loss_reduction, rows, algorithm.max_seq_len)
    name = "geomalign/" + (objective.split()[0] if isinstance(objective, str) else "objective")
    made = [(PolicyLossRegistry, loss)] + (
        [(AdvantageEstimatorRegistry, GeometryAdvantage(chosen))] if estimator else []
    )
    for registry, function in made:
        if name in registry.list_available():
            registry.unregister(name)
        registry.register(name, function)
    algorithm.policy_loss_type = name
    if estimator:
        algorithm.advantage_estimator = name
    return name


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The script with which SkyRL trains an objective; its arguments are SkyRL's own.

    >>> from geomalign import recipes
    >>> print(*(line.strip() for line in configuration("opo", recipes.get("opo"), {}).splitlines()[-5:-3]), sep="\\n")
    cfg.trainer.algorithm.loss_reduction = "sequence_mean"
    skyrl.register(cfg, "opo")
    """
    note = hosted.note(objective, "SkyRL", reference=False)
    ours = len({term.sampling for term in objective.driven_terms}) == 1
    unit, measure = objective.terms[0][1].unit, objective.terms[0][1].measure
    reduction, length = "sequence_mean", []
    if isinstance(measure, FixedBudget) and unit.per_token:
        reduction, length = "seq_mean_token_sum_norm", [f"    cfg.trainer.algorithm.max_seq_len = {measure.length:g}"]
    elif hosted.pooled(objective) and homogeneous(objective):
        reduction = "token_mean"
    line = json.dumps(hosted.in_one_line(name, hyperparameters))
    lines = [
        *([] if ours else [note]),
        "# SkyRL: python THIS.py data.train_data=… trainer.policy.model.path=… (overrides as for its main_base)",
        "import sys",
        "",
        "import ray",
        "from skyrl.train.config import SkyRLTrainConfig",
        "from skyrl.train.entrypoints.main_base import skyrl_entrypoint, validate_cfg",
        "from skyrl.train.utils import initialize_ray",
        "",
        "from geomalign.adapters import skyrl",
        "",
        'if __name__ == "__main__":',
        "    cfg = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])",
        f'    cfg.trainer.algorithm.loss_reduction = "{reduction}"',
        *length,
        f"    skyrl.register(cfg, {line}{'' if ours else ', estimator=False'})",
        "    validate_cfg(cfg)",
        "    initialize_ray(cfg)",
        "    ray.get(skyrl_entrypoint.remote(cfg))",
    ]
    return "\n".join(lines) + "\n"
