"""OpenRLHF: `PolicyLoss`, `DPOLoss` and the k1, k2, k3 estimators of its models package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, padded, without_init

__all__ = ["OpenRLHF"]


class OpenRLHF(ReferenceImplementation):
    """OpenRLHF's loss modules, loaded without the rest of `openrlhf.models`, whose import asks for flash-attn and
    deepspeed.
    """

    name = "openrlhf"
    package = "openrlhf"

    def loss(self, method: str, **options: Any) -> Loss:
        return {"PolicyLoss": self._policy, "DPOLoss": self._dpo, "compute_approx_kl": self._kl}[method](**options)

    def _policy(self, behavior: bool = False, **options: Any) -> Loss:
        module = _module("loss").PolicyLoss(**options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.advantage is not None
            advantages = (
                batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None].expand(batch.policy.shape)
            )
            return module(
                batch.policy,
                batch.old,
                advantages,
                action_mask=batch.support.to(batch.policy.dtype),
                rollout_log_probs=batch.behavior if behavior else None,
            )[0]

        return loss

    def _dpo(self, **options: Any) -> Loss:
        module = _module("loss").DPOLoss(**options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, PreferenceBatch)
            rows = batch.rows
            assert rows.reference is not None
            policy, reference = (padded(x, rows.support).sum(1) for x in (rows.policy, rows.reference))
            return module(*policy.chunk(2), *reference.chunk(2))[0]

        return loss

    def _kl(self, token_level_loss: bool = True, **options: Any) -> Loss:
        compute, aggregate = _module("utils").compute_approx_kl, _module("loss").aggregate_loss

        def loss(batch: Any) -> Tensor:
            kl = compute(batch.policy, batch.reference, batch.old, **options)
            return aggregate(kl, batch.support.to(kl.dtype), token_level_loss=token_level_loss)

        return loss


def _module(name: str) -> Any:
    """`openrlhf.models.NAME` without the packages' `__init__`; `deepspeed` is a name that the losses never use."""
    without_init("openrlhf", "openrlhf.models")
    if importlib.util.find_spec("deepspeed") is None and "deepspeed" not in sys.modules:
        sys.modules["deepspeed"] = types.ModuleType("deepspeed")
        sys.modules["deepspeed"].__spec__ = importlib.machinery.ModuleSpec("deepspeed", None)
    return importlib.import_module(f"openrlhf.models.{name}")
