"""The loop: sample a rollout, take the drive of whole groups from it once, then update on it in minibatches.

One code path for one process and many (`torchrun`, `accelerate launch`): prompts are dealt to the ranks; random
numbers, drives, minibatches and normalisers are those of the whole batch; gradients are summed; rank 0 writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.batch import Batch
from geomalign.metrics import metrics as diagnostics
from geomalign.objective import BaseObjective, Objective, Outcome
from geomalign.optimization import Flat
from geomalign.sampling import Advantage
from geomalign.training import checkpoint
from geomalign.training.clock import Clock
from geomalign.training.config import TrainConfig, objective, to_dict
from geomalign.training.events import Event, Interrupted, Progress, silent
from geomalign.training.interrupt import Stop
from geomalign.training.model import Placement, Policy, load, save
from geomalign.training.rollout import Rollout, log_probs, sample
from geomalign.training.tasks import Task, draw, score
from geomalign.training.tasks import build as build_task
from geomalign.training.warmstart import evaluate, warm_start
from geomalign.trust_region import Controlled
from geomalign.unit import Sequence

#: Below this log-ratio of every token, in nats, an update is the on-policy gradient, which all geometries share.
INACTIVE = 1e-4
#: Steps whose mean is reported as the final value of a metric.
LAST = 10


def train(
    config: TrainConfig,
    directory: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    base: Path | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Train one objective and write everything about it into a directory.

    Started by `torchrun` or `accelerate launch` in several processes, they work on one run together, to the weights
    that one process would have reached but for rounding. All of them must see the directory.

    Args:
        config: what to do.
        directory: of the run: `config.json`, `metrics.jsonl`, `model/`, `summary.json`, and the base unless `base` is
            given.
        resume: continue what is there: from the last checkpoint, to the same result as without the interruption; a
            finished run is returned as it is, and an empty directory begins.
        progress: called with an `Event` at every step, in every process.
        base: directory of a base that is there already; None makes or finds it in `directory`.
        name: of the run in events and summary.

    Returns:
        the summary, as written to `summary.json`.

    Raises:
        ValueError: the directory holds another run, or the configuration does not fit its objective, model or task.
        Interrupted: after Ctrl-C, when everything is saved.
        RankLost: another process of the run has ended.
    """
    torch.set_num_threads(config.threads)
    chosen = objective(config.objective, **config.options)
    offline = _offline(config, chosen)
    with distributed.joined(config.device) as device:
        return _train(
            config, chosen, offline, Path(directory), device, resume, progress, base, name or run_name(config)
        )


def _train(
    config: TrainConfig,
    chosen: BaseObjective,
    offline: bool,
    directory: Path,
    device: str,
    resume: bool,
    progress: Progress,
    base: Path | None,
    name: str,
) -> dict[str, Any]:
    ranks = distributed.world_size()
    if not offline and ranks > config.rl.prompts:
        raise ValueError(
            f"rl.prompts is {config.rl.prompts}, but {ranks} processes work on the run; each takes at least one prompt."
        )
    free = ("device", "threads", "gradient_checkpointing")
    distributed.on_first(lambda: claim(directory, to_dict(config), resume, free))
    summary = directory / "summary.json"
    if distributed.on_first(summary.exists):
        done: dict[str, Any] = checkpoint.read_json(summary)
        progress(Event("skipped", name, done["iterations"], done["iterations"], done["final"]))
        return done
    config = dataclasses.replace(config, device=device)
    if base is None:
        base = distributed.on_first(lambda: warm_start(config, directory, progress))
    session = Session(config, chosen, directory, base, name, progress, offline)
    if offline:
        from geomalign.training.offline import learn_from_pairs

        learn_from_pairs(session)
    else:
        learn_from_rewards(session)
    return session.finish(offline)


def run_name(config: TrainConfig) -> str:
    return f"{config.objective.replace(':', '.')}-r{config.rate:g}-s{config.seed}"


def _offline(config: TrainConfig, chosen: BaseObjective) -> bool:
    paired = any(term.unit.paired for _, term in chosen.terms)
    if paired and config.mode == "rl":
        raise ValueError(
            f"{config.objective} compares pairs of responses, so it trains offline; mode is 'rl'. Leave it at 'auto'."
        )
    return paired or config.mode == "offline"


