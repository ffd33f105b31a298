"""The commands. Each reads its options, calls the library and prints; none computes."""

from __future__ import annotations

import contextlib
import difflib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from geomalign.cli import options, show
from geomalign.cli.progress import Display, console, metrics_table
from geomalign.training.events import Failed

if TYPE_CHECKING:
    from geomalign.training import CompareConfig, TrainConfig

app = typer.Typer(
    name="geomalign",
    help="LLM alignment objectives as geometry: compose, train, compare and analyse them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Where the code of this library is.
PACKAGE = Path(__file__).parents[1]

Out = Annotated[Path, typer.Option("--out", "-o", help="Directory of the results.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in the directory: finished runs are kept.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file; the options given here win over it.")]
Preset = Annotated[
    str | None, typer.Option("--preset", "-p", help="ci, default or gpu: a setting that is known to fit.")
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Any setting by its dotted name, e.g. rl.iterations=40. Repeatable."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Path or name of an AutoModelForCausalLM checkpoint to start from.")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, …")]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32 or bfloat16.")]
Checkpointing = Annotated[
    bool,
    typer.Option("--gradient-checkpointing", help="Compute activations again in the backward pass: less memory."),
]
Iterations = Annotated[
    int | None, typer.Option("--iterations", help="RL iterations; passes over the pairs when training offline.")
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="chain, reasoning_gym:NAME, a file or dataset:NAME, or my_module:MyTask, with its options: "
        '"data.jsonl verifier=math-verify".',
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Preferences in TRL's formats, a file or a dataset: the pairs to train on offline."),
]


