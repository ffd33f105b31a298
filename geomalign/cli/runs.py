"""The commands that train: `compare` and `train`."""

from __future__ import annotations

import contextlib
import difflib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from geomalign.cli import app as commands
from geomalign.cli import options
from geomalign.cli.app import OPEN, app, say
from geomalign.cli.progress import Display, console, metrics_table
from geomalign.training.events import Failed

if TYPE_CHECKING:
    from geomalign.objective import BaseObjective
    from geomalign.training import CompareConfig, TrainConfig

#: Where the code of this library is.
PACKAGE = Path(__file__).parents[1]


@app.command()
def compare(
    preset: commands.Preset = None,
    objective: Annotated[
        list[str],
        typer.Option(
            "--objective",
            "-O",
            metavar="NAME",
            help="A recipe or my_module:my_objective, with hyper-parameters, label= and control=: "
            "\"opo mu=10 label=soft control='kl=0.02'\". Repeatable.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    rates: Annotated[list[str], typer.Option("--rates", help="Step sizes, repeated or with commas.")] = [],  # noqa: B006
    seeds: Annotated[list[str], typer.Option("--seeds", help="Seeds, repeated or with commas.")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option("--workers", "-j", help="Runs at once; 0: one per core.")] = None,
    iterations: commands.Iterations = None,
    task: commands.Task = None,
    model: commands.Model = None,
    device: commands.Device = None,
    dtype: commands.Dtype = None,
    config: commands.Config = None,
    set_: commands.Set = [],  # noqa: B006
    report_to: commands.ReportTo = [],  # noqa: B006
    callback: commands.Callbacks = [],  # noqa: B006
    bases: commands.Bases = None,
    figures: commands.Figures = "png",
    out: commands.Out = Path("runs/compare"),
    resume: commands.Resume = False,
) -> None:
    """Train objectives on one task, for every step size and seed, and write a report with figures.

    [dim]geomalign compare --preset ci --out runs/quick[/]

    [dim]geomalign compare -O grpo -O "opo mu=10" --rates 5e-5,2e-4 --seeds 0,1,2[/]
    """
    from geomalign import training

    if preset and config is not None:
        raise ValueError('--preset and --config were both given; write preset = "…" into the file instead.')
    if config is None:
        start = training.preset(preset or "default")
    else:
        start = training.load_config(config, training.CompareConfig)
    changes = options.given(
        objectives=objective,
        rates=options.numbers(rates, float, "rates"),
        seeds=options.numbers(seeds, int, "seeds"),
        workers=workers,
    )
    shared = options.given({"rl.iterations": iterations, "model.path": model}, device=device, dtype=dtype)
    shared |= options.given(report_to=options.texts(report_to), callbacks=callback, bases=bases and str(bases))
    shared |= options.task(task, start.run.task.name) | options.settings(set_)
    chosen = training.override(start, changes | {f"run.{key}": value for key, value in shared.items()})
    _compare(chosen, out, resume, options.formats(figures))


def _compare(config: CompareConfig, out: Path, resume: bool, figures: Sequence[str]) -> None:
    from geomalign import training

    with Display() as display:
        summary = training.compare(config, out, resume=resume, progress=display)
    _report(out, summary, figures)
    if summary.get("failed"):
        raise typer.Exit(1)


@app.command(context_settings=OPEN)
def train(
    context: typer.Context,
    objective: Annotated[
        str | None,
        typer.Option("--objective", "-O", help='A recipe or my_module:my_objective, also with options: "opo mu=10".'),
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Step size.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of prompts, sampling and minibatches.")] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="rl, offline, or auto: offline for objectives of pairs.")
    ] = None,
    control: commands.Control = None,
    iterations: commands.Iterations = None,
    task: commands.Task = None,
    data: commands.Data = None,
    model: commands.Model = None,
    device: commands.Device = None,
    dtype: commands.Dtype = None,
    gradient_checkpointing: commands.Checkpointing = False,
    lora: commands.LoRA = None,
    preset: commands.Preset = None,
    config: commands.Config = None,
    set_: commands.Set = [],  # noqa: B006
    report_to: commands.ReportTo = [],  # noqa: B006
    callback: commands.Callbacks = [],  # noqa: B006
    bases: commands.Bases = None,
    figures: commands.Figures = "png",
    out: commands.Out = Path("runs/train"),
    resume: commands.Resume = False,
) -> None:
    """Train one objective. Further options are its hyper-parameters; `geomalign show NAME` lists them.

    [dim]geomalign train --objective opo --alpha 0.4 --mu 1.0 --control kl=0.02[/]

    [dim]geomalign train --objective my_module:my_objective --model path/to/model --device cuda --dtype bfloat16[/]

    [dim]geomalign train --objective grpo --task "reasoning_gym:chain_sum max_terms=3" --model path/to/model[/]

    [dim]geomalign train --objective dpo --data pairs.jsonl --model path/to/model[/]
    """
    from geomalign import training

    if preset and config is not None:
        raise ValueError("--preset and --config were both given; choose one of them.")
    if config is None:
        start = training.train_preset(preset or "default")
    else:
        start = training.load_config(config, training.TrainConfig)
    settings = options.settings(set_)
    if data is not None and task is None:
        task = f"preferences:{data}"
    changes = options.given(
        {
            "model.path": model,
            "gradient_checkpointing": gradient_checkpointing,
            "offline.data": data,
            "lora.rank": lora,
        },
        rate=rate,
        seed=seed,
        mode=mode,
        control=control,
        device=device,
        dtype=dtype,
        report_to=options.texts(report_to),
        callbacks=callback,
        bases=bases and str(bases),
    )
    changes |= options.task(task, start.task.name)
    name, hyper = options.objective(objective or start.objective, context.args)
    if objective is not None or hyper:
        changes |= {"objective": name, "options": {**(start.options if name == start.objective else {}), **hyper}}
    chosen = training.override(start, changes | settings)
    offline = chosen.trains_offline(_built(chosen, hyper, context))
    if data is not None and not offline:
        raise ValueError(
            f"--data are pairs of responses, but {chosen.objective} is trained on rewards; take an objective of pairs, "
            "such as dpo, or --mode offline."
        )
    other = "rl." if offline else "offline."
    idle = [key for key in settings if key.startswith(other) and key not in ("rl.reward_timeout", "rl.long_prompts")]
    if idle:
        raise ValueError(
            f"--set {', '.join(idle)}: without effect, as {chosen.objective} trains on "
            f"{'pairs' if offline else 'rewards'} and reads the settings of {'offline' if offline else 'rl'}, such as "
            f"{'offline.epochs' if offline else 'rl.iterations'}."
        )
    steps = options.given({"offline.epochs" if offline else "rl.iterations": iterations})
    _train(training.override(chosen, steps | settings), out, resume, options.formats(figures))


def _built(config: TrainConfig, hyper: Mapping[str, Any], context: typer.Context) -> BaseObjective:
    """The objective of a configuration. If it is refused, options that look like misspelt ones of the command are
    pointed out, since every unknown option is taken for a hyper-parameter.
    """
    from geomalign import recipes

    try:
        return recipes.get(config.objective, **config.options)
    except ValueError as error:
        flags = [flag for parameter in context.command.params for flag in parameter.opts]
        near = [
            f"{name} → {flag}"
            for name in (f"--{key.replace('_', '-')}" for key in hyper)
            for flag in difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
        ]
        hint = f"Did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"{error}\n({hint}Options of the command itself: geomalign train --help)") from error


def _train(config: TrainConfig, out: Path, resume: bool, figures: Sequence[str]) -> None:
    from geomalign import training
    from geomalign.distributed import launched

    if launched()[0]:  # one of several processes, of which rank 0 reports
        training.train(config, out, resume=resume)
        return
    with Display() as display, _noted(out):
        summary = training.train(config, out, resume=resume, progress=display)
    _report(out, summary, figures)
    say(f"model   {out / 'model'}")


@contextlib.contextmanager
def _noted(out: Path) -> Iterator[None]:
    """Turn an unforeseen exception into one line; its traceback goes to `OUT/error.txt`.

    Errors of the file system and ValueErrors that this library raised itself say what is wrong already, and pass.
    """
    try:
        yield
    except (OSError, Failed):
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, ValueError) and PACKAGE in Path(frames[-1].filename).parents:
            raise
        place = [frame for frame in frames if Path.cwd() == Path(frame.filename).parent] or frames
        out.mkdir(parents=True, exist_ok=True)
        (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        text = (str(error).splitlines() or [""])[0]
        raise Failed(
            f"{type(error).__name__}: {text} ({place[-1].filename}, line {place[-1].lineno}; the traceback is in "
            f"{out / 'error.txt'}, and what was saved continues with --resume)"
        ) from error


def _report(out: Path, summary: Mapping[str, Any], figures: Sequence[str]) -> None:
    """Write the report and print the final numbers."""
    from geomalign import report

    for warning in summary.get("warnings") or []:
        console.print(f"[yellow]warning[/] {escape(str(warning))}", highlight=False, soft_wrap=True)
    runs = summary.get("runs") or ([summary] if summary.get("final") else [])
    if not runs:
        console.print("No run finished, so there is no report.")
        return
    console.print(metrics_table({run["name"]: run["final"] for run in runs}, title="final numbers"))
    say(f"report  {report.write(out, figures)}")
