"""Learning from rewards: sample a rollout, take the drive of whole groups from it once, update on it in minibatches.

One code path for one process and many (`torchrun`, `accelerate launch`): prompts are dealt to the ranks; random
numbers, drives, minibatches and normalisers are those of the whole batch; gradients are summed; rank 0 writes.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import Batch
from geomalign.tasks import draw, score
from geomalign.training.generation import Rollout, log_probs, sample, score_rows
from geomalign.training.policy import Policy
from geomalign.training.run import Session
from geomalign.training.step import Update, largest_log_ratio, update, update_metrics


def learn_from_rewards(session: Session) -> None:
    """Iterations of rollout and update, until the configuration's number is done."""
    settings = session.config.rl
    anchored = session.objective.needs_reference
    reference = session.reference() if anchored else None
    session.steps(
        settings.iterations, settings.eval_every, settings.checkpoint_every, lambda: iteration(session, reference)
    )


def iteration(session: Session, reference: Policy | None) -> dict[str, float]:
    """One rollout and the updates on it; returns the step's metrics."""
    settings, policy = session.config.rl, session.policy
    mine = distributed.share(settings.prompts)
    rows = slice(mine.start * settings.samples, mine.stop * settings.samples)
    rng = random.Random(f"{session.config.seed}/prompts/{session.step}")
    problems = [draw(session.task, rng.choice(session.config.task.train_tiers), rng) for _ in range(settings.prompts)]
    problems = problems[mine]
    with session.timed("generation"):
        # Every rank draws the noise of the whole rollout, so that generators stay equal and a row is what it would be
        # on one process.
        shape = (settings.prompts * settings.samples, settings.max_new_tokens)
        noise = torch.rand(shape, generator=session.generator, device=session.placement.device)
        rollout = sample(
            policy,
            [policy.ask(problem) for problem in problems],
            samples=settings.samples,
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            noise=noise[rows],
        )
        rollout = rollout.padded(int(distributed.largest(torch.tensor(rollout.response.shape[1]))))
    with session.timed("scoring"):
        asked = [problem for problem in problems for _ in range(settings.samples)]
        scores = score(session.task, asked, rollout.texts(policy), rollout.ended.tolist(), settings.reward_timeout)
        rewards = session.placement.put(torch.tensor(scores, dtype=torch.float32))
        batch = batch_of(
            rollout,
            rewards,
            settings.samples,
            *(score_rows(p, rollout, settings.temperature, _rows(session)) for p in (policy, reference) if p),
        )
        whole = distributed.gather(batch, local_groups=True).batch
        drive = session.stiffen(session.objective.drive(whole))
    with session.timed("update"):
        line = _updates(session, rollout, whole, rows, drive)
    if session.controller is not None:
        session.controller.step()
        readings = session.controller.readings()
        line |= {f"controller_{name}": float(value) for name, value in readings.items()}
    return {**_rollout_metrics(rollout, rewards, rows, settings.prompts, settings.samples), **line}


def _rows(session: Session) -> int:
    """Rows of one forward pass with gradients, on average; passes without take as many."""
    settings = session.config.rl
    parts = settings.minibatches * settings.accumulation * distributed.world_size()
    return max(-(-settings.prompts * settings.samples // parts), 1)


def batch_of(rollout: Rollout, rewards: Tensor, samples: int, anchor: Tensor, reference: Tensor | None = None) -> Batch:
    """The rollout as the objective sees it. A response whose reward is NaN is masked: it is in no group and has no
    gradient.
    """
    known = ~rewards.isnan()
    return Batch(
        policy=anchor,
        old=anchor,
        mask=rollout.mask & known[:, None],
        reward=torch.where(known, rewards, 0.0),
        reference=reference,
        group=torch.arange(rollout.rows, device=rewards.device) // samples,
        behavior=rollout.log_prob,
    )


def _updates(session: Session, rollout: Rollout, whole: Batch, rows: slice, drive: Any) -> dict[str, float]:
    """The updates on a rollout.

    Args:
        rollout: this rank's rows of it.
        whole: all ranks' rows, and `rows` which of them are this rank's.
        drive: of the whole.
    """
    settings, policy, chosen = session.config.rl, session.policy, session.objective
    batch, pull = whole[rows], drive[rows]
    seen = batch.policy.clone()
    updates: list[Update] = []
    largest: list[Tensor] = []
    for _ in range(settings.epochs):
        for minibatch in torch.randperm(whole.size, generator=session.order).chunk(settings.minibatches):
            counts = whole[session.placement.put(minibatch)].counts()
            mine = minibatch[(minibatch >= rows.start) & (minibatch < rows.stop)] - rows.start
            moved = [seen.new_zeros(())]

            def parts(mine: Tensor = mine, counts: Any = counts, moved: list[Tensor] = moved) -> Iterator[Tensor]:
                for part in mine.chunk(settings.accumulation) if len(mine) else ():
                    part = session.placement.put(part)
                    with session.timed("loss"):
                        now = log_probs(policy, rollout[part], settings.temperature)
                        seen[part] = now.detach()
                        outcome = chosen(dataclasses.replace(batch[part], policy=now), drive=pull[part], counts=counts)
                        if session.controller is not None:
                            session.controller.observe(outcome)
                        moved.append(largest_log_ratio(outcome))
                    yield outcome.loss

            done = update(parts(), session.optimizer, policy.parameters, settings.clip_norm, session.timed)
            updates.append(done)
            largest.append(torch.stack(moved).max())
    largest = list(distributed.largest(torch.stack(largest)).unbind())
    last = distributed.gather(dataclasses.replace(batch, policy=seen), local_groups=True).batch
    with torch.no_grad():
        return update_metrics(updates, largest, chosen(whole, drive=drive), chosen(last, drive=drive), last)


def _rollout_metrics(rollout: Rollout, rewards: Tensor, rows: slice, prompts: int, samples: int) -> dict[str, float]:
    """The metrics of the whole rollout from this rank's rows."""
    everywhere = rewards.new_zeros(prompts * samples)
    everywhere[rows] = rewards
    rewards = distributed.summed(everywhere)
    known = rewards[~rewards.isnan()].double()
    groups = torch.nan_to_num(rewards).view(-1, samples)
    counts = torch.stack([rollout.mask.sum(), (~rollout.ended).sum(), rollout.entropy.sum()])
    tokens, unended, entropy = distributed.summed(counts).tolist()
    line = {
        "response_length": tokens / len(rewards),
        "truncated": unended / len(rewards),
        "entropy": entropy / max(tokens, 1),
        "zero_groups": float((groups.amax(-1) == groups.amin(-1)).double().mean()),
        "masked": float(rewards.isnan().sum()),
        "tokens": tokens,
    }
    if known.numel():
        line = {"reward": float(known.mean()), "reward_std": float(known.std(correction=0)), **line}
    return line
