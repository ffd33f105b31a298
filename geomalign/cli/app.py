"""The program `geomalign`, and the options that several of its commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geomalign.cli.progress import console
from geomalign.training.events import no_exit


class Commands(TyperGroup):
    """The commands; where code of the user calls `exit()`, the command fails, in words."""

    def invoke(self, ctx: Any) -> Any:
        with no_exit():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    name="geomalign",
    help="LLM alignment objectives as geometry: compose, train, compare and analyse them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Of a command whose unknown options are hyper-parameters of an objective.
OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}

Resume = Annotated[bool, typer.Option("--resume", help="Continue what is in the directory: finished runs are kept.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Directory of the results.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file; the options given here win over it.")]
Preset = Annotated[
    str | None, typer.Option("--preset", "-p", help="ci, default or gpu: settings that fit each other and the demo.")
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
LoRA = Annotated[
    int | None,
    typer.Option("--lora", metavar="RANK", help="Train adapters of this rank (peft) in place of the model's weights."),
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
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        help="What sets the stiffness from rollout to rollout: kl=0.02, chi2=0.05 rate=0.1, anneal=1:10 rollouts=100.",
    ),
]
Bases = Annotated[
    Path | None,
    typer.Option(
        "--bases",
        envvar="GEOMALIGN_BASES",
        help="Directory where the bases of warm starts are kept and found again, by all that they depend on.",
    ),
]
Figures = Annotated[
    str,
    typer.Option("--figures", metavar="FORMATS", help="Formats of the figures: png, pdf, svg; with commas."),
]
ReportTo = Annotated[
    list[str],
    typer.Option(
        "--report-to",
        metavar="NAMES",
        help="Send metrics to tensorboard, wandb, trackio or module:object of yours too; with commas or repeated.",
    ),
]
Callbacks = Annotated[
    list[str],
    typer.Option(
        "--callback",
        metavar="MODULE:OBJECT",
        help='A geomalign.training.Callback of yours, with its options: "my_module:Patience steps=3". Repeatable.',
    ),
]


def say(text: object) -> None:
    """Print a text as it is: not wrapped, and with its brackets.

    >>> say("E[g u] of [dim]")
    E[g u] of [dim]
    """
    console.print(str(text), highlight=False, soft_wrap=True, markup=False)


def _version(wanted: bool) -> None:
    if wanted:
        from geomalign import __version__

        say(__version__)
        raise typer.Exit


@app.callback()
def geomalign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LLM alignment objectives as geometry: compose, train, compare and analyse them."""
