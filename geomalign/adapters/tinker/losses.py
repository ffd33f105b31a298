"""What Tinker is given to evaluate: a loss for the client, weights for a cross-entropy, a function for the service."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from geomalign import ops
from geomalign._util.types import Locality
from geomalign.adapters import hosted
from geomalign.adapters.tinker.data import COUNTS, driven, field, named, read
from geomalign.objective import BaseObjective

__all__ = ["loss", "traceable", "weighted"]


def loss(
    objective: BaseObjective | str,
) -> Callable[[Sequence[Any], Sequence[Tensor]], tuple[Tensor, dict[str, float]]]:
    """The loss function that `forward_backward_custom(data, loss)` takes: (data, log-probabilities) → (loss, metrics).

    Args:
        objective: or a text that names it, the one that the data were prepared for.

    Returns:
        A function of the data of one call and the log-probabilities of their target tokens. The data are the whole that
        is averaged over unless they are `counted`. Metrics are those of `ga.metrics`, under `geom/`.

    Raises:
        ValueError: by the function, if the data were not prepared for this objective.

    ```py
    result = client.forward_backward_custom(prepare("opo", data, reward=rewards, group=prompts), loss("opo")).result()
    result.metrics["geom/ess"]
    ```
    """
    chosen = named(objective)

    def evaluate(data: Sequence[Any], logprobs: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
        batch, drive, counts = read(chosen, data, logprobs)
        outcome = chosen(batch, drive, counts)
        return outcome.loss, hosted.numbers(hosted.host_metrics(outcome))

    return evaluate


def weighted(objective: BaseObjective | str, data: Sequence[Any]) -> list[Any]:
    """The data with weights, for `forward_backward(data, "cross_entropy")`: one pass in the place of two.

    The weights are −∂loss/∂log π at the log-probabilities of the policy that sampled. They are exact at the first step
    after sampling, as far as the sampler's log-probabilities are those of the trainer; and at every step where the
    objective's locality is `Locality.ROLLOUT` (REINFORCE, RLOO).

    Args:
        objective: of single responses, or a text that names it.
        data: of `prepare`.

    Raises:
        ValueError: the objective compares pairs, which nobody sampled, or the data were not prepared.

    ```py
    client.forward_backward(weighted("rloo", prepare("rloo", data, reward=rewards, group=prompts)), "cross_entropy")
    ```
    """
    chosen = named(objective)
    if chosen.paired:
        raise ValueError("the responses of a pair were not sampled by the policy: use forward_backward_custom.")
    batch, drive, counts = read(chosen, data, [field(datum, "old") for datum in data])
    made = []
    for datum, w in zip(data, ops.cross_entropy_weights(chosen, batch, drive, counts), strict=True):
        inputs = {"target_tokens": datum.loss_fn_inputs["target_tokens"], "weights": w[: len(field(datum, "mask"))]}
        made.append(dataclasses.replace(datum, loss_fn_inputs=inputs))
    return made


def traceable(objective: BaseObjective | str) -> tuple[Callable[..., tuple[Tensor, dict[str, Tensor]]], dict[str, int]]:
    """The arguments of `service.create_custom_loss`: a function of one datum that torch.fx can trace, and its ranks.

    The service then runs the loss in one pass, where it offers that; elsewhere the client runs it. The data must be
    `counted`. The function is `ga.ops.export(objective)` as text, so it calls nothing but torch.

    Args:
        objective: of single responses, or a text that names it.

    Raises:
        ValueError: the gradient of a response depends on other responses of the batch beyond its drive.

    >>> function, ranks = traceable("rloo")
    >>> ranks
    {'logprobs': 1, 'mask': 1, 'drive': 0, 'tokens': 0, 'sequences': 0, 'pairs': 0, 'rows': 0}

    ```py
    handle = service.create_custom_loss(*traceable("opo")).result()
    client.forward_backward_custom(counted(prepare("opo", data, reward=rewards, group=prompts)), handle)
    ```
    """
    chosen = named(objective)
    reach = max(term.reach for _, term in chosen.terms)
    if chosen.paired or reach > Locality.SEQUENCE or not all(term.measure.rowwise for _, term in chosen.terms):
        raise ValueError(
            "create_custom_loss sees one datum at a time, but the gradient of this objective depends on several "
            "responses: use loss(objective), which the client runs."
        )
    function = ops.export(chosen)
    scalars = {name for name, term in driven(chosen) if not term.unit.per_token}
    wanted = [str(node.target) for node in function.graph.nodes if node.op == "placeholder"]
    columns = {name: int(name not in scalars) for name in wanted if name not in ("policy", "counts")}
    ranks = {"logprobs": 1, **columns, **dict.fromkeys(COUNTS, 0)}
    rows = ", ".join(f"{name}[None]" for name in ("logprobs", *columns))
    text = f"""{ops.source(function)}

def objective({", ".join(ranks)}):
    counts = torch.stack([{", ".join(COUNTS)}])
    loss, gradient = loss_and_gradient({rows}, counts)
    loss = loss + (gradient[0] * (logprobs - logprobs.detach())).sum()
    return loss, {{"custom/objective:sum": loss}}
"""
    names: dict[str, Any] = {}
    exec(compile(text, "<geomalign objective>", "exec"), names)
    return names["objective"], ranks
