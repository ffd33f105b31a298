"""Imports point one way (docs/theory.md, "Layers"): read off the syntax tree, so nothing is imported to find out."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "geomalign"

# The formula is the layering: what the slots are made of, the slots, the objective, what is done with objectives.
LAYERS: dict[str, frozenset[str]] = {
    "tools": frozenset({"_util"}),
    "data": frozenset({"batch", "nonfinite"}),
    "divergences": frozenset({"divergences"}),
    "slots": frozenset({"unit", "chart", "sampling", "optimization", "measure"}),
    "objective": frozenset({"objective", "control", "distributed"}),
    "gradients": frozenset({"ops"}),
    "study": frozenset({"recipes", "analysis", "laws"}),
    "use": frozenset({"tasks", "training", "report", "adapters", "audit", "plotting"}),
    "command line": frozenset({"cli", "__main__"}),
}
# Within a layer these imports are meant, in one direction; the others stand side by side.
BESIDE: dict[str, set[str]] = {
    "nonfinite": {"batch"},
    "control": {"objective", "distributed"},
    "distributed": {"objective"},
    "laws": {"recipes"},
    "training": {"tasks"},
    "report": {"plotting"},
    "audit": {"plotting"},
    "adapters": {"audit"},
    "__main__": {"cli"},
}
RANK = {module: rank for rank, layer in enumerate(LAYERS.values()) for module in layer}

# Third parties, and the only modules that may name them; `lazily`: only inside functions.
TOP_ONLY = {
    "transformers": {"training", "adapters"},
    "tokenizers": {"training", "adapters"},
    "safetensors": {"training", "adapters"},
    "accelerate": {"training", "adapters"},
    "matplotlib": {"plotting", "report"},
    "typer": {"cli"},
    "rich": {"cli"},
    "pydantic": {"tasks", "training"},
    "trl": {"adapters", "ops"},
    "verl": {"adapters"},
    "datasets": {"adapters", "tasks"},
    "reasoning_gym": {"tasks"},
    "math_verify": {"tasks"},
    "peft": {"training"},
    "wandb": {"training"},
    "trackio": {"training"},
}
LAZILY = frozenset(TOP_ONLY) - {"typer", "rich", "pydantic"}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The module or sub-package that a file belongs to: batch.py → batch, recipes/policy.py → recipes."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every dotted name that a file imports, and whether that happens when the module is loaded."""

    def names(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base == "geomalign" and not node.level:
                yield from (f"geomalign.{alias.name}" for alias in node.names)
                return
            if node.level:
                package = ("geomalign", *path.relative_to(PACKAGE).parts[:-1])
                base = ".".join((*package[: len(package) - node.level + 1], base)).rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)

    def walk(node: ast.AST, loading: bool) -> Iterator[tuple[str, bool]]:
        for name in names(node):
            yield name, loading
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or typing_only(node)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, loading and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def inner(name: str) -> str | None:
    """The module of ours that a dotted name reaches into."""
    head, *rest = name.split(".")
    return rest[0] if head == "geomalign" and rest else None


def edges() -> dict[str, set[str]]:
    """Which top-level modules of ours each of them imports."""
    found: dict[str, set[str]] = {module: set() for module in RANK}
    for path in files():
        unit = unit_of(path)
        if unit != "__init__":
            found[unit] |= {inner(name) or "" for name, _ in imports(path)} & set(RANK) - {unit}
    return found


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    assert {unit_of(path) for path in files()} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_point_up(path: Path) -> None:
    unit = unit_of(path)
    if unit == "__init__":
        pytest.skip("the public face names everything")
    for name, _ in imports(path):
        target = inner(name)
        if target is None:
            # `import geomalign as ga` would hide what is used.
            assert name != "geomalign", f"{path.name} imports geomalign itself"
        elif target != unit and target in RANK:
            assert RANK[target] <= RANK[unit], f"{path.name} imports {name}, which is a layer above"


@pytest.mark.parametrize("module", sorted(RANK))
def test_modules_of_a_layer_stand_side_by_side(module: str) -> None:
    """The slots do not know each other; elsewhere `BESIDE` names every exception, and no exception that is not used."""
    layer = next(modules for modules in LAYERS.values() if module in modules)
    assert edges()[module] & layer == BESIDE.get(module, set())


def no_circle(needs: dict[str, set[str]]) -> None:
    left = dict(needs)
    while free := [name for name, wanted in left.items() if not wanted & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"these import each other in a circle: {sorted(left)}"


def test_no_circle() -> None:
    no_circle(edges())


def test_files_load_in_one_order() -> None:
    """Also inside a room no two files need each other while they are loaded; a package loads before its own files."""
    named = {".".join(("geomalign", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in files()}
    owner = {name.removesuffix(".__init__"): name for name in named}
    needs: dict[str, set[str]] = {}
    for name, path in named.items():
        above = {name[:end] for end, letter in enumerate(name) if letter == "."}
        found = {owner[target] for target, loading in imports(path) if loading and target in owner.keys() - above}
        needs[name] = found - {name}
    no_circle(needs)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_third_parties_stay_at_the_top(path: Path) -> None:
    for name, loading in imports(path):
        party = name.split(".")[0]
        if party in TOP_ONLY:
            assert unit_of(path) in TOP_ONLY[party], f"{path.name} imports {party}; only {sorted(TOP_ONLY[party])} may"
            assert not loading or party not in LAZILY, f"{path.name} imports {party} while loading; do it in a function"


def loaded_by(command: str) -> set[str]:
    listing = subprocess.run(
        [sys.executable, "-c", f"{command}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in listing.stdout.split()}


def test_importing_geomalign_loads_torch_and_nothing_heavier() -> None:
    loaded = loaded_by("import geomalign as ga; ga.recipes; ga.Batch")
    assert "torch" in loaded
    assert not loaded & (set(TOP_ONLY) | {"hypothesis", "pandas"})


def test_help_needs_no_torch() -> None:
    loaded = loaded_by("import geomalign.cli; geomalign.cli.main(['--help'])")
    assert not loaded & {"torch", "transformers", "matplotlib", "numpy", "pydantic"}


def test_the_reader_of_imports_reads() -> None:
    """The test above is only worth what `imports` sees."""
    seen = dict(imports(Path(__file__)))
    assert seen["ast"] and seen["pathlib.Path"] and "typer" not in seen
