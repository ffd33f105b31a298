"""Learning from pairs: those of a table, or correct against incorrect samples of the base, prompt by prompt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import PreferenceBatch
from geomalign.training import checkpoint
from geomalign.training.events import Event
from geomalign.training.model import Policy
from geomalign.training.rollout import Rollout, log_probs, sample, score_rows
from geomalign.training.session import Session
from geomalign.training.tables import tokenised
from geomalign.training.tasks import draw, held_out, score
from geomalign.training.tasks.preferences import preferences
from geomalign.training.update import Update, largest_log_ratio, update, update_metrics


@dataclass(frozen=True)
class Pairs:
    """Preferred and other responses to the same prompts, `(pairs, …)` each."""

    chosen: Rollout
    rejected: Rollout

    def __len__(self) -> int:
        return self.chosen.rows


def learn_from_pairs(session: Session) -> None:
    """Epochs over pairs of responses, with the base as reference."""
    settings = session.config.offline
    pairs = _pairs(session)
    reference = session.reference()
    chosen, rejected = (
        score_rows(reference, side, settings.temperature, 2 * settings.batch) for side in (pairs.chosen, pairs.rejected)
    )
    batch = PreferenceBatch(chosen, rejected, chosen, rejected, pairs.chosen.mask, pairs.rejected.mask)
    drive = session.objective.drive(batch)
    per_epoch = -(-len(pairs) // settings.batch)
    order = [
        rows
        for epoch in range(settings.epochs)
        for rows in torch.randperm(
            len(pairs), generator=torch.Generator().manual_seed(1000 * session.config.seed + epoch)
        ).split(settings.batch)
    ]
    session.steps(
        settings.epochs * per_epoch,
        settings.eval_every,
        settings.checkpoint_every,
        lambda: _step(session, pairs, batch, drive, order[session.step]),
    )


def _step(session: Session, pairs: Pairs, batch: PreferenceBatch, drive: Any, rows: Tensor) -> dict[str, float]:
    settings, policy = session.config.offline, session.policy
    rows = session.placement.put(rows)
    whole = batch[rows]
    now_chosen, now_rejected = torch.zeros_like(whole.chosen), torch.zeros_like(whole.rejected)
    mine = torch.arange(len(rows), device=rows.device)[distributed.share(len(rows))]
    moved = [now_chosen.new_zeros(())]

    def parts() -> Iterator[Tensor]:
        for part in mine.chunk(settings.accumulation) if len(mine) else ():
            index = rows[part]
            with session.timed("loss"):
                chosen, rejected = (
                    log_probs(policy, side[index], settings.temperature) for side in (pairs.chosen, pairs.rejected)
                )
                now_chosen[part], now_rejected[part] = chosen.detach(), rejected.detach()
                micro = _with(batch[index], chosen, rejected)
                outcome = session.objective(micro, drive=drive[index], total=whole.total())
                moved.append(largest_log_ratio(outcome))
            yield outcome.loss

    with session.timed("update"):
        done: Update = update(parts(), session.optimizer, policy.parameters, settings.clip_norm, session.timed)
    last = _with(whole, distributed.summed(now_chosen), distributed.summed(now_rejected))
    with torch.no_grad():
        at_anchor, after = (session.objective(pairs_now, drive=drive[rows]) for pairs_now in (whole, last))
    line = update_metrics([done], [distributed.largest(torch.stack(moved).max())], at_anchor, after, last.rows)
    if session.objective.terms[0][1].unit.paired:
        margin = after.u[after.support]
        line |= {"margin": float(margin.mean()), "preference_accuracy": float((margin > 0).double().mean())}
    return line


def _with(batch: PreferenceBatch, chosen: Tensor, rejected: Tensor) -> PreferenceBatch:
    return PreferenceBatch(
        chosen, rejected, batch.reference_chosen, batch.reference_rejected, batch.chosen_mask, batch.rejected_mask
    )


def _pairs(session: Session) -> Pairs:
    """The pairs of this run: made once and kept beside its checkpoint."""
    path = session.directory / "pairs.pt"

    def make() -> None:
        if not path.exists():
            make_pairs = sample_pairs if session.config.offline.data is None else table_pairs
            pairs = make_pairs(session, session.reference())
            sides = {name: vars(getattr(pairs, name)) for name in ("chosen", "rejected")}
            checkpoint.write_atomically(path, partial(torch.save, sides))

    distributed.on_first(make)
    sides = torch.load(path, map_location=session.config.device, weights_only=True)
    return Pairs(Rollout(**sides["chosen"]), Rollout(**sides["rejected"]))


def table_pairs(session: Session, base: Policy) -> Pairs:
    """The pairs of the configured table, without those whose prompts are held out.

    Raises:
        ValueError: the table is not as it must be, or leaves no pair.
    """
    settings = session.config.offline
    assert settings.data is not None
    found = preferences(settings.data, settings.split)
    trained = [pair for pair in found if not held_out(pair.problem)]
    if not trained:
        raise ValueError(f"all {len(found)} pairs of {settings.data} are held out for evaluation; it needs more.")
    sides, kept = tokenised(base, trained, settings.max_length)
    if len(kept) < len(trained):
        message = f"{len(trained) - len(kept)} of {len(trained)} pairs left out: their prompts fill offline.max_length."
        session.progress(Event("warning", session.name, message=message))
    return Pairs(*sides)


def sample_pairs(session: Session, base: Policy) -> Pairs:
    """Sample responses of the base and pair the better with the worse ones of the same prompt.

    Raises:
        ValueError: if no prompt had two different rewards.
    """
    settings, task, seed = session.config.offline, session.task, session.config.seed
    rng = random.Random(f"{seed}/pairs")
    generator = session.placement.generator(seed)
    problems = [draw(task, rng.choice(session.config.task.train_tiers), rng) for _ in range(settings.prompts)]
    rollout = sample(
        base,
        [base.ask(problem) for problem in problems],
        samples=settings.samples,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        generator=generator,
    )
    asked = [problem for problem in problems for _ in range(settings.samples)]
    rewards = score(task, asked, rollout.texts(base), rollout.ended.tolist(), settings.reward_timeout)
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
        raise ValueError(
            f"none of {settings.prompts} prompts had both a better and a worse response among {settings.samples}, so "
            "there are no pairs. Take more samples, an easier tier, or a better base."
        )
    return Pairs(*(rollout[torch.tensor(rows, device=rollout.mask.device)] for rows in (chosen, rejected)))
