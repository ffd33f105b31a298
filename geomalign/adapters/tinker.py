"""Tinker: the loss function of `forward_backward_custom`, and one that `create_custom_loss` can trace.

```py
from geomalign.adapters import tinker as geometry

data = geometry.prepare("opo alpha=0.4", data, reward=rewards, group=prompts)  # once per rollout, whole groups
loss = geometry.loss("opo alpha=0.4")
for step in minibatches(data):
    client.forward_backward_custom(step, loss)
    client.optim_step(types.AdamParams(learning_rate=4e-5))
```

The client computes a custom loss from the log-probabilities that the service returns, and sends −∂loss/∂log π back as
the weights of a cross-entropy. A datum holds one response: `loss_fn_inputs` has `target_tokens`, `logprobs` (of the
policy that sampled) and `mask`, as the cookbook's rollouts have them; `weights`, as its supervised data have them,
stand for a mask. Of pairs, the chosen and the rejected response alternate, as in the cookbook's DPO. Nothing of Tinker
is imported here: the data are copied with further fields, of which a loss that the client runs sends none.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from geomalign import ops
from geomalign._util.types import Locality
from geomalign.adapters import hosted
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, Objective, TermDrives

__all__ = ["configuration", "counted", "loss", "prepare", "traceable", "weighted"]

_COUNTS = ("tokens", "sequences", "pairs", "rows")


def prepare(
    objective: BaseObjective | str,
    data: Sequence[Any],
    *,
    reward: Tensor | None = None,
    group: Tensor | None = None,
    reference: Sequence[Tensor] | None = None,
    margin: Tensor | None = None,
) -> list[Any]:
    """The data of a rollout with what the objective needs of it: old log-probabilities, mask and drive of each datum.

    Args:
        objective: or a text that names it.
        data: one `Datum` per response, with whole groups; chosen and rejected in turn for an objective of pairs.
        reward: `(datum,)`. Without one, the `advantages` that the data hold are the drive in the place of the
            objective's sampling geometry; a unit of responses takes their mean over the response.
        group: `(datum,)` integers, equal where data answer the same prompt; None: all answer one.
        reference: for every datum, the log-probabilities of its `target_tokens` under the reference policy.
        margin: `(pair,)` differences of rewards, where the objective needs them.

    Raises:
        ValueError: a datum has several targets per position, or lacks what the objective needs.

    ```py
    data = prepare("grpo", data, reward=torch.tensor([1.0, 0.0, 0.0, 1.0]), group=torch.tensor([0, 0, 1, 1]))
    data[0].loss_fn_inputs["drive"].tolist()  # one number per token, zero outside the response
    ```
    """
    chosen = _named(objective)
    rows = [{"mask": _mask(datum)} for datum in data]
    for k, (row, datum) in enumerate(zip(rows, data, strict=True)):
        if "logprobs" in datum.loss_fn_inputs:
            row["old"] = _of(datum, "logprobs")
        if reference is not None:
            row["reference"] = torch.as_tensor(reference[k], dtype=torch.float32)
            if row["reference"].shape != row["mask"].shape:
                raise ValueError(
                    f"`reference` of datum {k} is {tuple(row['reference'].shape)}, its target tokens are "
                    f"{tuple(row['mask'].shape)}. `compute_logprobs` has one more, the first token's: leave it out."
                )
    batch: Any = _batch(chosen, rows, [torch.zeros_like(row["mask"]) for row in rows])
    extra = {"margin": margin} if chosen.paired else {"reward": reward, "group": group}
    batch = dataclasses.replace(batch, **extra)
    for name, term in _driven(chosen):
        given = reward is None and not chosen.paired
        drives = _own_drives(data) if given else _per_datum(term.drive(batch), chosen.paired)
        for row, drive in zip(rows, drives, strict=True):
            row[name] = _in_shape(drive, row["mask"], _per_token(chosen, term))
    both = zip(data, rows, strict=True)
    return [dataclasses.replace(datum, loss_fn_inputs={**datum.loss_fn_inputs, **row}) for datum, row in both]


def counted(data: Sequence[Any]) -> list[Any]:
    """Data of one optimiser step that will be sent in several calls: each datum with how much the whole step holds.

    The losses and gradients of the calls then add up to those of the step. A call with the whole step needs none of it;
    a loss that the service runs (`traceable`) always does, because it sees one datum at a time.

    Args:
        data: of `prepare`, as much of it as one `optim_step` uses.

    ```py
    step = counted(data[:64])
    for part in (step[:32], step[32:]):
        client.forward_backward_custom(part, loss)
    client.optim_step(types.AdamParams(learning_rate=4e-5))
    ```
    """
    tokens = [torch.count_nonzero(_of(datum, "mask")) for datum in data]
    present = torch.stack(tokens) > 0
    pairs = present[: len(data) // 2 * 2].view(-1, 2).all(-1).sum()
    whole = (sum(tokens), present.sum(), pairs, torch.tensor(len(data)))
    found = {name: torch.as_tensor(x, dtype=torch.float32) for name, x in zip(_COUNTS, whole, strict=True)}
    return [dataclasses.replace(datum, loss_fn_inputs={**datum.loss_fn_inputs, **found}) for datum in data]


def _named(objective: BaseObjective | str) -> BaseObjective:
    """The objective, refused where it couples the responses to one prompt: data do not say which these are."""
    found = hosted.objective_of(objective)
    if cut := hosted.cut_groups(found, "Tinker"):
        raise ValueError(f"{cut}.")
    return found


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
    chosen = _named(objective)

    def evaluate(data: Sequence[Any], logprobs: Sequence[Tensor]) -> tuple[Tensor, dict[str, float]]:
        batch, drive, counts = _given(chosen, data, logprobs)
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
    chosen = _named(objective)
    if chosen.paired:
        raise ValueError("the responses of a pair were not sampled by the policy: use forward_backward_custom.")
    batch, drive, counts = _given(chosen, data, [_of(datum, "old") for datum in data])
    made = []
    for datum, w in zip(data, ops.cross_entropy_weights(chosen, batch, drive, counts), strict=True):
        inputs = {"target_tokens": datum.loss_fn_inputs["target_tokens"], "weights": w[: len(_of(datum, "mask"))]}
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
    chosen = _named(objective)
    reach = max(term.reach for _, term in chosen.terms)
    if chosen.paired or reach > Locality.SEQUENCE or not all(term.measure.rowwise for _, term in chosen.terms):
        raise ValueError(
            "create_custom_loss sees one datum at a time, but the gradient of this objective depends on several "
            "responses: use loss(objective), which the client runs."
        )
    function = ops.export(chosen)
    scalars = {name for name, term in _driven(chosen) if not term.unit.per_token}
    wanted = [str(node.target) for node in function.graph.nodes if node.op == "placeholder"]
    columns = {name: int(name not in scalars) for name in wanted if name not in ("policy", "counts")}
    ranks = {"logprobs": 1, **columns, **dict.fromkeys(_COUNTS, 0)}
    rows = ", ".join(f"{name}[None]" for name in ("logprobs", *columns))
    text = f"""{ops.source(function)}

