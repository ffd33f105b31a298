"""The API pages, made from the code: one page per module, every public name on one of them.

Docstrings are Markdown, so the pages are Markdown: one Python directive per name, with its docstring in it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Modules in the reader's order, with the question each answers; what is not listed follows by name.
MODULES = {
    "objective": "Objectives: five slots and their sum",
    "batch": "Batches",
    "nonfinite": "Values that are not finite",
    "unit": "Units: what is one event?",
    "chart": "Charts: in which coordinate is distance read?",
    "sampling": "Sampling geometries: what pulls?",
    "optimization": "Optimization geometries: what resists?",
    "measure": "Measures: an average over what?",
    "divergences": "Divergences, target policies, trust regions and estimates",
    "control": "Controllers of the stiffness",
    "analysis": "What can be learnt of a loss",
    "_util": "Small types: groups of rows, intervals, locality",
}
# The packages of the slots hold further members, beside those in the flat namespace.
SLOTS = ("unit", "chart", "sampling", "optimization", "divergences")
# Public modules beside the flat namespace: their own public functions and classes are listed.
BESIDE = {
    "recipes": "Recipes",
    "laws": "Laws, for tests of your own geometry",
    "training": "Training",
    "tasks": "Tasks and verifiers",
    "plotting": "Figures",
    "audit": "Audit of a run",
    "distributed": "Many processes",
    "recipes.plugins": "Entry points of other packages",
    "ops": "The gradient made fast, and on any engine",
    "adapters.trl": "TRL's trainers",
    "adapters.transformers": "A loss for transformers.Trainer",
    "adapters.verl": "verl's losses and estimators",
    "adapters.openrlhf": "OpenRLHF's loss",
    "adapters.torchtune": "torchtune's losses",
    "adapters.torchtitan": "torchtitan's loss",
    "adapters.skyrl": "SkyRL's loss and advantages",
    "adapters.tinker": "Tinker's losses",
    "adapters.nemo_rl": "NeMo-RL's loss",
    "adapters.prime_rl": "prime-rl's loss",
    "adapters.rllm": "rLLM's loss",
    "adapters.slime": "slime's loss and rewards",
    "adapters.export": "Configurations for other trainers",
}
# Classes that exist only where their host is installed, each with the part of it that is ours and has its docstring.
HOSTED = {"adapters.trl": {"GeometryGRPOTrainer": "GRPOGeometry", "GeometryDPOTrainer": "DPOGeometry"}}
# What extends a class of a host and says no more than that.
ABSENT = ("GeometryAlgoConfig", "GeometryDistillationLossConfig", "GeometryLossConfig")


def public_names() -> dict[str, Any]:
    """What `import geomalign as ga` offers, but modules."""
    face = importlib.import_module("geomalign")
    found = {name: getattr(face, name) for name in face.__all__}
    return {name: value for name, value in found.items() if not isinstance(value, types.ModuleType)}


def home(value: Any) -> str:
    """The module of ours that a name is from."""
    return value.__module__.split(".")[1] if value.__module__.startswith("geomalign.") else "objective"


def beside(module: str) -> dict[str, Any]:
    """The public names of a module beside the flat namespace."""
    found = importlib.import_module(f"geomalign.{module}")
    listed = getattr(found, "__all__", None) or [n for n in vars(found) if not n.startswith("_")]
    stand_ins = HOSTED.get(module, {})
    values = {name: getattr(found, stand_ins.get(name, name)) for name in listed if name not in ABSENT}
    return {
        name: value
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.startswith(f"geomalign.{module}")
    }


def pages() -> dict[str, str]:
    """File name → Markdown of every API page and of their index."""
    by_module: dict[str, dict[str, Any]] = {module: {} for module in MODULES}
    for name, value in public_names().items():
        by_module.setdefault(home(value), {})[name] = value
    titles = {**{module: module.replace("_", " ").capitalize() for module in by_module}, **MODULES, **BESIDE}
    by_module = {module: names for module, names in by_module.items() if names}
    for module in SLOTS:  # a class that serves one method is reached through its slot
        own = {name: value for name, value in beside(module).items() if name not in public_names()}
        by_module[module] |= {f"{module}.{name}": value for name, value in own.items()}
    by_module |= {module: {f"{module}.{n}": v for n, v in beside(module).items()} for module in BESIDE}
    made = {f"{module}.md": _page(titles[module], names) for module, names in by_module.items()}
    toc = "\n".join(by_module)
    made["index.md"] = f"# Every public name\n\nAs `import geomalign as ga` has them.\n\n```{{toctree}}\n{toc}\n```\n"
    return made


def write(folder: Path) -> None:
    """Write the pages, leaving those that are as they should be untouched."""
    folder.mkdir(exist_ok=True)
    made = pages()
    for old in folder.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")


def _page(title: str, names: dict[str, Any]) -> str:
    return f"# {title}\n\n" + "\n\n".join(_entry(name, value) for name, value in names.items()) + "\n"


def _entry(name: str, value: Any) -> str:
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    body = [*_markdown(inspect.getdoc(value) or "")]
    if inspect.isclass(value):
        for member, method in _own_members(value):
            what = "property" if isinstance(method, property) else "method"
            function = method.fget if isinstance(method, property) else inspect.unwrap(method)
            call = "" if what == "property" else _signature(function, skip_self=True)
            body += ["", f":::{{py:{what}}} {member}{call}", *_markdown(inspect.getdoc(function) or ""), ":::"]
    return "\n".join([f"::::{{py:{kind}}} geomalign.{name}{_signature(value)}", *body, "::::"])


def _own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Documented public methods and properties that the class itself defines."""
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield name, member if isinstance(member, property) else function


