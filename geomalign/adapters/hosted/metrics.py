"""What a host's log shows of an outcome."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geomalign.objective import Outcome, metrics

__all__ = ["approximate_kl", "clip_fraction", "host_metrics", "numbers"]

_NOT_ADDED = ("_min", "_max", "/stiffness", "/gap")


def host_metrics(outcome: Outcome, share: Tensor | None = None) -> dict[str, Tensor]:
    """Our metrics for a host's log, under `geom/`: 0-dim tensors.

    Args:
        outcome: of a micro-batch.
        share: for hosts that add up what micro-batches report: what a mean is multiplied with. What does not add up is
            then left out: extremes, and what need not be finite.

    >>> import torch, geomalign as ga
    >>> from geomalign.adapters.hosted import evaluate
    >>> outcome = evaluate(ga.recipes.ppo(), ga.Batch(torch.zeros(3, 2), torch.zeros(3, 2)), torch.ones(3))
    >>> host_metrics(outcome)["geom/inactive"]
    tensor(1.)
    """
    seen = {f"geom/{name}": value for name, value in metrics(outcome).items() if name != "loss"}
    if share is None:
        return seen
    return {name: value * share for name, value in seen.items() if not name.endswith(_NOT_ADDED)}


def numbers(seen: Mapping[str, Tensor]) -> dict[str, float]:
    """Metrics as numbers, moved to the host together, once.

    >>> numbers({"geom/ess": torch.tensor(0.5)})
    {'geom/ess': 0.5}
    """
    return dict(zip(seen, torch.stack([value.detach().float() for value in seen.values()]).tolist(), strict=True))


def clip_fraction(seen: Mapping[str, Tensor]) -> Tensor:
    """The share of events with a drive and no force, of the objective or of a sum's first term, of `host_metrics`.

    >>> clip_fraction({"geom/term1/clip_fraction": torch.tensor(0.25)})
    tensor(0.2500)
    """
    return seen.get("geom/clip_fraction", seen.get("geom/term1/clip_fraction", torch.zeros(())))


def approximate_kl(outcome: Outcome) -> Tensor:
    """−Δ averaged over the tokens, in nats: what hosts log as the approximate KL divergence.

    Args:
        outcome: of a batch that has `old`.

    Raises:
        ValueError: the batch had none.

    >>> import torch, geomalign as ga
    >>> from geomalign.adapters.hosted import evaluate
    >>> approximate_kl(evaluate(ga.recipes.ppo(), ga.Batch(torch.zeros(3, 2), torch.ones(3, 2)), torch.ones(3)))
    tensor(1.)
    """
    if outcome.token_log_ratio is None:
        raise ValueError("the approximate KL is measured from the old policy, whose log-probabilities are not there.")
    return -outcome.token_log_ratio.sum() / outcome.mask.sum().clamp(min=1)
