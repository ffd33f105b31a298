"""Trinity-RFT: the policy losses of `trinity.algorithm.policy_loss_fn`."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from geomalign.batch import Batch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, padded, without_init

__all__ = ["Trinity"]


class Trinity(ReferenceImplementation):
    """Trinity-RFT's loss classes, loaded without the rest of `trinity`, whose import asks for ray and vllm."""

    name = "trinity"
    package = "trinity-rft"

    def loss(self, method: str, **options: Any) -> Loss:
        found = _policy_loss(method)(**options)

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch) and batch.advantage is not None and batch.old is not None
            given = batch.advantage if batch.advantage.ndim == 2 else batch.advantage[:, None]
            return found(
                logprob=padded(batch.policy, batch.support),
                old_log_probs=padded(batch.old, batch.support),
                response_mask=batch.support.to(batch.policy.dtype),
                advantages=given.expand(batch.policy.shape),
            )[0]

        return loss


def _policy_loss(method: str) -> Any:
    """The class of a loss by its name in Trinity's registry, without the packages' `__init__`."""
    without_init("trinity", "trinity.algorithm", "trinity.algorithm.policy_loss_fn")
    module, name = {
        "ppo": ("ppo_policy_loss", "PPOPolicyLossFn"),
        "gspo": ("gspo_policy_loss", "GSPOLossFn"),
        "sapo": ("sapo_policy_loss", "SAPOPolicyLossFn"),
        "cispo": ("cispo_policy_loss", "CISPOPolicyLossFn"),
        "topr": ("topr_policy_loss", "TOPRPolicyLossFn"),
        "opmd": ("opmd_policy_loss", "OPMDPolicyLossFn"),
        "rec": ("rec_policy_loss", "RECPolicyLossFn"),
        "sppo": ("sppo_loss_fn", "sPPOPolicyLossFn"),
        "sft_is": ("chord_policy_loss", "SFTISLossFn"),
        "sft_phi": ("chord_policy_loss", "SFTPhiLossFn"),
        "importance_sampling": ("importance_sampling_policy_loss", "ImportanceSamplingLossFn"),
    }[method]
    return getattr(importlib.import_module(f"trinity.algorithm.policy_loss_fn.{module}"), name)