def objective({", ".join(ranks)}):
    counts = torch.stack([{", ".join(_COUNTS)}])
    loss, gradient = loss_and_gradient({rows}, counts)
    loss = loss + (gradient[0] * (logprobs - logprobs.detach())).sum()
    return loss, {{"custom/objective:sum": loss}}
"""
    names: dict[str, Any] = {}
    exec(compile(text, "<geomalign objective>", "exec"), names)
    return names["objective"], ranks


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The loop that trains an objective by Tinker; see `geomalign.adapters.export.configuration`.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {"mu": 2.0}).splitlines()[3])
    objective = "opo mu=2.0"
    """
    given = {"reward": not objective.paired, "group": not objective.paired}
    given |= {"reference": objective.needs_reference, "margin": objective.paired and objective.driven}
    known = [key for key, needed in given.items() if needed]
    about = (
        "chosen and rejected in turn, with weights" if objective.paired else "one per response, with logprobs and mask"
    )
    return f"""from geomalign.adapters import tinker as geometry
from tinker import types

objective = {json.dumps(hosted.in_one_line(name, hyperparameters))}


def update({", ".join(["client", "data", *known])}, size=64):
    # data: {about}
    data = geometry.prepare({", ".join(["objective", "data", *(f"{key}={key}" for key in known)])})
    futures = []
    for start in range(0, len(data), size):
        futures.append(client.forward_backward_custom(data[start : start + size], geometry.loss(objective)))
        client.optim_step(types.AdamParams(learning_rate=4e-5))
    return [future.result().metrics for future in futures]
"""


def _driven(objective: BaseObjective) -> list[tuple[str, Objective]]:
    """The terms whose drive depends on the samples, each with the name of its drive."""
    both = zip(ops.drive_names(objective), objective.terms, strict=True)
    return [(name, term) for name, (_, term) in both if name is not None]


