"""AReaL: the losses of `areal.utils.functional`."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, excerpt, padded

__all__ = ["AReaL"]


class AReaL(ReferenceImplementation):
    """AReaL's loss functions, without the inference engines that its package imports."""

    name = "areal"
    package = "areal"

    def loss(self, method: str, **options: Any) -> Loss:
        """`method`: "ppo_actor" or "sapo". `cap` of the former: tokens above this ratio to the engine are masked."""
        functions = _functions()

        def ppo_actor(batch: Batch, cap: float | None = None, **settings: Any) -> Tensor:
            assert batch.old is not None and batch.behavior is not None
            upper = torch.inf if cap is None else cap
            wanted = SimpleNamespace(metric="ratio", level="token", action="mask", agg="mean", lower=None, upper=upper)
            return functions["ppo_actor_loss_fn"](
                logprobs=padded(batch.policy, batch.support),
                proximal_logprobs=padded(batch.old, batch.support),
                old_logprobs=padded(batch.behavior, batch.support),
                advantages=_advantages(batch),
                loss_mask=batch.support,
                rejection_sampling=wanted if settings.pop("decoupled", False) else None,
                **settings,
            )[0]

        def sapo(batch: Batch, **settings: Any) -> Tensor:
            assert batch.old is not None
            log_probs, old = (padded(x, batch.support) for x in (batch.policy, batch.old))
            return functions["sapo_loss_fn"](log_probs, old, _advantages(batch), loss_mask=batch.support, **settings)[0]

        known = {"ppo_actor": ppo_actor, "sapo": sapo}[method]
        return lambda batch: known(batch, **options)


def _advantages(batch: Batch) -> Tensor:
    assert batch.advantage is not None
    given = batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None]
    return given.expand(batch.policy.shape)


def _functions() -> dict[str, Any]:
    names = (
        "ppo_actor_loss_fn",
        "sapo_loss_fn",
        "apply_rejection_sampling",
        "RejectionSamplingResult",
        "_check_bounds",
        "_compute_sequence_level_ratio_and_advantages",
    )
    return excerpt(
        "areal", "utils/functional/functional.py", names, {"torch": torch, "dataclass": dataclasses.dataclass}
    )