def _version(wanted: bool) -> None:
    if wanted:
        from geomalign import __version__

        console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def geomalign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LLM alignment objectives as geometry: compose, train, compare and analyse them."""


@app.command()
def compare(
    preset: Preset = None,
    objective: Annotated[
        list[str],
        typer.Option(
            "--objective",
            "-O",
            metavar="NAME",
            help='A recipe or my_module:my_objective, with hyper-parameters: "opo mu=10 label=soft". Repeatable.',
        ),
    ] = [],  # noqa: B006 (typer copies it)
    rates: Annotated[list[str], typer.Option("--rates", help="Step sizes, repeated or with commas.")] = [],  # noqa: B006
    seeds: Annotated[list[str], typer.Option("--seeds", help="Seeds, repeated or with commas.")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option("--workers", "-j", help="Runs at once; 0: one a core.")] = None,
    iterations: Iterations = None,
    task: Task = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    config: Config = None,
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs/compare"),
    resume: Resume = False,
) -> None:
    """Train objectives on one task, for every step size and seed, and write a report with figures.

    [dim]geomalign compare --preset ci --out runs/quick[/]

    [dim]geomalign compare -O grpo -O "opo mu=10" --rates 5e-5,2e-4 --seeds 0,1,2[/]
    """
    from geomalign import training

    chosen = (
        training.preset(preset or "default") if config is None else training.load_config(config, training.CompareConfig)
    )
    if preset and config is not None:
        raise ValueError('--preset and --config were both given; write preset = "…" into the file instead.')
    changes: dict[str, Any] = {}
    if objective:
        changes["objectives"] = [vars(options.choice(text)) for text in objective]
    if rates:
        changes["rates"] = options.numbers(rates, float, "rates")
    if seeds:
        changes["seeds"] = options.numbers(seeds, int, "seeds")
    if workers is not None:
        changes["workers"] = workers
    shared = _shared(chosen.run, iterations, task, model, device, dtype) | options.settings(set_)
    changes |= {f"run.{key}": value for key, value in shared.items()}
    _compare(training.override(chosen, changes), out, resume)


def _compare(config: CompareConfig, out: Path, resume: bool) -> None:
    from geomalign import training

    with Display() as display:
        summary = training.compare(config, out, resume=resume, progress=display)
    _report(out, summary)
    if summary.get("failed"):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    objective: Annotated[
        str | None, typer.Option("--objective", "-O", help="A recipe, or my_module:my_objective.")
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Step size.")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", help="rl, offline, or auto: offline for objectives of pairs.")
    ] = None,
    iterations: Iterations = None,
    task: Task = None,
    data: Data = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    gradient_checkpointing: Checkpointing = False,
    preset: Preset = None,
    config: Config = None,
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs/train"),
    resume: Resume = False,
) -> None:
    """Train one objective. Further options are its hyper-parameters; `geomalign show NAME` lists them.

    [dim]geomalign train --objective opo --alpha 0.4 --mu 1.0[/]

    [dim]geomalign train --objective my_module:my_objective --model path/to/model --device cuda --dtype bfloat16[/]

    [dim]geomalign train --objective grpo --task "reasoning_gym:chain_sum max_terms=3" --model path/to/model[/]

    [dim]geomalign train --objective dpo --data pairs.jsonl --model path/to/model[/]
    """
    from geomalign import recipes, training

    if preset and config is not None:
        raise ValueError("--preset and --config were both given; choose one of them.")
    chosen = (
        training.train_preset(preset or "default")
        if config is None
        else training.load_config(config, training.TrainConfig)
    )
    changes = options.settings(set_)
    if gradient_checkpointing:
        changes["gradient_checkpointing"] = True
    given = {"objective": objective, "rate": rate, "seed": seed, "mode": mode}
    changes |= {key: value for key, value in given.items() if value is not None}
    hyper = options.hyperparameters(context.args)
    if objective is not None or hyper:
        kept = chosen.options if objective in (None, chosen.objective) else {}
        changes["options"] = {**kept, **hyper}
    try:
        built = recipes.get(str(changes.get("objective", chosen.objective)), **changes.get("options", chosen.options))
    except ValueError as error:
        flags = [flag for parameter in context.command.params for flag in parameter.opts]
        near = [
            f"{name} → {flag}"
            for name in (f"--{key.replace('_', '-')}" for key in hyper)
            for flag in difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
        ]
        hint = f"Did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"{error}\n({hint}Options of the command itself: geomalign train --help)") from error
    paired = built.paired
    offline = changes.get("mode", chosen.mode) == "offline" or (changes.get("mode", chosen.mode) == "auto" and paired)
    if data is not None:
        if not offline:
            raise ValueError(
                f"--data are pairs of responses, but {changes.get('objective', chosen.objective)} is trained on "
                "rewards; take an objective of pairs, such as dpo, or --mode offline."
            )
        changes = {"offline.data": data} | changes
        task = task or f"preferences:{data}"
    changes = _shared(chosen, iterations, task, model, device, dtype, offline=offline) | changes
    _train(training.override(chosen, changes), out, resume)


def _train(config: TrainConfig, out: Path, resume: bool) -> None:
    from geomalign import training
    from geomalign.distributed import launched

    if launched()[0]:  # rank 0 reports
        training.train(config, out, resume=resume)
        return
    with Display() as display, _noted(out):
        summary = training.train(config, out, resume=resume, progress=display)
    _report(out, summary)
    console.print(f"model   {out / 'model'}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _noted(out: Path) -> Iterator[None]:
    """An error that is not of this library's words becomes one line; its traceback goes to `OUT/error.txt`."""
    try:
        yield
    except OSError:
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


def _shared(
    config: TrainConfig,
    iterations: int | None,
    task: str | None,
    model: str | None,
    device: str | None,
    dtype: str | None,
    offline: bool = False,
) -> dict[str, Any]:
    """The settings that both commands have options for."""
    steps = "offline.epochs" if offline else "rl.iterations"
    given = {steps: iterations, "model.path": model, "device": device, "dtype": dtype}
    found: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return found | (options.task(task, config.task.name) if task is not None else {})


def _report(out: Path, summary: dict[str, Any]) -> None:
    """Write the report and print the final numbers."""
    from geomalign import report

    for warning in summary.get("warnings") or []:
        console.print(f"[yellow]warning[/] {escape(str(warning))}", highlight=False, soft_wrap=True)
    runs = summary.get("runs") or ([summary] if summary.get("final") else [])
    if not runs:
        console.print("No run finished, so there is no report.")
        return
    console.print(metrics_table({run["name"]: run["final"] for run in runs}, title="final numbers"))
    console.print(f"report  {report.write(out)}", highlight=False, soft_wrap=True)


@app.command(name="list")
def list_(
    table: Annotated[bool, typer.Option("--table", help="With the slots that each fills.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the table of all to this file.")] = None,
) -> None:
    """List the recipes: published objectives as choices of slots."""
    if plot is None or table:
        console.print(show.slots_table() if table else show.names_table())
    if plot is not None:
        from geomalign import plotting

        console.print(f"figure  {plotting.periodic_table(plot)}", highlight=False, soft_wrap=True)


