"""One run from beginning to end: a directory, a base, training on rewards or on pairs, a summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geomalign import distributed, recipes
from geomalign.control import controller_of
from geomalign.tasks import build as build_task
from geomalign.tasks.preferences import preferences
from geomalign.training import checkpoint
from geomalign.training.callbacks import Callback, callbacks_of, check_callback
from geomalign.training.config.settings import TrainConfig
from geomalign.training.directory import acquire, release
from geomalign.training.events import Event, Progress, no_exit, silent
from geomalign.training.fit import refuse_unfit
from geomalign.training.from_pairs import learn_from_pairs
from geomalign.training.from_rewards import learn_from_rewards
from geomalign.training.policy import Placement, require_peft
from geomalign.training.run import Run
from geomalign.training.tracking import trackings_of
from geomalign.training.warmstart import warm_start

#: Settings of which the result does not depend but for rounding, so that a run may be resumed with others.
FREE = ("device", "threads", "gradient_checkpointing", "report_to", "callbacks", "bases")


@no_exit()
def train(
    config: TrainConfig,
    directory: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    base: Path | None = None,
    name: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train one objective and write everything about it into a directory.

    Started by `torchrun` or `accelerate launch` in several processes, they work on one run together, to the weights
    that one process would have reached but for rounding. All of them must see the directory.

    Args:
        config: what to do.
        directory: of the run: `config.json`, `metrics.jsonl`, `model/`, `summary.json`, `checkpoint.pt` (the state
            after the last step), `data.json` where data are read from files, and the base unless `base` is given.
        resume: continue what is there from the last checkpoint, to the same result as without the interruption; a
            finished run is returned as it is, or goes on where `config` asks for more iterations or epochs, and an
            empty directory begins.
        progress: called with an `Event` at every step, in every process.
        base: directory of a base that is there already; None makes or finds it in `directory`.
        name: of the run in events and summary.
        callbacks: called in the run, before those that `config.callbacks` names.

    Returns:
        the summary, as written to `summary.json`.

    Raises:
        ValueError: the directory holds another run, or the configuration does not fit its objective, model or task.
        Failed: no update could be made, because no response has a reward, say, or because no two rewards differ; or
            the code of the user called `exit()`.
        Interrupted: after Ctrl-C, when everything is saved.
        RankLost: another process of the run has ended.

    >>> import json, tempfile
    >>> from geomalign.training import ModelConfig, OfflineConfig, TaskConfig, TrainConfig, WarmStartConfig
    >>> place = Path(tempfile.mkdtemp())
    >>> rows = [{"prompt": f"{n}+1;", "chosen": str(n + 1), "rejected": "0"} for n in range(9)]
    >>> _ = (place / "pairs.jsonl").write_text("\\n".join(map(json.dumps, rows)))
    >>> config = TrainConfig(
    ...     objective="dpo",
    ...     task=TaskConfig(train_levels=(1,), eval_levels=(1,), eval_prompts=2),
    ...     model=ModelConfig(hidden=16, layers=1, heads=2, intermediate=16),
    ...     warm_start=WarmStartConfig(steps=1, noisy_steps=0, batch=2),
    ...     offline=OfflineConfig(data=str(place / "pairs.jsonl"), epochs=2),
    ... )
    >>> train(config, place / "run")["iterations"]
    2
    """
    torch.set_num_threads(config.threads)
    objective = recipes.get(config.objective, **config.options)
    controller = controller_of(config.control) if config.control else None
    if controller is not None:
        controller.check(objective)
    refuse_unfit(config, objective)
    for callback in callbacks:
        check_callback(callback)
    called = [*callbacks, *callbacks_of(config.callbacks), *trackings_of(config.report_to)]
    offline = config.trains_offline(objective)
    if config.lora.rank:
        require_peft(f"lora.rank = {config.lora.rank}")
    Placement(config.device)
    # Absolute: a verifier may change the working directory.
    directory, name = Path(directory).absolute(), name or run_name(config)
    with distributed.joined(config.device) as device:
        distributed.on_first(lambda: _begin(config, offline, directory, resume))
        summary = directory / "summary.json"
        if distributed.on_first(summary.exists):
            done: dict[str, Any] = checkpoint.read_json(summary)
            progress(Event("skipped", name, done["iterations"], done["iterations"], done["final"]))
            return done
        config = dataclasses.replace(config, device=device)
        run = None
        try:
            base = base or distributed.on_first(lambda: warm_start(config, directory, progress))
            run = Run(config, objective, directory, base, name, progress, controller, offline, called)
            learn = learn_from_pairs if offline else learn_from_rewards
            learn(run)
            return run.finish()
        except BaseException:
            if run is not None:
                run.abandon()
            if not distributed.rank():
                release(directory)
            raise


def run_name(config: TrainConfig) -> str:
    """The name of a run that was given none: objective, step size and seed.

    >>> run_name(TrainConfig(objective="my_module:mine", rate=1e-4))
    'my_module.mine-r0.0001-s0'
    """
    return f"{config.objective.replace(':', '.')}-r{config.rate:g}-s{config.seed}"


def _begin(config: TrainConfig, offline: bool, directory: Path, resume: bool) -> None:
    """Refuse what cannot work, then take the directory."""
    ranks = distributed.world_size()
    if not offline and ranks > config.rl.prompts:
        raise ValueError(
            f"rl.prompts is {config.rl.prompts}, but {ranks} processes work on the run; each takes at least one prompt."
        )
    if not (directory / "config.json").exists():  # an error in the data is raised before the directory is taken
        build_task(config.task)
        if offline and config.offline.data is not None:
            preferences(config.offline.data, config.offline.split)
    acquire(directory, config, resume=resume, free=FREE)
