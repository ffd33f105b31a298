"""torchrl: `GRPOLoss`, `DAPO` and `CISPOLoss` of `torchrl.objectives.llm`."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation

__all__ = ["TorchRL"]


class TorchRL(ReferenceImplementation):
    """torchrl's loss modules with an actor whose distribution answers with the batch's log-probabilities."""

    name = "torchrl"
    package = "torchrl"

    def loss(self, method: str, *, kl_penalty: bool = False, **options: Any) -> Loss:
        """As of the base class; with `kl_penalty` the loss is the term of `kl_to_ref_coeff` alone."""
        import torchrl.objectives.llm as objectives
        from tensordict import TensorDict

        module_class = getattr(objectives, method)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.advantage is not None
            module = module_class(_Actor(batch), entropy_bonus=False, **options)
            advantage = (
                batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None].expand(batch.policy.shape)
            )
            data = TensorDict(
                {
                    "advantage": advantage[..., None],
                    ("tokens", "full"): torch.zeros(batch.policy.shape, dtype=torch.long),
                    ("log_probs", "full"): batch.old,
                    ("next", "ref_log_probs", "full"): batch.reference,
                },
                batch_size=[batch.size],
            )
            out = module(data)
            value = out.loss_kl_to_ref if kl_penalty else out.loss_objective
            return value.sum()

        return loss


@dataclasses.dataclass
class _Distribution:
    log_probs: Tensor
    mask: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs


class _Actor(torch.nn.Module):
    in_keys: tuple[str, ...] = ()

    def __init__(self, batch: Batch):
        super().__init__()
        self.distribution = _Distribution(batch.policy, batch.support)

    def get_dist(self, tensordict: Any, **kwargs: Any) -> _Distribution:
        return self.distribution

    def _get_sft_dist(self, tensordict: Any) -> _Distribution:
        return self.distribution
