"""Training on rewards: sample a rollout, take the drive of whole groups from it once, take optimiser steps on it.

One code path for one process and many (`torchrun`, `accelerate launch`): prompts are dealt to the processes; random
numbers, drives, minibatches and normalisers are those of the whole batch; gradients are summed; rank 0 writes.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import Batch, Counts
from geomalign.nonfinite import drop_nonfinite
from geomalign.tasks import draw, score
from geomalign.training.generation import Rollout, evaluate, sample, score_rows
from geomalign.training.policy import Policy
from geomalign.training.run import Run
from geomalign.training.step import OptimizerStep, largest_log_ratio, optimizer_step, step_metrics


def learn_from_rewards(run: Run) -> None:
    """Iterations of a rollout and the optimiser steps on it, until the configuration's number is done."""
    reference = run.reference() if run.objective.needs_reference else None
    run.loop(run.config.rl.iterations, lambda: iteration(run, reference))


def iteration(run: Run, reference: Policy | None) -> dict[str, float]:
    """One rollout and the optimiser steps on it.

    Args:
        reference: the policy that a KL penalty is measured from; None where the objective needs none.

    Returns:
        the metrics of the step.
    """
    settings = run.config.rl
    mine = distributed.share(settings.prompts)
    rows = slice(mine.start * settings.samples, mine.stop * settings.samples)
    rng = random.Random(f"{run.config.seed}/prompts/{run.step}")
    problems = [draw(run.task, rng.choice(run.config.task.train_levels), rng) for _ in range(settings.prompts)]
    problems = problems[mine]
    with run.timed("generation"):
        rollout = _rollout(run, [run.policy.ask(problem) for problem in problems], rows)
    with run.timed("scoring"):
        asked = [problem for problem in problems for _ in range(settings.samples)]
        texts, ended, told = rollout.texts(run.policy), rollout.ended.tolist(), list[str]()
        scores = score(run.task, asked, texts, ended, settings.reward_timeout, told.append)
        run.unverified(told)
        rewards = run.placement.put(torch.tensor(scores, dtype=torch.float32))

        # With one step per rollout the policy that is updated is the one that sampled, and scores itself in that step.
        def scored(policy: Policy) -> Tensor:
            return score_rows(policy, rollout, settings.temperature, _rows_at_once(run))

        log_p = (
            rollout.log_prob if _one_step(run) else scored(run.policy),
            None if reference is None else scored(reference),
        )
        whole = distributed.gather(batch_of(rollout, rewards, settings.samples, *log_p), local_groups=True).batch
        whole, report = drop_nonfinite(whole)
        dropped = report.message()
        if dropped:
            report.refuse_nothing_left(dropped)
            run.say("nonfinite", dropped)
        drive = run.stiffen(run.objective.drive(whole))
    with run.timed("update"):
        row = _optimizer_steps(run, rollout, whole, rows, drive)
    row |= run.end_rollout()
    if dropped:
        row["nonfinite_tokens"] = float(report.metrics()["nonfinite_tokens"])
    return {**_rollout_metrics(rollout, rewards, rows, settings.prompts, settings.samples), **row}


def _rollout(run: Run, prompts: list[str], rows: slice) -> Rollout:
    """Responses to this process's prompts, padded to the longest response of all processes."""
    settings = run.config.rl
    # Every process draws the noise of the whole rollout, so that generators stay equal and a row is what it would be in
    # one process.
    shape = (settings.prompts * settings.samples, settings.max_new_tokens)
    noise = torch.rand(shape, generator=run.generator, device=run.placement.device)
    rollout = sample(
        run.policy,
        prompts,
        samples=settings.samples,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        noise=noise[rows],
    )
    return rollout.padded(int(distributed.largest(torch.tensor(rollout.response.shape[1]))))


def _one_step(run: Run) -> bool:
    return run.config.rl.epochs * run.config.rl.minibatches == 1


