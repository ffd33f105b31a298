"""Any objective as weights of a cross-entropy, for engines that only know supervised learning."""

from __future__ import annotations

from torch import Tensor

from geomalign._util.check import typed
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, PairGradient, TermDrives

__all__ = ["cross_entropy_weights"]


def cross_entropy_weights(
    objective: BaseObjective,
    batch: Batch | PreferenceBatch,
    drive: Tensor | TermDrives | None = None,
    counts: Counts | None = None,
) -> Tensor | PairGradient:
    """The weights w of a cross-entropy Σ_t w_t · (−log π(y_t)) that has the gradient of the objective: w = −∂L/∂log π.

    An engine that takes a weight per token and sums therefore trains any objective. The weights are constants: they are
    exact at the policy whose log-probabilities the batch holds. One step of any optimiser is then the step of the
    objective, and so is each further one if the weights are computed again from the log-probabilities that the engine
    reports. Where `objective.locality` is `Locality.ROLLOUT` (REINFORCE, RLOO) the weights do not depend on the policy,
    and one computation serves the whole rollout.

    Weights may be negative, and do not sum to one. An engine that divides the sum by a number (its tokens, its rows,
    the sum of weights) needs the weights multiplied by that number; the objective's own average is in them already.

    Args:
        objective: any, also a sum.
        batch: with the policy's current log-probabilities.
        drive: as in `objective(batch, drive, counts)`.
        counts: as there, so that the weights of micro-batches belong to one whole.

    Returns:
        `(row, token)` in the shape of `batch.policy`, zero where masked; `PairGradient` of the weights of both
        responses for a `PreferenceBatch`.

    Source: the policy-gradient theorem as weighted maximum likelihood, Williams 1992 (REINFORCE); Peters & Schaal 2007.

    >>> import torch, geomalign as ga
    >>> batch = ga.Batch(torch.zeros(2, 3), torch.zeros(2, 3), reward=torch.tensor([1.0, 0.0]))
    >>> ga.ops.cross_entropy_weights(ga.recipes.rloo(), batch)
    tensor([[ 0.5000,  0.5000,  0.5000],
            [-0.5000, -0.5000, -0.5000]])
    """
    typed("cross_entropy_weights", "objective", objective, BaseObjective, "A name becomes one by ga.recipes.get(name).")
    gradient = objective.gradient(batch, drive, counts)
    if isinstance(gradient, PairGradient):
        return PairGradient(-gradient.chosen, -gradient.rejected)
    return -gradient
