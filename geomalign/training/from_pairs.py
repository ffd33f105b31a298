"""Learning from pairs: those of a table, or correct against incorrect samples of the base, prompt by prompt."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import PreferenceBatch
from geomalign.objective import Outcome
from geomalign.tasks import HELD_OUT, draw, held_out, score
from geomalign.tasks.preferences import preferences
from geomalign.training import checkpoint
from geomalign.training.events import Event
from geomalign.training.generation import Rollout, log_probs, sample, score_rows
from geomalign.training.pair_tokens import tokenised
from geomalign.training.policy import Policy
from geomalign.training.run import Session
from geomalign.training.step import Update, largest_log_ratio, update, update_metrics
from geomalign.unit import Pair


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
    pairs, held = _pairs(session)
    reference = session.reference()
    batch, drive = _with_reference(session, reference, pairs)
    of_held = _with_reference(session, reference, held) if held else None
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
        lambda: _validate(session, held, *of_held) if held and of_held else {},
    )


def _with_reference(session: Session, reference: Policy, pairs: Pairs) -> tuple[PreferenceBatch, Any]:
    """The pairs as the objective sees them under the reference policy, and their drive."""
    settings = session.config.offline
    chosen, rejected = (
        score_rows(reference, side, settings.temperature, 2 * settings.batch) for side in (pairs.chosen, pairs.rejected)
    )
    batch = PreferenceBatch(chosen, rejected, chosen, rejected, pairs.chosen.mask, pairs.rejected.mask)
    return batch, session.objective.drive(batch)


def _validate(session: Session, pairs: Pairs, batch: PreferenceBatch, drive: Any) -> dict[str, float]:
    """Loss, margin and share ranked rightly of pairs that are not trained on; each rank has its share of them."""
    settings, mine = session.config.offline, distributed.share(len(pairs))
    sums = torch.zeros(4, device=batch.chosen.device)
    if mine.start < mine.stop:
        with torch.no_grad():
            chosen, rejected = (
                score_rows(session.policy, side[mine], settings.temperature, 2 * settings.batch)
                for side in (pairs.chosen, pairs.rejected)
            )
            now, pull = _with(batch[mine], chosen, rejected), session.stiffen(drive[mine])
            outcome = session.objective(now, drive=pull, counts=batch.counts())
        margin = _margins(session, outcome)
        sums = torch.stack([outcome.loss, margin.sum(), (margin > 0).sum(), outcome.terms[0].support.sum()]).to(sums)
    loss, margins, right, count = distributed.summed(sums).tolist()
    line = {"loss_held_out": loss}
    if _paired(session):
        line |= {"margin_held_out": margins / count, "preference_accuracy_held_out": right / count}
    return line


def _paired(session: Session) -> bool:
    """Whether one event of the objective is a pair, whose `u` is a margin."""
    return session.objective.terms[0][1].unit.paired


def _margins(session: Session, outcome: Outcome) -> Tensor:
    """By how much each pair's preferred response is ahead: `u` before the margin that the objective asks for."""
    unit = session.objective.terms[0][1].unit
    return outcome.terms[0].u[outcome.terms[0].support] + (unit.margin if isinstance(unit, Pair) else 0.0)


def _step(session: Session, pairs: Pairs, batch: PreferenceBatch, drive: Any, rows: Tensor) -> dict[str, float]:
    settings, policy = session.config.offline, session.policy
    rows = session.placement.put(rows)
    whole, pull = batch[rows], session.stiffen(drive[rows])
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
                outcome = session.objective(micro, drive=pull[part], counts=whole.counts())
                if session.controller is not None:
                    session.controller.observe(outcome)
                moved.append(largest_log_ratio(outcome))
            yield outcome.loss

    with session.timed("update"):
        done: Update = update(parts(), session.optimizer, policy.parameters, settings.clip_norm, session.timed)
    last = _with(whole, distributed.summed(now_chosen), distributed.summed(now_rejected))
    with torch.no_grad():
        at_anchor, after = (session.objective(pairs_now, drive=pull) for pairs_now in (whole, last))
    if session.controller is not None:  # without rollouts, an optimizer step is what a controller counts
        session.controller.step()
    line = update_metrics([done], [distributed.largest(torch.stack(moved).max())], at_anchor, after)
    if session.controller is not None:
        line |= {f"controller_{name}": float(value) for name, value in session.controller.readings().items()}
    if _paired(session):
        margin = _margins(session, after)
        line |= {"margin": float(margin.mean()), "preference_accuracy": float((margin > 0).double().mean())}
    return line


def _with(batch: PreferenceBatch, chosen: Tensor, rejected: Tensor) -> PreferenceBatch:
    return PreferenceBatch(
        chosen, rejected, batch.reference_chosen, batch.reference_rejected, batch.chosen_mask, batch.rejected_mask
    )


def _pairs(session: Session) -> tuple[Pairs, Pairs | None]:
    """The pairs of this run, and those held out of it: made once and kept beside its checkpoint."""
    path = session.directory / "pairs.pt"

    def make() -> None:
        if not path.exists():
            make_pairs = sample_pairs if session.config.offline.data is None else table_pairs
            parts = {
                name: pairs and {side: vars(getattr(pairs, side)) for side in ("chosen", "rejected")}
                for name, pairs in zip(("trained", "held_out"), make_pairs(session, session.reference()))
            }
            checkpoint.write_atomically(path, partial(torch.save, parts))

    distributed.on_first(make)
    parts = torch.load(path, map_location=session.config.device, weights_only=True)
    trained, held = (
        pairs and Pairs(Rollout(**pairs["chosen"]), Rollout(**pairs["rejected"]))
        for pairs in (parts["trained"], parts["held_out"])
    )
    return trained, held


def table_pairs(session: Session, base: Policy) -> tuple[Pairs, Pairs | None]:
    """The pairs of the configured table, and those whose prompts are held out, at most `task.eval_prompts`.

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
    apart = [pair for pair in found if held_out(pair.problem)][: session.config.task.eval_prompts]
    with contextlib.suppress(ValueError):  # of none that fits
        return Pairs(*sides), Pairs(*tokenised(base, apart, settings.max_length)[0]) if apart else None
    return Pairs(*sides), None


def sample_pairs(session: Session, base: Policy) -> tuple[Pairs, Pairs | None]:
    """Sample responses of the base and pair the better with the worse ones of the same prompt; an eighth as many
    prompts are held out.

    Raises:
        ValueError: if no prompt had two different rewards.
    """
    settings = session.config.offline
    rng = random.Random(f"{session.config.seed}/pairs")
    generator = session.placement.generator(session.config.seed)
    trained = _sampled(session, base, rng, generator, settings.prompts, False)
    if trained is None:
        raise ValueError(
            f"none of {settings.prompts} prompts had both a better and a worse response among {settings.samples}, so "
            "there are no pairs. Take more samples, an easier tier, or a better base."
        )
    return trained, _sampled(session, base, rng, generator, -(-settings.prompts // HELD_OUT), True)


def _sampled(
    session: Session, base: Policy, rng: random.Random, generator: torch.Generator, prompts: int, evaluation: bool
) -> Pairs | None:
    settings, task, tiers = session.config.offline, session.task, session.config.task.train_tiers
    problems = [draw(task, rng.choice(tiers), rng, evaluation) for _ in range(prompts)]
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
        return None
    return Pairs(*(rollout[torch.tensor(rows, device=rollout.mask.device)] for rows in (chosen, rejected)))
