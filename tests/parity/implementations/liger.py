"""Liger: the chunked losses, which fuse the language-model head with the loss and so start from hidden states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomalign.batch import Batch, PreferenceBatch
from geomalign.laws.comparison import Loss
from tests.parity.implementations.base import ReferenceImplementation, two_word_logit

__all__ = ["Liger"]


class Liger(ReferenceImplementation):
    """Liger's `LigerFusedLinear…Loss` modules. The hidden state is one number per token, the head the matrix (1, 0)ᵀ of
    a vocabulary of two words, so that the log-probability of word 0 is what the batch asks for. Liger computes in
    float32."""

    name = "liger"
    package = "liger-kernel"
    dtype = torch.float32

    def loss(self, method: str, **options: Any) -> Loss:
        import liger_kernel.chunked_loss as chunked

        if method == "LigerFusedLinearGRPOLoss":
            return self._rollouts(chunked.LigerFusedLinearGRPOLoss, options)
        if method == "LigerFusedLinearKTOLoss":
            return self._labelled(chunked.LigerFusedLinearKTOLoss, options)
        return self._pairs(getattr(chunked, method), options)

    def _labelled(self, module: Any, options: dict[str, Any]) -> Loss:
        """Single responses with labels; the reference point is zero."""

        def loss(batch: Any) -> Tensor:
            rows = batch.rows
            hidden, head = _hidden(rows.policy)
            target = torch.where(rows.support, 0, -100)
            function = module(compiled=False, use_ref_model=True, **options)
            reference = _hidden(rows.reference)[0]
            value, *_ = function(
                hidden, head, target, preference_labels=rows.reward > 0, ref_input=reference, ref_weight=head
            )
            return value

        return loss

    def _rollouts(self, module: Any, options: dict[str, Any]) -> Loss:
        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, Batch)
            function = module(compiled=False, use_ref_model=options.get("beta", 0.04) != 0, **options)
            hidden, head = _hidden(batch.policy)
            value, _ = function(
                hidden,
                head,
                torch.zeros(batch.policy.shape, dtype=torch.long),
                batch.support.float(),
                batch.advantage,
                ref_per_token_logps=batch.reference,
                old_per_token_logps=batch.old,
            )
            return value

        return loss

    def _pairs(self, module: Any, options: dict[str, Any]) -> Loss:
        import inspect

        referenced = "use_ref_model" in inspect.signature(module.__init__).parameters

        def loss(batch: Any) -> Tensor:
            assert isinstance(batch, PreferenceBatch)
            rows = batch.rows
            hidden, head = _hidden(rows.policy)
            target = torch.where(rows.support, 0, -100)
            function = module(compiled=False, **options)
            if referenced:
                assert rows.reference is not None
                value, *_ = function(head, hidden, target, ref_input=_hidden(rows.reference)[0], ref_weight=head)
            else:
                value, *_ = function(head, hidden, target)
            return value

        return loss


def _hidden(log_probs: Tensor) -> tuple[Tensor, Tensor]:
    head = torch.tensor([[1.0], [0.0]], dtype=log_probs.dtype)
    return two_word_logit(log_probs)[..., None], head
