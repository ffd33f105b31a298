"""SkyRL: the policy losses of its training backend, with advantages that carry the weights of the reduction."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, padded, without_init

__all__ = ["SkyRL"]


class SkyRL(ReferenceImplementation):
    """SkyRL's registry of policy losses, called as its worker calls them: the loss is the sum over tokens, and what is
    averaged over has been put into the advantages by SkyRL's own function.
    """

    name = "skyrl"
    package = "skyrl"

    def loss(self, method: str, *, reduction: str = "token_mean", behavior: bool = False, **options: Any) -> Loss:
        """`reduction` is SkyRL's `loss_reduction`; `behavior`: the batch's `old` are the engine's log-probabilities."""
        without_init("skyrl.backends")  # it imports a server, which asks for Python 3.12
        from skyrl.backends.skyrl_train.utils import ppo_utils
        from skyrl.train.config import AlgorithmConfig

        config = AlgorithmConfig(policy_loss_type=method, loss_reduction=reduction)
        for name, value in options.items():  # "sapo.tau_pos" is a field of a section
            section, _, field = name.rpartition(".")
            if section:
                setattr(config, section, dataclasses.replace(getattr(config, section), **{field: value}))
            else:
                setattr(config, name, value)
        function = ppo_utils.PolicyLossRegistry.get(method)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.advantage is not None and batch.old is not None
            mask = batch.support.to(batch.policy.dtype)
            given = batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None]
            weighted = ppo_utils.apply_loss_reduction_to_advantages_minibatch(
                given.expand(batch.policy.shape), mask, reduction, batch.size, batch.policy.shape[1]
            )
            old = padded(batch.old, batch.support)
            value, _ = function(
                padded(batch.policy, batch.support),
                old,
                weighted,
                config=config,
                loss_mask=mask,
                rollout_logprobs=old if behavior else None,
            )
            return value

        return loss