def claim(directory: Path, config: Mapping[str, Any], resume: bool, free: Seq[str] = ()) -> None:
    """Make the directory this configuration's, or make sure that it is.

    Args:
        free: settings that may differ on resuming.

    Raises:
        ValueError: it holds another configuration, or this one and `resume` is false.
    """
    path = directory / "config.json"
    if path.exists():
        if not resume:
            raise ValueError(
                f"{directory} holds a run already; pass resume=True (--resume) to continue it, or choose another one."
            )
        there = checkpoint.read_json(path)
        differing = sorted(key for key in {*there, *config} - set(free) if there.get(key) != config.get(key))
        if differing:
            seen = "; ".join(f"{key}: {there.get(key)} there, {config.get(key)} now" for key in differing)
            raise ValueError(
                f"{directory} holds a run with other settings ({seen}); resume with the same ones, or choose "
                "another directory."
            )
    elif directory.exists() and not resume and any(file.name[0] != "." for file in directory.iterdir()):
        raise ValueError(f"{directory} is not empty and holds no run of this library; choose another directory.")
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(path, config)


# ------------------------------------------------------------------------------------------------- what every run has


class Session:
    """A run at work: policy, optimizer, files, clocks; saved and restored as one.

    Args:
        base: directory of the model it starts from; also its reference policy.
    """

    def __init__(
        self,
        config: TrainConfig,
        chosen: BaseObjective,
        directory: Path,
        base: Path,
        name: str,
        progress: Progress,
        offline: bool,
    ) -> None:
        self.config, self.objective, self.directory, self.base, self.name, self.progress = (
            config,
            chosen,
            directory,
            base,
            name,
            progress,
        )
        self.placement = Placement(config.device, config.dtype, config.gradient_checkpointing)
        self.task: Task = build_task(config.task)
        self.policy = load(base, self.placement)
        self.generator = self.placement.generator(config.seed)
        self.order = torch.Generator().manual_seed(config.seed)
        settings = config.offline if offline else config.rl
        # fused: a quarter of the time of the plain loop, the same update.
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters, lr=config.rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        self.step = 0
        self._saved = directory / "checkpoint.pt"
        self._warned = False
        self._kept = self._restore() if self._saved.exists() else 0
        self._clock = Clock(self.placement)

    def _restore(self) -> int:
        state = checkpoint.load(self._saved)
        self.policy.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.order.set_state(state["order"])
        self.step = state["step"]
        if isinstance(self.objective, Controlled):
            controllers = state["controllers"]
            if len(controllers) != distributed.world_size():
                raise ValueError(
                    f"{self._saved} is of {len(controllers)} processes, each of which has the memory of the controller "
                    f"for its rows; {distributed.world_size()} cannot continue it. Start as many."
                )
            self.objective.controller.load_state_dict(controllers[distributed.rank()])
        return int(state["metrics"])

    def save(self, position: int) -> None:
        """Write the checkpoint with the metrics file's length; on a full disk the run goes on with the one before.

        Called by all ranks, which are in the same state but for a controller's memory; rank 0 writes.
        """
        controllers = []
        if isinstance(self.objective, Controlled):
            controllers = distributed.everyone(self.objective.controller.state_dict())
        if distributed.rank():
            return
        state = {
            "model": self.policy.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.order.get_state(),
            "step": self.step,
            "controllers": controllers,
            "metrics": position,
        }
        try:
            checkpoint.save(self._saved, state)
        except OSError as error:
            self.progress(
                Event(
                    "warning",
                    self.name,
                    self.step,
                    message=f"the checkpoint of step {self.step} could not be written ({error}); the last one is kept.",
                )
            )

    def reference(self) -> Policy:
        """The policy the run starts from, frozen."""
        return load(self.base, self.placement)

    def timed(self, part: str) -> contextlib.AbstractContextManager[None]:
        """Count the time of a block as a part of the step."""
        return self._clock.timed(part)

    def steps(
        self, total: int, eval_every: int, checkpoint_every: int, advance: Callable[[], dict[str, float]]
    ) -> None:
        """Run `advance` until `total` steps are done, with evaluations, metrics, checkpoints and Ctrl-C between
        them.
        """
        self.progress(Event("start", self.name, self.step, total))
        kind = checkpoint.NoMetricsFile if distributed.rank() else checkpoint.MetricsFile
        metrics = kind(self.directory / "metrics.jsonl", self._kept)
        with contextlib.closing(metrics), Stop() as stop:
            if self.step == 0:
                metrics.write({"step": 0, **self._base_accuracy()})
            while self.step < total:
                self._clock.restart()
                began, cpu = time.perf_counter(), time.process_time()
                line = advance()
                self.step += 1
                self.placement.synchronize()
                took = time.perf_counter() - began
                if self.step % eval_every == 0 or self.step == total:
                    with self.timed("evaluation"):
                        prompts = (
                            self.config.task.eval_prompts
                            if self.step == total
                            else self.config.task.eval_interim_prompts
                        )
                        line |= evaluate(self.config, self.policy, self.task, prompts, together=True)
                line |= {f"time/{part}": seconds for part, seconds in self._clock.read().items()}
                line |= {"time/step": took, "time/cpu": time.process_time() - cpu, "memory/peak": self._clock.memory()}
                if "tokens" in line:
                    line["tokens_per_second"] = line["tokens"] / took
                line = {"step": self.step, "rate": self.config.rate, **line}
                metrics.write(line)
                self._warn(line)
                self.progress(Event("step", self.name, self.step, total, line))
                asked = stop.anywhere()
                if asked or (self.step % checkpoint_every == 0 and self.step < total):
                    self.save(metrics.position())
                if asked:
                    raise Interrupted

    def _base_accuracy(self) -> dict[str, float]:
        path = self.base / "warmstart.json"
        if not path.exists():
            return evaluate(self.config, self.policy, self.task, self.config.task.eval_prompts, together=True)
        return {key: value for key, value in checkpoint.read_json(path).items() if key.startswith("accuracy")}

    def _warn(self, line: Mapping[str, float]) -> None:
        if line.get("inactive", 0.0) == 1.0 and not self._warned and self.step > 1:
            self._warned = True
            self.progress(Event("warning", self.name, self.step, message=_INACTIVE))

    def finish(self, offline: bool) -> dict[str, Any]:
        """Save the model, sum the run up, and mark it finished by writing `summary.json` last."""
        result = distributed.on_first(lambda: self._finish(offline))
        self.progress(Event("done", self.name, self.step, self.step, result["final"]))
        return result

    def _finish(self, offline: bool) -> dict[str, Any]:
        save(self.policy, self.directory / "model")
        lines = checkpoint.read_metrics(self.directory / "metrics.jsonl")
        result = summarise(self.config, self.objective, self.name, offline, lines)
        result["parameters"] = sum(p.numel() for p in self.policy.model.parameters())
        checkpoint.write_json(self.directory / "summary.json", result)
        self._saved.unlink(missing_ok=True)
        (self.directory / "error.txt").unlink(missing_ok=True)
        return result


