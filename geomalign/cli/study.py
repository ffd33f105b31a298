"""The commands that look: at recipes, losses, dumps, plugins, and at what other trainers need to be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from geomalign.adapters.export import HOSTS, configuration
from geomalign.cli import options, show
from geomalign.cli.app import OPEN, app, say
from geomalign.cli.progress import console


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

        say(f"figure  {plotting.periodic_table(plot)}")


@app.command(name="show", context_settings=OPEN)
def show_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help='A recipe, or my_module:my_objective; "opo mu=2" too.')],
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw its gradient field to this file.")] = None,
) -> None:
    """Show an objective: formula, slots, curvature, what it is decoupled in. Further options are its hyper-parameters.

    [dim]geomalign show grpo --beta 0.04 --plot grpo.png[/]
    """
    from geomalign import recipes

    name, hyper = options.objective(name, context.args)
    objective = recipes.get(name, **hyper)
    console.print(show.description(name, objective, hyper))
    console.print("\n[bold]formula[/]")
    say(objective.latex())
    if plot is not None:
        from geomalign import plotting

        say(f"figure  {plotting.gradient_field(objective, plot, title=name)}")


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
    from geomalign.analysis.identification import identify as read

    found = read(_function(name), kind=kind)
    say(found)
    if plot is not None:
        from geomalign import plotting

        say(f"figure  {plotting.identification(found, plot, title=name)}")


@app.command()
def audit(
    files: Annotated[
        list[Path], typer.Argument(help="JSON lines or parquet, one response per row; or folders of them.")
    ],
    radius: Annotated[float, typer.Option("--radius", help="χ² radius that the suggested stiffness aims at.")] = 0.04,
    reward: Annotated[
        list[str] | None, typer.Option("--reward", help="A column of rewards and its weight, accuracy=0.7; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of Markdown.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the figures to this file.")] = None,
) -> None:
    """Audit a run from its dump: what its updates could do, how geometries would have acted, a suggested stiffness."""
    from geomalign.audit import audit as read

    weighed = (word.partition("=") for word in reward or [])
    found = read(*files, radius=radius, rewards={name: float(w or 1.0) for name, _, w in weighed} or None)
    say(found.to_json() if json_ else found.text())
    if plot is not None:
        say(f"figure  {found.figure(plot)}")


@app.command(context_settings=OPEN)
def parity(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="my_module:my_loss, a function of named tensors such as policy, old, mask.")
    ],
    against: Annotated[
        str, typer.Option("--against", help='The recipe that it is meant to be, or my_module:my_objective; "opo mu=2".')
    ],
) -> None:
    """Compare a loss of your own with an objective, value and gradient, on batches of unequal lengths. Further options
    are hyper-parameters of the objective.
    """
    from geomalign.laws.conformance import compare_loss

    meant, hyper = options.objective(against, context.args)
    found = compare_loss(_function(name), meant, **hyper)
    say(found)
    if not found.equal:
        raise typer.Exit(1)


def _function(name: str) -> Callable[..., Any]:
    """What `module:function` names."""
    from geomalign._util.importing import imported

    if ":" not in name:
        raise ValueError(f"{name!r} names no function; write module:function, such as my_losses:clipped.")
    found: Callable[..., Any] = imported(name)
    return found


@app.command()
def plugins() -> None:
    """List recipes that other installed packages offer, and why one could not be loaded."""
    from geomalign.recipes import plugins as installed

    say(installed.report())


@app.command(context_settings=OPEN)
def export(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help=f"One of {', '.join(HOSTS)}.")],
    name: Annotated[str, typer.Argument(help='A recipe, or my_module:my_objective; "opo mu=2" too.')],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file instead.")] = None,
) -> None:
    """Print the configuration with which an objective runs in another trainer. Further options are hyper-parameters.

    [dim]geomalign export verl opo --alpha 0.4 --mu 1.0[/]
    """
    text = configuration(host, name, **options.hyperparameters(context.args))
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        say(f"written {out}")
