"""slime: a custom loss and a reward post-processing by import path.

```bash
--loss-type custom_loss --custom-loss-function-path geomalign.adapters.slime.loss
--custom-reward-post-process-path geomalign.adapters.slime.rewards --custom-config-path geomalign.yaml
```

with `geomalign_objective: opo alpha=0.4 mu=1.0` in geomalign.yaml. `rewards` makes the objective's own drive where
groups are whole, and slime's estimator `grpo` hands it on as advantages; without it slime's own advantages are the
drive. The reduction is slime's reducer. A KL penalty to the reference belongs to the objective (`grpo beta=0.04`), not
to `--use-kl-loss`. All of it serves miles too, a fork with the same flags.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from geomalign.adapters import hosted
from geomalign.batch import Batch
from geomalign.objective import BaseObjective

__all__ = ["configuration", "loss", "rewards"]


def rewards(args: Any, samples: Sequence[Any]) -> tuple[list[float], list[float]]:
    """slime's reward post-processing: `(args, samples)` → raw rewards and, in the place of normalised ones, the drive.

    Args:
        args: with `geomalign_objective` ("opo" if absent), `n_samples_per_prompt`, and `advantage_estimator` "grpo".
        samples: of a rollout, prompt after prompt, with `get_reward_value(args)` and `group_index` (or None).

    Raises:
        ValueError: an estimator that would not hand the drive on unchanged, or terms with different drives.

    >>> from types import SimpleNamespace
    >>> settings = {"geomalign_objective": "rloo", "advantage_estimator": "grpo", "n_samples_per_prompt": 2}
    >>> answers = [SimpleNamespace(group_index=0, get_reward_value=lambda args, r=r: r) for r in (1.0, 0.0)]
    >>> rewards(SimpleNamespace(**settings), answers)
    ([1.0, 0.0], [1.0, -1.0])
    """
    if args.advantage_estimator not in ("grpo", "gspo", "cispo"):
        raise ValueError(
            f"--advantage-estimator {args.advantage_estimator} would change the drive: set it to grpo, which hands it "
            "on, or leave out --custom-reward-post-process-path."
        )
    raw = [float(sample.get_reward_value(args)) for sample in samples]
    named = [sample.group_index for sample in samples]
    group = [k // args.n_samples_per_prompt if name is None else int(name) for k, name in enumerate(named)]
    mask = torch.ones(len(raw), 1)
    rows = hosted.rollout(mask, mask.dtype, reward=torch.tensor(raw), group=torch.tensor(group))
    drive: list[float] = hosted.drive_of(_objective(args), rows).tolist()
    return raw, drive


def loss(
    args: Any, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """slime's custom loss: `(args, batch, logits, reducer)` → `(loss, metrics)`; slime rescales it for Megatron.

    slime adds up the metrics of micro-batches and divides by the count that its reducer leaves out, so ours are
    multiplied by what the reducer makes of ones.

    Args:
        args: with `geomalign_objective` ("opo" if absent); an entropy bonus by `entropy_coef` as in slime's own loss;
            `use_rollout_logprobs` and `rollout_top_p` as slime means them.
        batch: lists with one `(token,)` tensor per response: `log_probs` (old policy; none where slime would use the
            current ones, at Δ = 0), `rollout_log_probs` (engine), `advantages`, `loss_masks`, `ref_log_probs`.
        logits: of the packed micro-batch.
        sum_of_sample_mean: slime's reducer of one flat `(tokens,)` tensor.

    Raises:
        ValueError: what reads whole responses under context parallelism, where a rank holds parts of them; `use_tis`,
            which weighs slime's own token losses.

    ```py
    total, seen = loss(args, batch, logits, sum_of_sample_mean)  # slime calls it, named by the flags above
    ```
    """
    # miles, slime's fork, calls with the same arguments and has its forward pass elsewhere.
    module = "miles.backends.training_utils" if "miles" in sys.modules else "slime.backends.megatron_utils"
    get_log_probs_and_entropy = importlib.import_module(f"{module}.loss").get_log_probs_and_entropy
    objective = _objective(args)
    if getattr(args, "context_parallel_size", 1) > 1 and not hosted.of_tokens(objective):
        raise ValueError(
            "this objective reads whole responses, but with context_parallel_size > 1 a rank holds parts of responses. "
            "Use a unit of tokens, or no context parallelism."
        )
    if getattr(args, "use_tis", False):
        raise ValueError("--use-tis weighs slime's own token losses, which the objective replaces: leave it out.")
    bonus = getattr(args, "entropy_coef", 0.0) or 0.0
    optional = ["max_seq_lens"]
    if getattr(args, "rollout_top_p", 1.0) != 1.0:
        optional += ["rollout_top_p_token_ids", "rollout_top_p_token_offsets"]
    scored = get_log_probs_and_entropy(
        logits,
        args=args,
        unconcat_tokens=batch["unconcat_tokens"],
        total_lengths=batch["total_lengths"],
        response_lengths=batch["response_lengths"],
        with_entropy=bonus != 0,
        **{name.removeprefix("rollout_"): batch[name] for name in optional if batch.get(name) is not None},
    )
    scored = scored[1] if isinstance(scored, tuple) else scored  # the first of the pair is Megatron's unused loss
    policy = scored["log_probs"]
    engine, reference = batch.get("rollout_log_probs"), batch.get("ref_log_probs")
    anchor = engine if getattr(args, "use_rollout_logprobs", False) else batch.get("log_probs")
    exists = _padded([torch.ones_like(x, dtype=torch.bool) for x in policy])
    # Under context parallelism the masks are of whole responses, and slime's reducer applies them itself.
    masks = batch["loss_masks"]
    whole = all(m.shape == x.shape for m, x in zip(masks, policy, strict=True))
    rows = Batch(
        _padded(policy),
        _padded(anchor or [x.detach() for x in policy]),
        exists & (_padded(masks) != 0) if whole else exists,
        reference=_padded(reference) if reference else None,
        behavior=_padded(engine) if engine else None,
    )
    weights = hosted.weights_of(lambda losses: sum_of_sample_mean(losses[exists]), exists, rows.dtype)
    outcome = hosted.evaluate(objective, rows, _padded(batch["advantages"]), weights)
    total = outcome.loss
    if bonus:
        total = total - bonus * sum_of_sample_mean(torch.cat(scored["entropy"]))
    if not sum(x.numel() for x in policy):
        total = total + 0 * logits.sum()  # a rank without a token takes part in the backward pass
    return total, {"loss": total.detach(), **hosted.host_metrics(outcome, weights.sum())}


def configuration(name: str, objective: BaseObjective, hyperparameters: Mapping[str, Any]) -> str:
    """The YAML and, as comments, the flags with which slime trains an objective.

    >>> from geomalign import recipes
    >>> print(configuration("opo", recipes.get("opo"), {}).splitlines()[-1])
    geomalign_objective: opo
    """
    note = hosted.note(objective, "slime")
    lines = [
        "# slime: --loss-type custom_loss --custom-loss-function-path geomalign.adapters.slime.loss",
        "#        --custom-config-path THIS.yaml --advantage-estimator grpo",
        f"geomalign_objective: {hosted.in_one_line(name, hyperparameters)}",
    ]
    if len({term.sampling for term in objective.driven_terms}) == 1:
        lines.insert(2, "#        --custom-reward-post-process-path geomalign.adapters.slime.rewards")
    else:
        lines.insert(0, note)
    return "\n".join(lines) + "\n"


def _objective(args: Any) -> BaseObjective:
    return hosted.objective_of(getattr(args, "geomalign_objective", None) or "opo")


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """`(row, token)`, at least one token wide."""
    padded = pad_sequence(list(rows), batch_first=True)
    return padded if padded.shape[1] else pad(padded, (0, 1))
