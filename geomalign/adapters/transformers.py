"""`transformers.Trainer`: `compute_loss_func` and the collator that goes with it.

```python
from geomalign.adapters.transformers import ObjectiveLoss

loss = ObjectiveLoss("dpo beta=0.1", pad_token_id=tokenizer.pad_token_id)
Trainer(model=model, args=args, train_dataset=pairs, data_collator=loss.collate, compute_loss_func=loss)
```

The arguments need `remove_unused_columns=False`, as the Trainer would drop columns that the model does not take.

With `ObjectiveLoss(…, model=model)` the logits of all tokens are never made: the model returns its hidden states, and
`ga.ops.fused_objective` goes through its output layer tile by tile. This reads the layer's weight outside of the
model's forward pass, which one device and DDP allow; under FSDP and DeepSpeed ZeRO-3 leave it out.

The log-probabilities under the reference (and the old policy) are columns of the dataset: nothing is scored here but
the model in training. Rewards, groups and drives are columns too, so any offline objective trains this way, on one
device, under DDP, FSDP or DeepSpeed, as the Trainer's arguments say.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from geomalign import recipes
from geomalign.batch import Batch, Counts, PreferenceBatch
from geomalign.measure import PooledMean
from geomalign.objective import BaseObjective, Objective, metrics
from geomalign.ops import LanguageHead, fused_objective, language_head

__all__ = ["Labels", "ObjectiveLoss"]

_SIDES = ("chosen", "rejected")
_ASKED = {"output_hidden_states": True, "logits_to_keep": 1}
"""What a model is asked to return where its logits are not wanted."""


class Labels(dict[str, Any]):
    """What the loss knows besides the model's outputs, in the place of the Trainer's label tensor.

    To the Trainer it looks like labels, whose entries other than −100 are counted over an accumulation window and all
    ranks: it counts what the objective divides by, so that the mean is the window's and not a mean of means.

    >>> labels = Labels(mask=torch.ones(1, 3), counted=torch.tensor([[-100, 0, 0]]))
    >>> labels["mask"].shape, int(labels.ne(-100).sum())
    (torch.Size([1, 3]), 2)
    """

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else super().__getitem__("counted")[key]

    def ne(self, other: Any) -> Tensor:
        counted: Tensor = super().__getitem__("counted")
        return counted.ne(other)


class ObjectiveLoss:
    """An objective as `compute_loss_func`, with `collate` as the data collator.

    A row of the dataset for an objective of pairs: `prompt_ids`, `chosen_ids`, `rejected_ids` (lists of token ids) and
    `reference_chosen`, `reference_rejected` (a log-probability of every token of the response, or one number, their
    sum). For single responses: `prompt_ids`, `response_ids`, and of `old`, `reference`, `behavior` (log-probabilities)
    and `reward`, `advantage`, `group`, `drive` (numbers) those the objective needs. Without `drive` groups must be
    whole in every micro-batch; better compute it once, `objective.drive(whole_dataset)`, and make it a column.

    Args:
        objective: an objective, or its description, "dpo beta=0.1"; of one term, or a sum whose terms divide by the
            same count (tokens, responses or pairs).
        pad_token_id: of the tokenizer.
        model: the model in training, whose output layer is then evaluated together with the objective; None: the model
            makes all logits.

    Raises:
        ValueError: what `recipes.get` raises, terms that divide by different counts, of which the Trainer passes one,
            or a model whose logits are not its last hidden states times its output layer.

    >>> loss = ObjectiveLoss("simpo", pad_token_id=0)
    >>> batch = loss.collate([{"prompt_ids": [5], "chosen_ids": [7, 8], "rejected_ids": [9]}])
    >>> batch["input_ids"]
    tensor([[5, 7, 8],
            [5, 9, 0]])
    """

    def __init__(self, objective: BaseObjective | str, pad_token_id: int = 0, model: Any = None):
        self.objective = recipes.get(objective) if isinstance(objective, str) else objective
        self.pad_token_id = pad_token_id
        self.paired = self.objective.paired
        self.metrics: dict[str, Tensor] = {}
        counted = {_divided_by(term) for _, term in self.objective.terms}
        if len(counted) > 1:
            raise ValueError(
                f"the terms of this objective divide by {' and by '.join(sorted(counted))}, but the Trainer passes one "
                "count. Give all terms the same measure, or use the loop of examples/grpo.py."
            )
        (self.counted,) = counted
        self.head = None if model is None else _head_of(model)

    def collate(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Rows → `input_ids`, `attention_mask` and `Labels`; of pairs first the chosen, then the rejected responses."""
        sides = [f"{side}_ids" for side in _SIDES] if self.paired else ["response_ids"]
        missing = [name for name in ("prompt_ids", *sides) if name not in rows[0]]
        if missing:
            raise ValueError(
                f"the rows have no {', '.join(missing)}, only {', '.join(sorted(rows[0]))}. If the dataset has them, "
                "the Trainer dropped them: set remove_unused_columns=False."
            )
        prompts = [list(row["prompt_ids"]) for _ in sides for row in rows]
        responses = [list(row[side]) for side in sides for row in rows]
        tokens = [torch.tensor(p + r) for p, r in zip(prompts, responses, strict=True)]
        mask = [torch.tensor([0] * len(p) + [1] * len(r)) for p, r in zip(prompts, responses, strict=True)]
        input_ids = pad_sequence(tokens, batch_first=True, padding_value=self.pad_token_id)
        response_mask = pad_sequence(mask, batch_first=True).bool()
        attention_mask = pad_sequence([torch.ones_like(x) for x in tokens], batch_first=True)
        labels = Labels(input_ids=input_ids, mask=response_mask, counted=self._counted(response_mask))
        given = set(rows[0])
        for name in ("old", "reference", "behavior"):
            columns = [f"{name}_{side}" for side in _SIDES] if self.paired else [name]
            if given >= set(columns):
                values = [row[column] for column in columns for row in rows]
                labels[name] = _placed(values, response_mask)
        for name, dtype in (("reward", None), ("advantage", None), ("drive", None), ("group", torch.long)):
            if name in given:
                labels[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        asked = {} if self.head is None else _ASKED
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels, **asked}

    def __call__(self, outputs: Any, labels: Labels, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """The loss of a micro-batch: its part of the mean over `num_items_in_batch`, or its own mean without that.

        Args:
            outputs: the model's, with `logits` `(row, token, vocabulary)`, or `hidden_states` where the loss was given
                the model.
            labels: of `collate`.
            num_items_in_batch: what the Trainer counted over the accumulation window and all ranks.
        """
        tokens = labels["input_ids"][:, 1:]
        if self.head is None:
            logits = (outputs["logits"] if isinstance(outputs, dict) else outputs[0])[:, :-1]
            # In float32 whatever the model computed in: half-precision log-probabilities are off by 1e-2.
            log_probs = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        else:
            log_probs = torch.zeros(tokens.shape, device=tokens.device)  # their shape; the head makes them
        mask = labels["mask"][:, 1:]
        columns = {name: labels[name][:, 1:] for name in ("old", "reference", "behavior") if name in labels}
        batch: Batch | PreferenceBatch
        if self.paired:
            reference = columns["reference"].chunk(2) if "reference" in columns else (None, None)
            batch = PreferenceBatch(*log_probs.chunk(2), *reference, *mask.chunk(2))
        else:
            rows = {name: labels[name] for name in ("reward", "advantage", "group") if name in labels}
            batch = Batch(log_probs, columns.pop("old", None), mask, **columns, **rows)
        known: dict[str, Any] = {"drive": labels.get("drive")}
        if num_items_in_batch is not None:
            count = torch.as_tensor(num_items_in_batch, device=log_probs.device)
            known["counts"] = Counts(count, count, count, count)
        if self.head is None:
            outcome = self.objective(batch, **known)
        else:
            hidden = outputs["hidden_states"][-1][:, :-1]
            outcome = fused_objective(
                self.objective, hidden, targets=tokens, batch=batch, **known, **self.head.arguments()
            )
        self.metrics = metrics(outcome)
        return outcome.loss

    def _counted(self, mask: Tensor) -> Tensor:
        """Labels whose entries other than −100 are what the objective divides by; the first column is never counted."""
        rows = mask[:, 1:].any(-1)
        if self.counted == "tokens":
            counts = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:]], dim=1)
        else:
            if self.counted == "pairs":
                chosen, rejected = rows.chunk(2)
                rows = chosen & rejected
            counts = torch.stack([torch.zeros_like(rows), rows], dim=1)
        return torch.where(counts, 0, -100)