@app.command(name="show", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def show_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A recipe, or my_module:my_objective.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw its gradient field to this file.")] = None,
) -> None:
    """Show an objective: formula, slots, curvature, what it is decoupled in. Further options are its hyper-parameters.

    [dim]geomalign show grpo --beta 0.04 --plot grpo.png[/]
    """
    from geomalign import recipes

    hyper = options.hyperparameters(context.args)
    objective = recipes.get(name, **hyper)
    console.print(show.description(name, objective, hyper))
    console.print("\n[bold]formula[/]")
    console.print(objective.latex(), soft_wrap=True, highlight=False, markup=False)
    if plot is not None:
        from geomalign import plotting

        console.print(
            f"figure  {plotting.gradient_field(objective, plot, title=name)}", highlight=False, soft_wrap=True
        )


@app.command()
def identify(
    name: Annotated[
        str,
        typer.Argument(help="my_module:my_loss, a function of (log_ratio, advantage), (margin) or (chosen, rejected)."),
    ],
    kind: Annotated[
        str | None, typer.Option("--kind", help="advantage, margin or pair; read off the arguments if left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it to this file.")] = None,
) -> None:
    """Read the geometry off a loss: chart, potential, curvature, equilibrium, saturation, coupling."""
    from geomalign._util.importing import imported
    from geomalign.analysis.identification import identify as read

    if ":" not in name:
        raise ValueError(f"{name!r} names no function; write module:function, such as my_losses:clipped.")
    found = read(imported(name), kind=kind)
    console.print(str(found), highlight=False, soft_wrap=True, markup=False)
    if plot is not None:
        from geomalign import plotting

        console.print(f"figure  {plotting.identification(found, plot, title=name)}", highlight=False, soft_wrap=True)


@app.command()
def audit(
    files: Annotated[list[Path], typer.Argument(help="JSON lines or parquet, one response a row; or folders of them.")],
    radius: Annotated[float, typer.Option("--radius", help="χ² radius that the suggested stiffness aims at.")] = 0.04,
    reward: Annotated[
        list[str] | None, typer.Option("--reward", help="A column of rewards and its weight, accuracy=0.7; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of Markdown.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the figures to this file.")] = None,
) -> None:
    """Audit a run from its dump: what its updates could do, how geometries would have acted, a suggested stiffness."""
    from geomalign.audit.diagnosis import audit as read

    weighed = (word.partition("=") for word in reward or [])
    found = read(*files, radius=radius, rewards={name: float(w or 1.0) for name, _, w in weighed} or None)
    console.print(found.to_json() if json_ else found.text(), highlight=False, soft_wrap=True, markup=False)
    if plot is not None:
        console.print(f"figure  {found.figure(plot)}", highlight=False, soft_wrap=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def parity(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="my_module:my_loss, a function of named tensors such as policy, anchor, mask.")
    ],
    against: Annotated[str, typer.Option("--against", help="The recipe that it is meant to be.")],
) -> None:
    """Compare a loss of your own with a recipe, value and gradient, on ragged batches. Other options are its."""
    from geomalign._util.importing import imported
    from geomalign.laws.conformance import compare_loss

    if ":" not in name:
        raise ValueError(f"{name!r} names no function; write module:function, such as my_losses:clipped.")
    found = compare_loss(imported(name), against, **options.hyperparameters(context.args))
    console.print(str(found), highlight=False, soft_wrap=True, markup=False)
    if not found.equal:
        raise typer.Exit(1)


@app.command()
def plugins() -> None:
    """List recipes and geometries that other installed packages offer, and why one could not be loaded."""
    from geomalign.recipes import plugins as installed

    console.print(installed.report(), highlight=False, soft_wrap=True, markup=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def export(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help="trl, verl, prime-rl, slime, openrlhf, nemo-rl or torchtune.")],
    name: Annotated[str, typer.Argument(help="A recipe.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file instead.")] = None,
) -> None:
    """Print the configuration with which an objective runs in another trainer. Further options are hyper-parameters.

    [dim]geomalign export verl opo --alpha 0.4 --mu 1.0[/]
    """
    from geomalign.adapters.export import configuration

    text = configuration(host, name, **options.hyperparameters(context.args))
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        console.print(f"written {out}", highlight=False, soft_wrap=True)
