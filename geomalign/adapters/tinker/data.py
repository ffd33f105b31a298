"""The data of Tinker: what an objective needs is written into each, and read from each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from geomalign import ops
from geomalign.adapters import hosted
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.objective import BaseObjective, Objective, TermDrives

__all__ = ["COUNTS", "counted", "driven", "field", "named", "prepare", "read"]

COUNTS = ("tokens", "sequences", "pairs", "rows")
"""What a whole optimiser step holds, a number each."""


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
    chosen = named(objective)
    rows = [{"mask": _mask(datum)} for datum in data]
    for k, (row, datum) in enumerate(zip(rows, data, strict=True)):
        if "logprobs" in datum.loss_fn_inputs:
            row["old"] = field(datum, "logprobs")
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
    for name, term in driven(chosen):
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
    tokens = [torch.count_nonzero(field(datum, "mask")) for datum in data]
    present = torch.stack(tokens) > 0
    pairs = present[: len(data) // 2 * 2].view(-1, 2).all(-1).sum()
    whole = (sum(tokens), present.sum(), pairs, torch.tensor(len(data)))
    found = {name: torch.as_tensor(x, dtype=torch.float32) for name, x in zip(COUNTS, whole, strict=True)}
    return [dataclasses.replace(datum, loss_fn_inputs={**datum.loss_fn_inputs, **found}) for datum in data]


def named(objective: BaseObjective | str) -> BaseObjective:
    """The objective, refused where it couples the responses to one prompt: data do not say which these are.

    >>> named("tpo")
    Traceback (most recent call last):
    ValueError: ...couples the responses to one prompt...
    """
    found = hosted.objective_of(objective)
    if cut := hosted.cut_groups(found, "Tinker"):
        raise ValueError(f"{cut}.")
    return found


def driven(objective: BaseObjective) -> list[tuple[str, Objective]]:
    """The terms whose drive depends on the samples, each with the name of its drive.

    >>> from geomalign import recipes
    >>> [name for name, _ in driven(recipes.opo() + recipes.rloo())], driven(recipes.dpo())
    (['drive_1', 'drive_2'], [])
    """
    both = zip(ops.drive_names(objective), objective.terms, strict=True)
    return [(name, term) for name, (_, term) in both if name is not None]


def _per_token(objective: BaseObjective, term: Objective) -> bool:
    """Whether a datum holds one drive per token; otherwise it holds one number."""
    return term.unit.per_token and not objective.paired


_UNPREPARED = "pass the data through prepare(objective, data, …) of this objective first"


def field(datum: Any, name: str, remedy: str = _UNPREPARED) -> Tensor:
    """A field of a datum as float32."""
    if name not in datum.loss_fn_inputs:
        held = ", ".join(datum.loss_fn_inputs)
        raise ValueError(f"the loss_fn_inputs of a datum hold {held}, but no `{name}`: {remedy}.")
    value: Tensor = datum.loss_fn_inputs[name].to_torch().to(torch.float32)
    return value


def _mask(datum: Any) -> Tensor:
    """The tokens of the response: `mask`, else non-zero `weights`, else all."""
    targets = field(datum, "target_tokens", "it names the token whose log-probability is read at each position")
    if targets.ndim != 1:
        raise ValueError(
            f"the `target_tokens` of a datum are {tuple(targets.shape)}, several per position: an objective reads the "
            "log-probability of the one token that was sampled."
        )
    given = next((name for name in ("mask", "weights") if name in datum.loss_fn_inputs), None)
    return torch.ones_like(targets) if given is None else (field(datum, given) != 0).to(torch.float32)


def _in_shape(drive: Tensor, mask: Tensor, per_token: bool) -> Tensor:
    """One drive for every token of a response, or one for the response: the mean where its tokens have some."""
    if per_token:
        return torch.where(mask != 0, drive[: len(mask)] if drive.ndim else drive, 0)
    return drive if drive.ndim == 0 else torch.where(mask != 0, drive, 0).sum() / mask.sum().clamp(min=1)


def _own_drives(data: Sequence[Any]) -> list[Tensor]:
    """The advantages that the data hold."""
    remedy = "pass `reward`, from which the objective makes its drive, or data with advantages"
    return [field(datum, "advantages", remedy) for datum in data]


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


def read(
    objective: BaseObjective, data: Sequence[Any], logprobs: Sequence[Tensor]
) -> tuple[Batch | PreferenceBatch, Any, Counts | None]:
    """The batch, drive and counts that prepared data hold."""
    optional = [name for name in ("old", "reference") if all(name in datum.loss_fn_inputs for datum in data)]
    batch = _batch(objective, [{name: field(datum, name) for name in ("mask", *optional)} for datum in data], logprobs)
    drives: dict[str, Tensor] = {}
    for name, term in driven(objective):
        each = [field(datum, name) for datum in data]
        drives[name] = pad_sequence(each, batch_first=True) if _per_token(objective, term) else torch.stack(each)
        if objective.paired:
            drives[name] = drives[name][::2] if term.unit.paired else drives[name].view(-1, 2)
    every = [None if name is None else drives[name] for name in ops.drive_names(objective)]
    whole = "tokens" in data[0].loss_fn_inputs
    counts = Counts(*(field(data[0], name) for name in COUNTS)) if whole else None
    return batch, TermDrives(every) if len(every) > 1 else every[0], counts  # type: ignore[arg-type]
