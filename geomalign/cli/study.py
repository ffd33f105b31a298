"""The commands that inspect recipes, losses, dumps and plugins, and export configurations for other trainers."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomalign.adapters.export import HOSTS, configuration
from geomalign.cli import explorer, options, show
from geomalign.cli.app import OPEN, app, say
from geomalign.cli.progress import console

if TYPE_CHECKING:
    from geomalign.recipes import Reference


@app.command(name="list")
def list_(
    table: Annotated[bool, typer.Option("--table", help="Show the slots that each recipe fills.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the table of all recipes to this file.")] = None,
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
    name: Annotated[str, typer.Argument(help='A recipe or my_module:my_objective, also with options: "opo mu=2".')],
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the gradient field of the objective to this file.")
    ] = None,
    bibtex: Annotated[
        bool, typer.Option("--bibtex", help="Print the BibTeX entry of the recipe's publication, and nothing else.")
    ] = False,
    potential: Annotated[
        Path | None, typer.Option("--potential", help="Draw potential, force and conjugate of each term to this file.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the explorer, an interactive page, at the objective.")
    ] = False,
) -> None:
    """Show an objective: formula, slots, curvature, what it is decoupled in. Further options are its hyper-parameters.

    [dim]geomalign show grpo --beta 0.04 --plot grpo.png[/]
    """
    from geomalign import recipes
    from geomalign.recipes.symbolic import formula

    name, hyper = options.objective(name, context.args)
    if bibtex:
        print(_publication(name).bibtex())
        return
    objective = recipes.get(name, **hyper)
    console.print(show.description(name, objective, hyper))
    console.print("\n[bold]formula[/]")
    symbols, numbers = formula(name, **hyper), objective.latex()
    say(symbols)
    if numbers != symbols:
        console.print("\n[bold]with these values[/]")
        say(numbers)
    if plot is not None:
        from geomalign import plotting

        say(f"figure  {plotting.gradient_field(objective, plot, title=name)}")
    if potential is not None:
        from geomalign import plotting

        geometries = {show.short(term.optimization): term.optimization for _, term in objective.terms}
        say(f"figure  {plotting.potentials(geometries, potential, title=name)}")
    if open_:
        _opened(explorer.address(name, objective))


@app.command(context_settings=OPEN)
def explore(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help='A recipe or my_module:my_objective, also with options: "opo mu=2".')
    ] = None,
    print_: Annotated[bool, typer.Option("--print", help="Print the page's address and open nothing.")] = False,
) -> None:
    """Open the explorer: potentials, flows on the simplex, any two recipes compared, in a page that needs no network.

    [dim]geomalign explore opo --mu 10[/]
    """
    link = explorer.address()
    if name is not None:
        from geomalign import recipes

        name, hyper = options.objective(name, context.args)
        link = explorer.address(name, recipes.get(name, **hyper))
    if print_:
        say(link)
    else:
        _opened(link)


def _opened(link: str) -> None:
    if explorer.open_page(link):
        say(f"explorer  {link}")
    else:
        say(f"There is no browser here; open this address in one:\n{link}")


def _publication(name: str) -> Reference:
    """The publication of a recipe of this library."""
    from geomalign.recipes import PUBLICATIONS
    from geomalign.recipes.lookup import builder

    builder(name)  # refuses a name that there is not, with the names that there are
    found = PUBLICATIONS.get(name.removeprefix("geomalign.recipes:"))
    if found is None:
        raise ValueError(
            f"--bibtex prints the publications of this library's recipes, of which {name!r} is none. For an objective "
            "of your own, cite the recipe that it started from, for example: geomalign show dpo --bibtex"
        )
    return found


@app.command()
def identify(
    name: Annotated[
        str,
        typer.Argument(help="my_module:my_loss, a function of (log_ratio, advantage), (margin) or (chosen, rejected)."),
    ],
    kind: Annotated[
        str | None, typer.Option("--kind", help="advantage, margin or pair; read off the arguments if left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the identified geometry to this file.")] = None,
) -> None:
    """Read the geometry off a loss: chart, potential, curvature, equilibrium, saturation, coupling."""
    from geomalign.analysis.identification import identify as read

    found = read(_event_loss(name, kind), kind=kind)
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
    """Audit a run from its dump: what its steps could do, how geometries would have acted, a suggested stiffness."""
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
        str,
        typer.Option(
            "--against",
            help='The objective that the loss should be: a recipe or my_module:my_objective; "opo mu=2" too.',
        ),
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
    if not callable(found):
        raise ValueError(f"{name} is {type(found).__name__}, not a function.")
    return found


#: How names of parameters begin that hold log-probabilities or whole responses, and not one event.
_OF_A_BATCH = (
    "old",
    "ref",
    "mask",
    "logp",
    "log_prob",
    "policy",
    "per_token",
    "behavior",
    "sampling",
    "rollout",
    "completion",
    "response",
)


def _event_loss(name: str, kind: str | None) -> Callable[..., Any]:
    """The function that `module:function` names, where it can be a loss of one event."""
    import torch

    from geomalign.objective import BaseObjective

    found = _function(name)
    seen = "is an objective" if isinstance(found, BaseObjective) else ""
    if not seen:
        signature = inspect.signature(found)
        places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        needs = sum(p.default is p.empty and p.kind in places for p in signature.parameters.values())
        words, count = list(signature.parameters), 1 if kind == "margin" or (kind is None and needs == 1) else 2
        try:
            signature.bind(*range(count))
            fits = not any(word == "batch" or word.startswith(_OF_A_BATCH) for word in words[:count])
        except TypeError:
            fits = False
        seen = "" if fits else f"takes ({', '.join(words)})"
        with contextlib.suppress(Exception):  # an error of the function is raised where it is identified
            if isinstance(found(*torch.ones(needs, 1, dtype=torch.float64)), BaseObjective):
                seen = "makes an objective"
    if seen:
        raise ValueError(
            f"identify takes a function of (log_ratio, advantage), (margin) or (chosen, rejected); {name} {seen}. For "
            "a loss of a batch use `geomalign parity`; for an objective, `geomalign show`."
        )
    return found


@app.command()
def plugins() -> None:
    """List recipes that other installed packages offer, and why one could not be loaded."""
    from geomalign.recipes import plugins as installed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", installed.BrokenPluginWarning)  # the report says it
        say(installed.report())


@app.command(context_settings=OPEN)
def export(
    context: typer.Context,
    host: Annotated[str, typer.Argument(help=f"One of {', '.join(HOSTS)}.")],
    name: Annotated[str, typer.Argument(help='A recipe or my_module:my_objective, also with options: "opo mu=2".')],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the configuration to this file instead of the terminal.")
    ] = None,
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
