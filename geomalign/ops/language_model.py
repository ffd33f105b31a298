"""How a causal language model makes logits of its last hidden states, found by comparing the two."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from geomalign.ops.tiles import Head

__all__ = ["LanguageHead", "language_head"]


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageHead:
    """The output layer of a model, and what the model does with its result.

    Args:
        linear: the module with `weight` and `bias`, read at every use.
        temperature: what the model divides its logits by.
        softcap: bound of its logits, or None.

    >>> import torch
    >>> head = LanguageHead(torch.nn.Linear(4, 9, bias=False), temperature=8.0)
    >>> sorted(head.arguments(temperature=0.5))
    ['bias', 'softcap', 'temperature', 'weight']
    """

    linear: nn.Linear
    temperature: float = 1.0
    softcap: float | None = None

    def arguments(self, temperature: float = 1.0) -> dict[str, Any]:
        """The head as `fused_log_probs` and `fused_objective` take it, for a policy sampled at this temperature."""
        return {
            "weight": self.linear.weight,
            "bias": self.linear.bias,
            "temperature": self.temperature * temperature,
            "softcap": self.softcap,
        }


@torch.no_grad()
def language_head(linear: Any, hidden: Tensor, logits: Tensor, softcap: float | None = None) -> LanguageHead | None:
    """The head that makes these logits of these hidden states: linear, then scaled or capped; None if none does.

    Models scale their logits under many names; that the numbers agree is what counts.

    Args:
        linear: the output embeddings of the model; a head is found in an `nn.Linear` alone.
        hidden: `(…, hidden)` last hidden states.
        logits: `(…, vocabulary)` of the same forward pass.
        softcap: of the model's configuration.

    >>> import torch
    >>> linear = torch.nn.Linear(4, 9, bias=False)
    >>> hidden = torch.randn(2, 4)
    >>> language_head(linear, hidden, linear(hidden) / 8).temperature
    8.0
    >>> language_head(linear, hidden, linear(hidden) ** 2) is None
    True
    """
    # A subclass or a wrapper, such as an adapter's or a quantised one, may add what its weight does not show.
    if type(linear) is not nn.Linear or hidden.shape[-1:] != (linear.in_features,):
        return None
    if logits.shape != (*hidden.shape[:-1], linear.out_features):
        return None
    z = Head(linear.weight, linear.bias).logits(hidden.flatten(0, -2).to(linear.weight.dtype), slice(None))
    seen = logits.flatten(0, -2).to(z.dtype)
    # Room for logits that were rounded to half precision.
    tolerance = max(float(torch.finfo(logits.dtype).eps), 1e-5) * float(seen.abs().amax()) * 4
    if softcap is not None:
        capped = softcap * torch.tanh(z / softcap)
        return LanguageHead(linear, softcap=softcap) if float((capped - seen).abs().amax()) <= tolerance else None
    scale = float((z * z).sum() / (z * seen).sum())
    rounded = float(f"{scale:.4g}")
    temperature = rounded if abs(scale - rounded) <= 1e-5 * abs(scale) else scale
    if not (temperature > 0 and float((z / temperature - seen).abs().amax()) <= tolerance):
        return None
    return LanguageHead(linear, temperature)
