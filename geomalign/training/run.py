"""What every run has: policy, optimizer, files and clocks, saved and restored as one; and its summary."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from geomalign import distributed
from geomalign.control import Controller
from geomalign.objective import BaseObjective
from geomalign.tasks import Task
from geomalign.tasks import build as build_task
from geomalign.training import checkpoint
from geomalign.training.config.settings import TrainConfig
from geomalign.training.evaluation import evaluate
from geomalign.training.events import Event, Interrupted, Progress
from geomalign.training.policy import Placement, Policy, load, save
from geomalign.training.runtime import Clock, Stop

#: Steps whose mean is reported as the final value of a metric.
LAST = 10


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
        controller: Controller | None = None,
    ) -> None:
        self.controller = controller
        self.config, self.objective, self.name, self.progress = config, chosen, name, progress
        self.directory, self.base = directory, base
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
        self._warned: set[str] = set()
        self._kept = self._restore() if self._saved.exists() else 0
        self._clock = Clock(self.placement)

    def _restore(self) -> int:
        state = checkpoint.load(self._saved)
        self.policy.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.order.set_state(state["order"])
        self.step = state["step"]
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])
        return int(state["metrics"])

    def save(self, position: int) -> None:
        """Write the checkpoint with the metrics file's length; on a full disk the run goes on with the one before.

        Called by all ranks, which are in the same state; rank 0 writes.
        """
        if distributed.rank():
            return
        state = {
            "model": self.policy.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.order.get_state(),
            "step": self.step,
            "controller": self.controller.state_dict() if self.controller is not None else None,
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

    def stiffen(self, drive: Any) -> Any:
        """The drive at the stiffness that the run's controller sets; the drive itself without one."""
        return drive if self.controller is None else self.controller.stiffen(self.objective, drive)

    def timed(self, part: str) -> contextlib.AbstractContextManager[None]:
        """Count the time of a block as a part of the step."""
        return self._clock.timed(part)

    def steps(
        self,
        total: int,
        eval_every: int,
        checkpoint_every: int,
        advance: Callable[[], dict[str, float]],
        validate: Callable[[], dict[str, float]] = dict,
    ) -> None:
        """Run `advance` until `counts` steps are done, with evaluations, metrics, checkpoints and Ctrl-C between
        them.

        Args:
            validate: further metrics of an evaluation, beside the accuracy on the task.
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
                        line |= evaluate(self.config, self.policy, self.task, prompts, together=True) | validate()
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
        """Say once what makes the run worthless."""
        message = ""
        if line.get("skipped", 0.0) > 0:
            message = _SKIPPED
        elif line.get("inactive", 0.0) == 1.0 and self.step > 1:
            message = _INACTIVE
        if message and message not in self._warned:
            self._warned.add(message)
            self.progress(Event("warning", self.name, self.step, message=message))

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


_SKIPPED = (
    "updates were left out because the loss or its gradient was not finite; the weights stay as they were. Look for an "
    "overflow or a division by zero in the objective, or take a smaller step size."
)
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
    skip = ("time/", "memory/", "step", "rate", "tokens")
    evaluated = {key for key in keys if key.startswith("accuracy") or key.endswith("_held_out")}
    of_steps = [key for key in keys if not (key in evaluated or key.startswith(skip))]
    final = {key: value for key in of_steps if (value := mean(key)) is not None}
    final |= {key: value for key, value in evaluations[-1].items() if key in evaluated}
    time_of = {
        part: sum(line.get(f"time/{part}", 0.0) for line in work)
        for part in ("generation", "scoring", "update", "loss", "backward", "evaluation", "step")
    }
    tokens = sum(line.get("tokens", 0.0) for line in work)
    skipped = sum(line.get("skipped", 0.0) for line in work)
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
        "controller": config.control,
        "latex": chosen.latex(),
        "decoupled": chosen.decoupled,
        "locality": chosen.locality.name.lower(),
        "tiers": {str(tier): kind for tier, kind in config.kinds().items()},
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
        "skipped": skipped,
        "warnings": [_INACTIVE] if inactive and min(inactive) == 1.0 and not skipped else [],
    }