_INACTIVE = (
    "geometry inactive: every update of this run is made at log-ratio 0, where each objective's gradient "
    "is −E[g ∇log π] and no geometry can act. Use more epochs or minibatches a rollout to compare geometries."
)


def slots(term: Any) -> dict[str, str]:
    """What fills each slot of an objective, as text."""
    names = ("unit", "chart", "sampling", "optimization", "measure")
    return {name: repr(getattr(term, name)) for name in names} | {"anchor": str(term.anchor)}


def summarise(
    config: TrainConfig, chosen: BaseObjective, name: str, offline: bool, lines: list[dict[str, float]]
) -> dict[str, Any]:
    """A run in one dictionary, from its metrics alone: so it is the same however often the run was interrupted."""
    work = [line for line in lines if line["step"] > 0]
    evaluations = [line for line in lines if "accuracy_in" in line]

    def mean(key: str) -> float | None:
        values = [line[key] for line in work[-LAST:] if key in line and math.isfinite(line[key])]
        return sum(values) / len(values) if values else None

    keys = dict.fromkeys(key for line in work for key in line)
    skip = ("accuracy", "time/", "memory/", "step", "rate", "tokens")
    final = {key: value for key in keys if not key.startswith(skip) and (value := mean(key)) is not None}
    final |= {key: value for key, value in evaluations[-1].items() if key.startswith("accuracy")}
    time_of = {
        part: sum(line.get(f"time/{part}", 0.0) for line in work)
        for part in ("generation", "scoring", "update", "loss", "backward", "evaluation", "step")
    }
    tokens = sum(line.get("tokens", 0.0) for line in work)
    inactive = [line["inactive"] for line in work if "inactive" in line]
    terms = [{"coefficient": coefficient, **slots(term)} for coefficient, term in chosen.terms]
    return {
        "name": name,
        "objective": config.objective,
        "options": dict(config.options),
        "rate": config.rate,
        "seed": config.seed,
        "mode": "offline" if offline else "rl",
        "slots": terms[0],
        "terms": terms,
        "latex": chosen.latex(),
        "decoupled": chosen.decoupled,
        "locality": chosen.locality.name.lower(),
        "iterations": int(work[-1]["step"]),
        "base": {key: value for key, value in lines[0].items() if key.startswith("accuracy")},
        "final": final,
        "time": {
            **{part: seconds for part, seconds in time_of.items() if part != "step"},
            "total": time_of["step"] + time_of["evaluation"],
        },
        "memory_peak": max((line.get("memory/peak", 0.0) for line in work), default=0.0),
        "cpu_seconds": sum(line.get("time/cpu", 0.0) for line in work),
        "tokens": tokens,
        "tokens_per_second": tokens / time_of["step"] if tokens else None,
        "masked": sum(line.get("masked", 0.0) for line in work),
        "skipped": sum(line.get("skipped", 0.0) for line in work),
        "warnings": [_INACTIVE] if inactive and min(inactive) == 1.0 else [],
    }