def _rows_at_once(run: Run) -> int:
    """Rows of one forward pass with gradients, on average; passes without gradients take as many."""
    settings = run.config.rl
    parts = settings.minibatches * settings.accumulation * distributed.world_size()
    return max(-(-settings.prompts * settings.samples // parts), 1)


def batch_of(rollout: Rollout, rewards: Tensor, samples: int, old: Tensor, reference: Tensor | None = None) -> Batch:
    """The rollout as the objective sees it.

    A response whose reward is not finite is masked: it is in no group and has no gradient.

    Args:
        rewards: `(rows,)`.
        samples: responses per prompt.
        old: `(rows, token)` log-probabilities of the policy that sampled, as the trainer computes them; the sampler's
            where the trainer computes them in its only step.
        reference: the same of the reference policy.

    >>> tokens, mask, zeros = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3)
    >>> rollout = Rollout(tokens, mask, tokens, mask, mask[:, 0], zeros, zeros)
    >>> batch_of(rollout, torch.tensor([1.0, float("nan")]), samples=2, old=zeros).support.any(-1)
    tensor([ True, False])
    """
    known = rewards.isfinite()
    return Batch(
        policy=old,
        old=old,
        mask=rollout.mask & known[:, None],
        reward=torch.where(known, rewards, 0.0),
        reference=reference,
        group=torch.arange(rollout.rows, device=rewards.device) // samples,
        behavior=rollout.log_prob,
    )


def _optimizer_steps(run: Run, rollout: Rollout, whole: Batch, rows: slice, drive: Any) -> dict[str, float]:
    """The optimiser steps on a rollout.

    Args:
        rollout: this process's rows of it.
        whole: all processes' rows, and `rows` which of them are this process's.
        drive: of the whole.
    """
    settings, objective = run.config.rl, run.objective
    mine = _Mine(run, rollout, whole[rows], drive[rows])
    steps: list[OptimizerStep] = []
    largest: list[Tensor] = []
    for _ in range(settings.epochs):
        for minibatch in _parts(run, torch.arange(whole.size), settings.minibatches, run.order):
            counts = whole[run.placement.put(minibatch)].counts()
            own = minibatch[(minibatch >= rows.start) & (minibatch < rows.stop)] - rows.start
            moved = [mine.seen.new_zeros(())]
            losses = mine.losses(own, counts, moved)
            steps.append(optimizer_step(losses, run.optimizer, run.policy.parameters, settings.clip_norm, run.timed))
            largest.append(torch.stack(moved).max())
    largest = list(distributed.largest(torch.stack(largest)).unbind())
    old = mine.seen if _one_step(run) else mine.batch.old
    last = distributed.gather(dataclasses.replace(mine.batch, policy=mine.seen, old=old), local_groups=True).batch
    with torch.no_grad():
        return step_metrics(steps, largest, objective(whole, drive=drive), objective(last, drive=drive), last)


def _parts(run: Run, rows: Tensor, count: int, shuffled: torch.Generator | None = None) -> Iterator[Tensor]:
    """Rows in parts, of whole groups where a term couples the responses to a prompt; shuffled, or as they are."""
    coupled = any(term.coupling is not None for _, term in run.objective.terms)
    groups = rows.view(-1, run.config.rl.samples if coupled else 1)
    if shuffled is not None:
        groups = groups[torch.randperm(len(groups), generator=shuffled)]
    return (part.flatten() for part in groups.chunk(count))


class _Mine:
    """This process's rows of a rollout, with the log-probabilities that the last pass over each of them `seen`."""

    def __init__(self, run: Run, rollout: Rollout, batch: Batch, drive: Any) -> None:
        self.run, self.rollout, self.batch, self.drive = run, rollout, batch, drive
        self.seen = batch.policy.clone()

    def losses(self, rows: Tensor, counts: Counts, moved: list[Tensor]) -> Iterator[Tensor]:
        """The loss of one micro-batch of `rows` after another; `moved` takes the largest |Δ| of each."""
        run, settings = self.run, self.run.config.rl
        for part in _parts(run, rows, settings.accumulation) if len(rows) else ():
            part = run.placement.put(part)
            with run.timed("loss"):
                batch, drive = self.batch[part], self.drive[part]
                rollout = self.rollout[part]
                outcome = evaluate(
                    run.policy, run.objective, [rollout], batch, settings.temperature, drive, counts, _one_step(run)
                )
                self.seen[part] = outcome.batch.rows.policy
                run.observe(outcome)
                moved.append(largest_log_ratio(outcome))
            yield outcome.loss


def _rollout_metrics(rollout: Rollout, rewards: Tensor, rows: slice, prompts: int, samples: int) -> dict[str, float]:
    """The metrics of the whole rollout from this process's rows."""
    everywhere = rewards.new_zeros(prompts * samples)
    everywhere[rows] = rewards
    rewards = distributed.summed(everywhere)
    known = rewards[~rewards.isnan()].double()
    # A response without a reward is in no group, so it makes no difference between the others.
    groups = torch.where(rewards.isnan(), torch.tensor([-math.inf, math.inf])[:, None].to(rewards), rewards)
    best, worst = groups.view(2, -1, samples)[0].amax(-1), groups.view(2, -1, samples)[1].amin(-1)
    counts = torch.stack([rollout.mask.sum(), (~rollout.ended).sum(), rollout.entropy.sum()])
    tokens, unended, entropy = distributed.summed(counts).tolist()
    row = {
        "response_length": tokens / len(rewards),
        "truncated": unended / len(rewards),
        "entropy": entropy / max(tokens, 1),
        "zero_groups": float((best <= worst).double().mean()),
        "masked": float(rewards.isnan().sum()),
        "tokens": tokens,
    }
    if known.numel():
        row = {"reward": float(known.mean()), "reward_std": float(known.std(correction=0)), **row}
    return row
