"""Training on pairs: those of a table, or correct against incorrect samples of the base, prompt by prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import PreferenceBatch
from geomalign.objective import Outcome
from geomalign.objective.node import policies
from geomalign.tasks import HELD_OUT, draw, held_out, score
from geomalign.tasks.preferences import preferences
from geomalign.training import checkpoint
from geomalign.training.config.settings import OfflineConfig
from geomalign.training.generation import Rollout, evaluate, sample, score_rows
from geomalign.training.pair_tokens import tokenise_pairs
from geomalign.training.policy import Policy
from geomalign.training.prompts import UNTEMPLATED
from geomalign.training.run import Run
from geomalign.training.step import largest_log_ratio, optimizer_step, step_metrics


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Preferred responses and others to the same prompts.

    Args:
        chosen: one row per pair.
        rejected: the same.

    >>> tokens, mask, zeros = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3)
    >>> side = Rollout(tokens, mask, tokens, mask, mask[:, 0], zeros, zeros)
    >>> len(Pairs(side, side))
    2
    """

    chosen: Rollout
    rejected: Rollout

    def __len__(self) -> int:
        return self.chosen.rows


def learn_from_pairs(run: Run) -> None:
    """Epochs over pairs of responses, with the base as reference."""
    settings = run.config.offline
    pairs, validation = _pairs(run)
    reference = run.reference()
    batch, drive = _with_reference(run, reference, pairs)
    of_validation = _with_reference(run, reference, validation) if validation else None
    order: list[Tensor] = []
    for epoch in range(settings.epochs):
        generator = torch.Generator().manual_seed(1000 * run.config.seed + epoch)
        order += torch.randperm(len(pairs), generator=generator).split(settings.batch)
    run.loop(
        len(order),
        lambda: _step(run, pairs, batch, drive, order[run.step]),
        lambda: _validate(run, validation, *of_validation) if validation and of_validation else {},
    )


def _with_reference(run: Run, reference: Policy, pairs: Pairs) -> tuple[PreferenceBatch, Any]:
    """The pairs as the objective sees them under the reference policy, and their drive."""
    settings = run.config.offline
    chosen, rejected = _scored(reference, pairs, settings)
    batch = PreferenceBatch(chosen, rejected, chosen, rejected, pairs.chosen.mask, pairs.rejected.mask)
    return batch, run.objective.drive(batch)