# ------------------------------------------------------------------------------------------------- one update


@dataclasses.dataclass(frozen=True)
class Update:
    """What one optimizer step saw: its loss, its gradient norm before clipping, and whether it was left out."""

    loss: float
    norm: float
    skipped: bool


def update(
    losses: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: Seq[torch.nn.Parameter],
    clip_norm: float,
    timed: Callable[[str], contextlib.AbstractContextManager[None]] = lambda part: contextlib.nullcontext(),
) -> Update:
    """One optimizer step on a loss that arrives in parts, one micro-batch after another, on every rank its own.

    The parts add up to the loss exactly, because each was weighted by the whole minibatch's total. A loss or gradient
    that is not finite leaves weights and optimizer as they were. A rank without rows has no part to give, and takes
    part in the sum. The host waits for the device once.

    Args:
        clip_norm: largest gradient norm; 0 does not clip.
        timed: of a run, which counts the time of a block.
    """
    optimizer.zero_grad(set_to_none=True)
    value = torch.zeros_like(parameters[0].detach().sum())
    for part in losses:
        with timed("backward"):
            part.backward()
        value = value + part.detach()
    with timed("backward"):
        distributed.sum_gradients(parameters)
    found = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    loss, norm = torch.stack([distributed.summed(value), found.to(value)]).tolist()
    good = math.isfinite(norm) and math.isfinite(loss)
    if good:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(loss, norm, not good)


#: Reads a response as one event; on sums of log-probabilities its metrics are those of whole responses.
_RESPONSES = Objective(unit=Sequence(), sampling=Advantage(), optimization=Flat())


def update_metrics(
    updates: list[Update], largest: list[Tensor], at_anchor: Outcome, after: Outcome, rows: Batch
) -> dict[str, float]:
    """The metrics of a step's updates.

    Args:
        largest: largest |Δ| of a token in every update.
        at_anchor: the objective on all data of the step with the policy that sampled it.
        after: the same with the log-probabilities that the last pass over the data saw.
        rows: the data with those log-probabilities; has an anchor.
    """
    before, now = diagnostics(at_anchor), diagnostics(after)
    support = rows.support
    policy, anchor = (rows.log_probs(name, "the trainer").sum(-1) for name in ("policy", "anchor"))
    whole = Batch(policy, anchor, support.any(-1), advantage=torch.zeros_like(policy))
    whole_metrics = diagnostics(_RESPONSES(whole))
    drive = at_anchor.drive[at_anchor.support]
    span = drive.max() - drive.min() if drive.numel() else at_anchor.loss.new_zeros(())
    moved = torch.stack(largest)
    values = {
        "drive_range": span,
        "drive_std": before["drive_std"],
        "stiffness": before["stiffness"],
        "kl": whole_metrics["kl"],
        "chi2": whole_metrics["chi2"],
        "ess": whole_metrics["ess"],
        "token_kl": now["kl"],
        "clip_fraction": now["clip_fraction"],
        "gap": now["gap"],
        "log_ratio_max": moved[-1],
        "inactive": (moved < INACTIVE).to(span).mean(),
    }
    line = dict(zip(values, torch.stack([value.to(span) for value in values.values()]).tolist()))
    kept = [entry for entry in updates if not entry.skipped] or updates
    line["loss"] = sum(entry.loss for entry in kept) / len(kept)
    line["grad_norm"] = sum(entry.norm for entry in kept) / len(kept)
    line["grad_norm_max"] = max(entry.norm for entry in kept)
    line["skipped"] = float(len(updates) - sum(not entry.skipped for entry in updates))
    if line["drive_range"] > 0:
        line["grad_per_range"] = line["grad_norm"] / line["drive_range"]
    return {key: value for key, value in line.items() if math.isfinite(value)}


