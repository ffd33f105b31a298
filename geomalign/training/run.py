"""What every run has: policy, optimiser, controller, files and clocks, saved and restored as one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from geomalign import distributed
from geomalign._util.importing import told
from geomalign.control import Controller
from geomalign.objective import BaseObjective, Outcome
from geomalign.tasks import Task
from geomalign.tasks import build as build_task
from geomalign.training import checkpoint, summary
from geomalign.training.callbacks import Callback
from geomalign.training.card import model_card
from geomalign.training.config.settings import OfflineConfig, RLConfig, TrainConfig
from geomalign.training.evaluation import MEASURED, evaluate
from geomalign.training.events import Event, Failed, Interrupted, Progress, silent
from geomalign.training.fit import unfit
from geomalign.training.policy import Placement, Policy, adapted, load, named_base, save
from geomalign.training.prompts import fitting
from geomalign.training.runtime import Clock, Stop


class Run:
    """A run at work: policy, optimiser, controller, files and clocks, saved and restored as one.

    Args:
        config: of the run.
        objective: that it trains.
        directory: of its files; where a checkpoint lies there, the run continues from it.
        base: directory of the model that it starts from, which is also its reference policy.
        name: in events and summary.
        progress: called with an `Event` at every step.
        controller: of this run alone; sets the stiffness before every rollout. None leaves the drive as it is.
        offline: whether it is trained on pairs.
        callbacks: called as `Callback` says.

    >>> import tempfile, geomalign as ga
    >>> from geomalign.tasks import Chain
    >>> from geomalign.training import ModelConfig, TrainConfig
    >>> from geomalign.training.policy import build
    >>> config = TrainConfig(model=ModelConfig(hidden=16, layers=1, heads=2, intermediate=16))
    >>> base, place = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> save(build(config.model, Chain().alphabet, seed=0, placement=Placement()), base / "model")
    >>> run = Run(config, ga.recipes.opo(), place, base / "model", "mine")
    >>> run.step, run.controller, run.settings.iterations
    (0, None, 24)
    """

    def __init__(
        self,
        config: TrainConfig,
        objective: BaseObjective,
        directory: Path,
        base: Path,
        name: str,
        progress: Progress = silent,
        controller: Controller | None = None,
        offline: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.config, self.objective, self.controller, self.offline = config, objective, controller, offline
        self.directory, self.base, self.name, self.progress = directory, base, name, progress
        self.callbacks, self._stopped = tuple(callbacks), False
        self.placement = Placement(config.device, config.dtype, config.gradient_checkpointing)
        self.policy = load(base, self.placement)
        if config.lora.rank:
            given = None if config.warm_started else config.model.path
            self.policy = adapted(self.policy, config.lora, config.seed, named_base(given, base))
        self._warned: set[str] = set()
        self.step = 0
        response = 0 if offline and config.offline.data else self.settings.max_new_tokens
        self.task: Task = fitting(build_task(config.task), self.policy, config, response, self.say)
        self.generator = self.placement.generator(config.seed)
        self.order = torch.Generator().manual_seed(config.seed)
        betas, decay = self.settings.betas, self.settings.weight_decay
        # fused: a quarter of the time of the plain loop, the same update.
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters, lr=config.rate, betas=betas, weight_decay=decay, fused=True
        )
        self._rows: list[summary.Row] = []
        self._saved = directory / "checkpoint.pt"
        self._kept = self._restore() if self._saved.exists() else 0
        self._clock = Clock(self.placement)

    @property
    def settings(self) -> RLConfig | OfflineConfig:
        """The settings of the loop that this run goes through."""
        return self.config.offline if self.offline else self.config.rl

    def _restore(self) -> int:
        state = checkpoint.load(self._saved)
        self.policy.load_state(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.order.set_state(state["order"])
        self.step = state["step"]
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])
        kept = list(state.get("callbacks", ()))
        for callback in self.callbacks:  # others may stand before it now
            mine = next((entry for entry in kept if entry[0] == type(callback).__qualname__), None)
            if mine is not None:
                kept.remove(mine)
                callback.load_state_dict(mine[1])
        return int(state["metrics"])

    def save(self, position: int) -> None:
        """Write the checkpoint with the metrics file's length; on a full disk the run goes on with the one before.

        Called by all processes between rollouts, where they are in the same state, a controller's included; rank 0
        writes.
        """
        if distributed.rank():
            return
        state = {
            "model": self.policy.state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.order.get_state(),
            "step": self.step,
            "controller": self.controller.state_dict() if self.controller is not None else None,
            "callbacks": [(type(callback).__qualname__, callback.state_dict()) for callback in self.callbacks],
            "metrics": position,
        }
        try:
            checkpoint.save(self._saved, state)
        except OSError as error:
            seen = f"the checkpoint of step {self.step} could not be written ({error}); the last one is kept."
            self.say(f"checkpoint {self.step}", seen)

    def stop(self) -> None:
        """End the run after this step, as if it had been the last; every process does, whichever one asks."""
        self._stopped = True

    def reference(self) -> Policy:
        """The policy that the run starts from, frozen; of an adapter, the same model without it."""
        return self.policy.frozen() if self.policy.adapter else load(self.base, self.placement)

    def timed(self, part: str) -> contextlib.AbstractContextManager[None]:
        """Count the time of a block as a part of the step."""
        return self._clock.timed(part)

    # The controller, where the run has one: it stiffens a drive, observes every outcome that a gradient is computed on,
    # and ends a rollout.

    def stiffen(self, drive: Any) -> Any:
        """The drive at the stiffness that the controller sets; the drive itself without a controller."""
        return drive if self.controller is None else self.controller.stiffen(self.objective, drive)

    def observe(self, outcome: Outcome) -> None:
        """Show the controller an outcome that a gradient is computed on."""
        if self.controller is not None:
            self.controller.observe(outcome)

    def end_rollout(self) -> dict[str, float]:
        """Let the controller set the next stiffness; returns its readings of this rollout. All processes call it."""
        if self.controller is None:
            return {}
        self.controller.step()
        return {f"controller_{name}": float(value) for name, value in self.controller.readings().items()}

    def loop(
        self,
        total: int,
        advance: Callable[[], dict[str, float]],
        validate: Callable[[], dict[str, float]] = dict,
    ) -> None:
        """Call `advance` until `total` steps are done, with evaluations, metrics, checkpoints and Ctrl-C between them.

        Args:
            total: steps of the whole run, those before a resumption included.
            advance: takes one step and returns its metrics.
            validate: further metrics of an evaluation, beside the accuracy on the task.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM in any process, when the step is done and saved.
        """
        self.progress(Event("start", self.name, self.step, total))
        for about, message in unfit(self.config, self.objective).items():
            self.say(about, message)
        kind = checkpoint.NoMetricsFile if distributed.rank() else checkpoint.MetricsFile
        metrics = kind(self.directory / "metrics.jsonl", self._kept)
        with contextlib.closing(metrics), Stop() as stop:
            self._call("on_start")
            if self.step == 0:
                row = {"step": 0, **self._base_measured()}
                metrics.write(row)
                self._call("on_evaluation", row)
            while self.step < total:
                row = self._advance(advance, validate, total)
                self._call("on_step", row)
                _as_numbers(row)
                if self._stops() and "accuracy_in" not in row:  # as the last step always is
                    row |= self._measured(self.config.task.eval_prompts, validate)
                    row["time/evaluation"] = self._clock.read()["evaluation"]
                metrics.write(row)
                self._warn(row)
                self.progress(Event("step", self.name, self.step, total, row))
                if "accuracy_in" in row:
                    self._call("on_evaluation", row)
                if self._stops():
                    total = self.step
                asked = stop.anywhere()
                # That of the last step is kept too: a run of more iterations goes on from it.
                if asked or self.step % self.settings.checkpoint_every == 0 or self.step == total:
                    self.save(metrics.position())
                if asked:
                    raise Interrupted

    def _stops(self) -> bool:
        """Whether a callback of any process ended the run; all processes call it."""
        return bool(self.callbacks) and bool(distributed.largest(torch.tensor(int(self._stopped))))

    def _call(self, moment: str, *given: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, moment)(self, *given)

    def _advance(
        self, advance: Callable[[], dict[str, float]], validate: Callable[[], dict[str, float]], total: int
    ) -> dict[str, float]:
        """One step, its evaluation where one is due, and what both cost."""
        self._clock.restart()
        began, cpu = time.perf_counter(), time.process_time()
        row = advance()
        self.step += 1
        self.placement.synchronize()
        took = time.perf_counter() - began
        if self.step % self.settings.eval_every == 0 or self.step == total:
            task = self.config.task
            prompts = task.eval_prompts if self.step == total else task.eval_interim_prompts
            row |= self._measured(prompts, validate)
        row |= {f"time/{part}": seconds for part, seconds in self._clock.read().items()}
        row |= {"time/step": took, "time/cpu": time.process_time() - cpu, "memory/peak": self._clock.memory()}
        if "tokens" in row:
            row["tokens_per_second"] = row["tokens"] / took
        return {"step": self.step, "rate": self.config.rate, **row}

    def _measured(self, prompts: int, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        with self.timed("evaluation"):
            return self._evaluate(prompts) | validate()

    def _evaluate(self, prompts: int) -> dict[str, float]:
        failed: list[str] = []
        found = evaluate(self.config, self.policy, self.task, prompts, together=True, failed=failed.append)
        self.unverified(failed)
        return found

    def _base_measured(self) -> dict[str, float]:
        path = self.base / "warmstart.json"
        if not path.exists():
            return self._evaluate(self.config.task.eval_prompts)
        return {key: value for key, value in checkpoint.read_json(path).items() if key.startswith(MEASURED)}

    def _warn(self, row: Mapping[str, float]) -> None:
        """Warn, once each, of what makes the run worthless."""
        self._rows.append(row)
        so_far = summary.diagnosis(self.config, self._rows, self.offline)
        for kind, message in summary.diagnosis(self.config, [row], self.offline).items():
            # One step may have equal rewards by chance, and the first one of pairs is at log-ratio 0.
            if kind in ("skipped", "masked") or (self.step > 1 and (kind in so_far or kind == "inactive")):
                self.say(kind, so_far.get(kind, message))

    def say(self, kind: str, message: str) -> None:
        """Warn, once of every kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            self.progress(Event("warning", self.name, self.step, message=message))

    def unverified(self, failed: Sequence[str]) -> None:
        """Warn of the first response that could not be verified in any process; all processes call it."""
        for first in filter(None, distributed.everyone(failed[0] if failed else "")):
            self.say("unverified", first)

    def finish(self) -> dict[str, Any]:
        """Save the model, sum the run up, and mark it as finished by writing `summary.json` last."""
        result = distributed.on_first(self._finish)
        self._call("on_end", result)
        self.progress(Event("done", self.name, self.step, self.step, result["final"]))
        return result

    def abandon(self) -> None:
        """Tell the callbacks that the run ends before it is finished; what they raise is warned of."""
        for callback in self.callbacks:
            try:
                callback.on_end(self, None)
            except Exception as error:  # the error that ends the run is the one to see
                self.say("on_end", f"{type(callback).__name__}.on_end raised {told(error)}.")

    def _finish(self) -> dict[str, Any]:
        rows = checkpoint.read_metrics(self.directory / "metrics.jsonl")
        if not any(row.get("grad_norm", 0.0) > 0 for row in rows):
            causes = summary.diagnosis(self.config, rows[1:], self.offline).values()
            raise Failed(
                f"no update could be made in {self.step} steps, so the model is what it was before. "
                + (" ".join(causes) or "The gradient of the objective is zero at every step.")
            )
        result = summary.summarise(
            self.config, self.objective, rows, name=self.name, offline=self.offline, controller=self.controller
        )
        result["parameters"] = sum(p.numel() for p in self.policy.model.parameters())
        result["trained_parameters"] = sum(p.numel() for p in self.policy.parameters)
        save(self.policy, self.directory / "model", model_card(self.config, result))
        checkpoint.write_json(self.directory / "summary.json", result)
        (self.directory / "error.txt").unlink(missing_ok=True)
        return result


def _as_numbers(row: dict[str, float]) -> None:
    """Make plain numbers of what callbacks added to a row, such as tensors."""
    for key, value in row.items():
        if not isinstance(value, (int, float)):
            try:
                row[key] = float(value)
            except (TypeError, ValueError) as error:
                raise Failed(
                    f"a callback added {key} = {value!r} to the metrics of a step; it is no number."
                ) from error