def _per_token(objective: BaseObjective, term: Objective) -> bool:
    """Whether a datum holds one drive per token; otherwise it holds one number."""
    return term.unit.per_token and not objective.paired


_UNPREPARED = "pass the data through prepare(objective, data, …) of this objective first"


def _of(datum: Any, name: str, remedy: str = _UNPREPARED) -> Tensor:
    """A field of a datum as float32."""
    if name not in datum.loss_fn_inputs:
        held = ", ".join(datum.loss_fn_inputs)
        raise ValueError(f"the loss_fn_inputs of a datum hold {held}, but no `{name}`: {remedy}.")
    value: Tensor = datum.loss_fn_inputs[name].to_torch().to(torch.float32)
    return value


def _mask(datum: Any) -> Tensor:
    """The tokens of the response: `mask`, else non-zero `weights`, else all."""
    targets = _of(datum, "target_tokens", "it names the token whose log-probability is read at each position")
    if targets.ndim != 1:
        raise ValueError(
            f"the `target_tokens` of a datum are {tuple(targets.shape)}, several per position: an objective reads the "
            "log-probability of the one token that was sampled."
        )
    given = next((name for name in ("mask", "weights") if name in datum.loss_fn_inputs), None)
    return torch.ones_like(targets) if given is None else (_of(datum, given) != 0).to(torch.float32)


def _in_shape(drive: Tensor, mask: Tensor, per_token: bool) -> Tensor:
    """One drive for every token of a response, or one for the response: the mean where its tokens have some."""
    if per_token:
        return torch.where(mask != 0, drive[: len(mask)] if drive.ndim else drive, 0)
    return drive if drive.ndim == 0 else torch.where(mask != 0, drive, 0).sum() / mask.sum().clamp(min=1)


def _own_drives(data: Sequence[Any]) -> list[Tensor]:
    """The advantages that the data hold."""
    remedy = "pass `reward`, from which the objective makes its drive, or data with advantages"
    return [_of(datum, "advantages", remedy) for datum in data]


def _per_datum(drive: Tensor, paired: bool) -> list[Tensor]:
    """The drive of rows, tokens or pairs, or of both responses of pairs, for each datum."""
    drive = drive.to(torch.float32)
    if paired:
        drive = drive.flatten() if drive.ndim == 2 else drive.repeat_interleave(2)
    return list(drive)


def _batch(
    objective: BaseObjective, rows: Sequence[dict[str, Tensor]], policy: Sequence[Tensor]
) -> Batch | PreferenceBatch:
    """Padded rows; of pairs, every second row is a rejected response."""
    names = [name for name in ("mask", "old", "reference") if all(name in row for row in rows)]
    columns = {name: [row[name] for row in rows] for name in names} | {"policy": list(policy)}
    if not objective.paired:
        return Batch(**{name: pad_sequence(column, batch_first=True) for name, column in columns.items()})
    if len(rows) % 2:
        raise ValueError(f"pairs are chosen and rejected responses in turn, but there are {len(rows)} data.")
    fields = {"policy": "{}", "mask": "{}_mask", "reference": "reference_{}"}
    return PreferenceBatch(
        **{
            pattern.format(side): pad_sequence(columns[name][k::2], batch_first=True)
            for k, side in enumerate(("chosen", "rejected"))
            for name, pattern in fields.items()
            if name in columns
        }
    )


def _given(
    objective: BaseObjective, data: Sequence[Any], logprobs: Sequence[Tensor]
) -> tuple[Batch | PreferenceBatch, Any, Counts | None]:
    """The batch, drive and counts that prepared data hold."""
    optional = [name for name in ("old", "reference") if all(name in datum.loss_fn_inputs for datum in data)]
    batch = _batch(objective, [{name: _of(datum, name) for name in ("mask", *optional)} for datum in data], logprobs)
    drives: dict[str, Tensor] = {}
    for name, term in _driven(objective):
        each = [_of(datum, name) for datum in data]
        drives[name] = pad_sequence(each, batch_first=True) if _per_token(objective, term) else torch.stack(each)
        if objective.paired:
            drives[name] = drives[name][::2] if term.unit.paired else drives[name].view(-1, 2)
    every = [None if name is None else drives[name] for name in ops.drive_names(objective)]
    whole = "tokens" in data[0].loss_fn_inputs
    counts = Counts(*(_of(data[0], name) for name in _COUNTS)) if whole else None
    return batch, TermDrives(every) if len(every) > 1 else every[0], counts  # type: ignore[arg-type]