def _scored(policy: Policy, pairs: Pairs, settings: OfflineConfig, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Log-probabilities of both responses of the pairs in `rows`, without gradient."""
    chosen, rejected = (
        score_rows(policy, side[rows], settings.temperature, 2 * settings.batch)
        for side in (pairs.chosen, pairs.rejected)
    )
    return chosen, rejected


def _validate(run: Run, pairs: Pairs, batch: PreferenceBatch, drive: Any) -> dict[str, float]:
    """Loss, margin and share ranked rightly of pairs that are not trained on; each process has its share of them."""
    mine = distributed.share(len(pairs))
    sums = torch.zeros(4, device=batch.chosen.device)
    if mine.start < mine.stop:
        with torch.no_grad():
            now = _with(batch[mine], *_scored(run.policy, pairs, run.config.offline, mine))
            outcome = run.objective(now, drive=run.stiffen(drive[mine]), counts=batch.counts())
        margin = _margins(outcome)
        sums = torch.stack([outcome.loss, margin.sum(), _ahead(margin).sum(), outcome.terms[0].support.sum()]).to(sums)
    loss, margins, right, count = distributed.summed(sums).tolist()
    row = {"loss_held_out": loss}
    if _paired(run):
        row |= {"margin_held_out": margins / count, "preference_accuracy_held_out": right / count}
    return row


def _paired(run: Run) -> bool:
    """Whether one event of the objective is a pair, whose `u` is a margin."""
    return run.objective.terms[0][1].unit.paired


def _margins(outcome: Outcome) -> Tensor:
    """By how much each pair's preferred response is ahead: `u` before the margin that the objective asks for."""
    term = outcome.terms[0]
    return term.u[term.support] + term.objective.unit.margin


def _ahead(margin: Tensor) -> Tensor:
    """Which pairs are ranked rightly: a pair that is tied is not, as under the reference policy every pair is."""
    return margin > 0


def _step(run: Run, pairs: Pairs, batch: PreferenceBatch, drive: Any, rows: Tensor) -> dict[str, float]:
    """One optimiser step on the pairs in `rows`, which is what a controller counts where there is no rollout."""
    settings, policy = run.config.offline, run.policy
    rows = run.placement.put(rows)
    whole, pull = batch[rows], run.stiffen(drive[rows])
    now_chosen, now_rejected = torch.zeros_like(whole.chosen), torch.zeros_like(whole.rejected)
    mine = torch.arange(len(rows), device=rows.device)[distributed.share(len(rows))]
    moved = [now_chosen.new_zeros(())]

    def losses() -> Iterator[Tensor]:
        for part in mine.chunk(settings.accumulation) if len(mine) else ():
            index = rows[part]
            with run.timed("loss"):
                sides = [side[index] for side in (pairs.chosen, pairs.rejected)]
                micro, drive = batch[index], pull[part]
                outcome = evaluate(policy, run.objective, sides, micro, settings.temperature, drive, whole.counts())
                now_chosen[part], now_rejected[part] = policies(outcome.batch)
                run.observe(outcome)
                moved.append(largest_log_ratio(outcome))
            yield outcome.loss

    with run.timed("update"):
        done = optimizer_step(losses(), run.optimizer, policy.parameters, settings.clip_norm, run.timed)
    last = _with(whole, distributed.summed(now_chosen), distributed.summed(now_rejected))
    with torch.no_grad():
        at_anchor, after = (run.objective(pairs_now, drive=pull) for pairs_now in (whole, last))
    row = step_metrics([done], [distributed.largest(torch.stack(moved).max())], at_anchor, after)
    row |= run.end_rollout()
    if _paired(run):
        margin = _margins(after)
        row |= {"margin": float(margin.mean()), "preference_accuracy": float(_ahead(margin).double().mean())}
    return row


def _with(batch: PreferenceBatch, chosen: Tensor, rejected: Tensor) -> PreferenceBatch:
    return dataclasses.replace(batch, chosen=chosen, rejected=rejected)


def _pairs(run: Run) -> tuple[Pairs, Pairs | None]:
    """The pairs of this run, and those held out of it: made once and kept beside its checkpoint."""
    path = run.directory / "pairs.pt"

    def make() -> None:
        if not path.exists():
            make_pairs = sample_pairs if run.config.offline.data is None else table_pairs
            parts = {
                name: pairs and {side: vars(getattr(pairs, side)) for side in ("chosen", "rejected")}
                for name, pairs in zip(("trained", "held_out"), make_pairs(run, run.reference()))
            }
            checkpoint.write_atomically(path, partial(torch.save, parts))

    distributed.on_first(make)
    parts = torch.load(path, map_location=run.config.device, weights_only=True)
    trained, validation = (
        pairs and Pairs(Rollout(**pairs["chosen"]), Rollout(**pairs["rejected"]))
        for pairs in (parts["trained"], parts["held_out"])
    )
    return trained, validation


def table_pairs(run: Run, base: Policy) -> tuple[Pairs, Pairs | None]:
    """The pairs of the configured table, and those whose prompts are held out, at most `task.eval_prompts`.

    Raises:
        ValueError: the table has no valid pair, or every pair is held out or has too long a prompt.
    """
    settings = run.config.offline
    assert settings.data is not None
    found = preferences(settings.data, settings.split)
    trained = [pair for pair in found if not held_out(pair.problem)]
    if not trained:
        raise ValueError(
            f"all {len(found)} pairs of {settings.data} are held out for evaluation, as one prompt in {HELD_OUT} is; "
            "give it more pairs."
        )
    sides, kept = tokenise_pairs(base, trained, settings.max_length)
    if not base.tokenizer.chat_template and any(pair.problem.messages or pair.chosen_messages for pair in kept):
        run.say("chat", UNTEMPLATED)
    limit = min(settings.max_length, base.positions)
    whose = "offline.max_length" if limit == settings.max_length else "the model's positions"
    if len(kept) < len(trained):
        left = len(trained) - len(kept)
        run.say("long", f"{left} of {len(trained)} pairs left out: their prompts fill {whose}, {limit} tokens.")
    cut = sum(int((~s.ended & (s.mask.sum(-1) + s.prompt_mask.sum(-1) == limit)).sum()) for s in sides)
    if cut:
        run.say("cut", f"{cut} of {2 * len(kept)} responses lose their end: they pass {whose}, {limit} tokens.")
    width = min(side.response.shape[1] for side in sides)
    heads = [torch.where(side.mask, side.response, -1) for side in sides]
    alike = (heads[0][:, :width] == heads[1][:, :width]).all(-1) & (sides[0].mask.sum(-1) == sides[1].mask.sum(-1))
    if same := int(alike.sum()):
        run.say("alike", f"{same} of {len(kept)} pairs have two equal responses, which nothing can be learnt from.")
    apart = [pair for pair in found if held_out(pair.problem)][: run.config.task.eval_prompts]
    with contextlib.suppress(ValueError):  # raised where no held-out prompt fits
        return Pairs(*sides), Pairs(*tokenise_pairs(base, apart, settings.max_length)[0]) if apart else None
    return Pairs(*sides), None


def sample_pairs(run: Run, base: Policy) -> tuple[Pairs, Pairs | None]:
    """Pairs of a better and a worse response of the base to one prompt, and pairs of prompts that are held out, of
    which there are an eighth as many.

    Raises:
        ValueError: no prompt had two different rewards.
    """
    settings = run.config.offline
    rng = random.Random(f"{run.config.seed}/pairs")
    generator = run.placement.generator(run.config.seed)
    trained = _sampled(run, base, rng, generator, settings.prompts, False)
    if trained is None:
        raise ValueError(
            f"none of {settings.prompts} prompts had both a better and a worse response among {settings.samples}, so "
            "there are no pairs. Take more samples, an easier level, or a better base."
        )
    return trained, _sampled(run, base, rng, generator, -(-settings.prompts // HELD_OUT), True)


def _sampled(
    run: Run, base: Policy, rng: random.Random, generator: torch.Generator, prompts: int, evaluation: bool
) -> Pairs | None:
    """Pairs of the responses to so many random prompts; None where no prompt had two different rewards."""
    settings, task, levels = run.config.offline, run.task, run.config.task.train_levels
    problems = [draw(task, rng.choice(levels), rng, evaluation) for _ in range(prompts)]
    rollout = sample(
        base,
        [base.ask(problem) for problem in problems],
        samples=settings.samples,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        generator=generator,
    )
    asked = [problem for problem in problems for _ in range(settings.samples)]
    rewards = score(
        task,
        asked,
        rollout.texts(base),
        rollout.ended.tolist(),
        settings.reward_timeout,
        partial(run.say, "unverified"),
    )
    chosen: list[int] = []
    rejected: list[int] = []
    for first in range(0, rollout.rows, settings.samples):
        rows = sorted(
            (row for row in range(first, first + settings.samples) if rewards[row] == rewards[row]),
            key=lambda row: -rewards[row],
        )
        for better, worse in list(zip(rows, reversed(rows)))[: settings.pairs_per_prompt]:
            if rewards[better] > rewards[worse]:
                chosen.append(better)
                rejected.append(worse)
    if not chosen:
        return None
    return Pairs(*(rollout[torch.tensor(rows, device=rollout.mask.device)] for rows in (chosen, rejected)))