# ---------------------------------------------------------------------- reinforcement learning


def learn_from_rewards(session: Session) -> None:
    """Iterations of rollout and update, until the configuration's number is done."""
    settings = session.config.rl
    anchored = any(term.anchor == "reference" for _, term in session.objective.terms)
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
        drive = session.objective.drive(whole)
    if isinstance(session.objective, Controlled):
        _check_agreement(session.objective)
    with session.timed("update"):
        line = _updates(session, rollout, whole, rows, drive)
    if isinstance(session.objective, Controlled):
        readings = session.objective.controller.readings()
        line |= {f"controller_{name}": float(value) for name, value in readings.items()}
    return {**_rollout_metrics(rollout, rewards, rows, settings.prompts, settings.samples), **line}


def _check_agreement(objective: Controlled) -> None:
    stiffness = distributed.everyone(float(objective.controller.stiffness))
    if len(set(stiffness)) > 1:
        raise ValueError(
            f"{objective.controller!r} has a stiffness of its own on every rank ({stiffness}), because it saw only the "
            "rows of its rank: give it reduce=geomalign.distributed.summed."
        )


def _rows(session: Session) -> int:
    """Rows of one forward pass with gradients, on average; passes without take as many."""
    settings = session.config.rl
    parts = settings.minibatches * settings.accumulation * distributed.world_size()
    return max(-(-settings.prompts * settings.samples // parts), 1)


@torch.no_grad()
def score_rows(policy: Policy, rollout: Rollout, temperature: float, rows: int) -> Tensor:
    """`log_probs` of all rows, `rows` at a time, without gradient."""
    return torch.cat(
        [log_probs(policy, rollout[start : start + rows], temperature) for start in range(0, rollout.rows, rows)]
    )


def batch_of(rollout: Rollout, rewards: Tensor, samples: int, anchor: Tensor, reference: Tensor | None = None) -> Batch:
    """The rollout as the objective sees it. A response whose reward is NaN is masked: it is in no group and has no
    gradient.
    """
    known = ~rewards.isnan()
    return Batch(
        policy=anchor,
        anchor=anchor,
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
            total = whole[session.placement.put(minibatch)].total()
            mine = minibatch[(minibatch >= rows.start) & (minibatch < rows.stop)] - rows.start
            moved = [seen.new_zeros(())]

            def parts(mine: Tensor = mine, total: Any = total, moved: list[Tensor] = moved) -> Iterator[Tensor]:
                for part in mine.chunk(settings.accumulation) if len(mine) else ():
                    part = session.placement.put(part)
                    with session.timed("loss"):
                        now = log_probs(policy, rollout[part], settings.temperature)
                        seen[part] = now.detach()
                        outcome = chosen(dataclasses.replace(batch[part], policy=now), drive=pull[part], total=total)
                        moved.append(largest_log_ratio(outcome))
                    yield outcome.loss

            done = update(parts(), session.optimizer, policy.parameters, settings.clip_norm, session.timed)
            updates.append(done)
            largest.append(torch.stack(moved).max())
    largest = list(distributed.largest(torch.stack(largest)).unbind())
    last = distributed.gather(dataclasses.replace(batch, policy=seen), local_groups=True).batch
    with torch.no_grad():
        return update_metrics(updates, largest, chosen(whole, drive=drive), chosen(last, drive=drive), last)


def largest_log_ratio(outcome: Outcome) -> Tensor:
    """Largest |Δ| of a token from the policy that sampled it; infinite where that policy is not known."""
    if outcome.token_log_ratio is None:
        return outcome.loss.new_full((), math.inf)
    return torch.where(outcome.mask, outcome.token_log_ratio.abs(), 0).amax()


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