def _signature(value: Any, skip_self: bool = False) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = list(signature.parameters.values())[1 if skip_self else 0 :]
    shown = []
    for parameter in parameters:
        default = parameter.default
        if default is not parameter.empty and not isinstance(default, (int, float, str, bool, tuple, type(None))):
            default = _Verbatim(repr(default) if dataclasses.is_dataclass(default) else "...")
        shown.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty)).replace(" at 0x", "")


class _Verbatim:
    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


_SECTION = re.compile(r"^(Args|Returns|Raises|Warns|Shape|Example|Note|Source|References|Yields):\s*(.*)$")


def _markdown(text: str) -> Iterator[str]:
    """A docstring as Markdown: sections in bold, arguments as a list, examples fenced."""
    section, fenced = "", False
    for line in text.splitlines():
        bare = line.strip()
        if fenced and not bare:
            yield "```"
            fenced = False
        if bare.startswith(">>>") and not fenced:
            yield from ("", "```pycon")
            fenced = True
        if fenced:
            yield bare if bare.startswith((">>>", "...")) else line[4:] if line.startswith("    ") else line
            continue
        started = _SECTION.match(bare) if not line.startswith(" ") else None
        if started:
            section = started.group(1)
            yield from ("", f"**{section}.** {_escaped(started.group(2))}".rstrip(), "")
            continue
        if line and not line.startswith(" "):
            section = ""
        if section and re.match(r"^    \S", line) and re.match(r"^[*\w][\w*, |.\"]*:\s", bare):
            name, _, rest = bare.partition(":")
            yield f"* `{name.strip('`')}`:{_escaped(rest)}"
        elif section and line.startswith("    "):
            yield f"  {_escaped(bare)}"
        else:
            yield _escaped(line)
    if fenced:
        yield "```"


def _escaped(line: str) -> str:
    """The text with `*`, `<` and `>` escaped outside of code, so that u* and <x> appear as written."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if part.startswith("`") else re.sub(r"(?<=[\w)\]])\*|\*(?=[\s(,.)_])", r"\\*", part).replace("<", r"\<")
        for part in parts
    )