@torch.no_grad()
def _head_of(model: Any) -> LanguageHead:
    """The output layer of a model that can return its hidden states in the place of its logits."""
    linear, name = model.get_output_embeddings(), type(model).__name__
    head = None
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        tokens = torch.arange(min(8, model.config.get_text_config().vocab_size), device=model.device)
        out = model(tokens[None], output_hidden_states=True)
        cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        head = language_head(linear, out["hidden_states"][-1], out["logits"], cap)
    if head is None:
        raise ValueError(
            f"the logits of this {name} are not its last hidden states times a plain nn.Linear, scaled or capped (its "
            f"output layer is {type(linear).__name__}): leave out model=, so that the model makes the logits itself."
        )
    return head


def _divided_by(term: Objective) -> str:
    if term.unit.paired:
        return "pairs"
    return "tokens" if term.unit.per_token and isinstance(term.measure, PooledMean) else "responses"


def _placed(values: Sequence[Any], mask: Tensor) -> Tensor:
    """`(row, token)` with every row's values at its response; one number is spread over it in equal shares."""
    placed = torch.zeros(mask.shape, dtype=torch.float32)
    for k, value in enumerate(values):
        count = int(mask[k].sum())
        entries = torch.as_tensor(value, dtype=torch.float32)
        if entries.ndim == 0:
            entries = (entries / max(count, 1)).expand(count)
        if len(entries) != count:
            raise ValueError(
                f"a response of {count} tokens has {len(entries)} log-probabilities; expected one for each of its "
                "tokens, or their sum as one number. Usually they cover the prompt too, or another tokenizer made them."
            )
        placed[k, mask[k]] = entries
    return placed
