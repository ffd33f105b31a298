"""The mutations themselves: each is one change, of code and not of text, and the file parses with it."""

from __future__ import annotations

import ast
import fnmatch
import json
from pathlib import Path

import pytest

from tests.mutants import report, runner, targets
from tests.mutants.mutations import mutants

CODE = '''
class Clip:
    """Low < high."""

    low: float = 0.5

    def force(self, u: "int | None", drive: object) -> bool:
        if not self.low <= u:
            raise ValueError(f"{u + 1}")
        return torch.where(u > 0, drive, "größer").clamp(min=-1) + self.high * all(drive)

    def latex(self) -> str:
        return "a" + str(1 + 1)
'''


def test_the_mutants_of_a_class(tmp_path: Path) -> None:
    (tmp_path / "clip.py").write_text(CODE, encoding="utf-8")
    found = {(mutant.kind, mutant.before, mutant.after) for mutant in mutants(tmp_path, "clip.py")}
    where = 'torch.where(u > 0, drive, "größer")'
    assert found == {
        ("default", "0.5", "0.75"),
        ("not", "not self.low <= u", "(self.low <= u)"),
        ("opposite", "self.low", "(self.high)"),
        ("boundary", "self.low <= u", "(self.low < u)"),
        ("comparison", "self.low <= u", "(self.low > u)"),
        ("boundary", "u > 0", "(u >= 0)"),
        ("comparison", "u > 0", "(u <= 0)"),
        ("constant", "0", "1"),
        ("arguments", where, "(torch.where(u > 0, 'größer', drive))"),
        ("clamp", f"{where}.clamp(min=-1)", "(torch.where(u > 0, drive, 'größer'))"),
        ("opposite", f"{where}.clamp(min=-1)", "(torch.where(u > 0, drive, 'größer').clamp(max=-1))"),
        ("sign", "-1", "1"),
        ("constant", "1", "2"),
        ("opposite", "self.high", "(self.low)"),
        ("operator", f"{where}.clamp(min=-1) + self.high * all(drive)",
         "(torch.where(u > 0, drive, 'größer').clamp(min=-1) - self.high * all(drive))"),
        ("operator", "self.high * all(drive)", "(self.high / all(drive))"),
        ("opposite", "all(drive)", "(any(drive))"),
    }  # fmt: skip


@pytest.mark.parametrize("package", targets.PACKAGES)
def test_every_mutant_parses_and_its_tests_exist(package: str) -> None:
    paths = targets.modules(targets.ROOT, package)
    assert paths
    for path in paths:
        text = (targets.ROOT / path).read_text(encoding="utf-8")
        for mutant in mutants(targets.ROOT, path)[::17]:
            changed = mutant.applied(text)
            assert changed != text
            ast.parse(changed)
        assert [file for file in targets.tests(path) if not (targets.ROOT / file.split("::")[0]).is_file()] == []


def test_every_pattern_of_the_targets_finds_a_module() -> None:
    package = targets.ROOT / "geomalign"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    for pattern in [pattern for patterns in targets.PACKAGES.values() for pattern in patterns]:
        assert list(package.glob(pattern)), f"{pattern} of PACKAGES fits no module; see targets.py."
    first = [next(pattern for pattern in targets.TESTS if fnmatch.fnmatch(module, pattern)) for module in modules]
    assert set(targets.TESTS) - set(first) == set()  # what no module uses has moved, or is hidden by another pattern


def test_what_is_explained_is_a_mutant_of_the_code_as_it_is() -> None:
    explained = report.reasons()
    found = {mutant.key for path in {key[0] for key in explained} for mutant in mutants(targets.ROOT, path)}
    gone = [f"{key[0]}: {key[1]}" for key in explained if key not in found]
    assert not gone, f"The lines have changed: look at them again, and mend or remove {gone} in equivalent.json."


def test_the_page_counts_what_counts(tmp_path: Path) -> None:
    record = {"package": "unit", "path": "a.py", "line": 1, "column": 0, "kind": "sign", "context": "x", "before": "-x"}
    first = [
        record | {"after": str(k), "verdict": verdict} for k, verdict in enumerate(("killed", "killed", "survived"))
    ]
    later = [record | {"seed": 1, "after": str(k), "verdict": "killed", "again": k == 4} for k in (1, 3, 4)]
    later += [record | {"seed": 1, "after": "5", "verdict": "gone"}]
    for number, records in enumerate((first, later)):
        (tmp_path / f"{number}.json").write_text(json.dumps(records), encoding="utf-8")
    page = report.page(report.read([tmp_path / "1.json", tmp_path / "0.json"]))
    zero, one = page.split("## Sample of seed ")[1:]
    assert "| unit | 3 | 0 | 0 | 2 | 1 | 67% | 67% |" in zero
    assert "| unit | 3 | 0 | 1 | 2 | 0 | 33% | 100% |" in one  # that of seed 0 is not counted again
    assert "| `a.py:1` | sign | `-x` | `2` | not yet looked into |" in one


def test_what_is_called_equivalent_has_a_reason() -> None:
    assert all(len(entry["reason"]) > 20 for entry in report.reasons().values())


@pytest.mark.slow
def test_a_run_without_an_end_is_a_kill_and_its_time_is_that_of_the_processor(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "geomalign").symlink_to(targets.ROOT / "geomalign")  # whose plugin pytest loads
    (tree / "test_endless.py").write_text("def test_endless():\n    while True: pass\n")
    (tree / "test_asleep.py").write_text("import time\ndef test_asleep(): time.sleep(6)\n")
    assert runner.verdict(tree, ["test_endless.py"], limit=5) == ("killed", "no end within 5 s of processor time")
    assert runner.verdict(tree, ["test_asleep.py"], limit=5) == ("survived", "")
