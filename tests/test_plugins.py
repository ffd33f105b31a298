"""Entry points of other packages: found by name, checked by the laws, and harmless where they are broken."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import geomalign as ga
from geomalign import cli
from geomalign.recipes import plugins

MODULE = """
import dataclasses
import geomalign as ga
import torch

def gentle(mu: float = 2.0):
    return ga.Objective(unit=ga.Sequence(), sampling=ga.GroupAdvantage(), optimization=Huber(mu))

def nonsense():
    return 3

@dataclasses.dataclass(frozen=True)
class Huber(ga.BregmanGeometry):
    mu: float = 1.0

    def value(self, u):
        return self.mu * (torch.hypot(u, torch.ones_like(u)) - 1)

    def mirror(self, u, drive=None):
        return self.mu * u / torch.hypot(u, torch.ones_like(u))

    def curvature(self, u, drive=None):
        return self.mu / torch.hypot(u, torch.ones_like(u)) ** 3

    def equilibrium(self, drive):
        return drive / torch.sqrt((self.mu - drive) * (self.mu + drive))

    def conjugate(self, drive):
        return self.mu - torch.sqrt((self.mu - drive) * (self.mu + drive))

    @property
    def domain(self):
        return ga.Interval()

    @property
    def conjugate_domain(self):
        return ga.Interval(-self.mu, self.mu)

    def latex(self, u, drive):
        return rf"{self.mu:g}(\\sqrt{{1+{u}^2}}-1)"

number = 4
"""
ENTRY_POINTS = """
[geomalign.recipes]
gentle = other_package:gentle
nonsense = other_package:nonsense
absent = other_package:absent
missing = no_such_package:thing
number = other_package:number
opo = other_package:gentle
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution on the path, with an entry point of every kind of fault."""
    (tmp_path / "other_package.py").write_text(MODULE)
    metadata = tmp_path / "other_package-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.found.cache_clear()
    yield tmp_path
    plugins.found.cache_clear()
    sys.modules.pop("other_package", None)


def quietly() -> tuple[plugins.Plugin, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", plugins.BrokenPluginWarning)
        return plugins.found()


def test_a_recipe_is_reached_by_name(installed: Path) -> None:
    quietly()
    objective = ga.recipes.get("gentle", mu=3.0)
    assert objective.optimization.mu == 3.0
    policy = torch.zeros(4, 2, requires_grad=True)
    objective(ga.Batch(policy, policy.detach(), reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))).loss.backward()
    assert torch.equal(policy.grad[0], torch.tensor([-0.125, -0.125]))


def test_a_geometry_passes_the_laws(installed: Path) -> None:
    from other_package import Huber as huber  # type: ignore[import-not-found]

    ga.laws.check_geometry(huber(mu=0.7))

    class Wrong(huber):
        def curvature(self, u: torch.Tensor, drive: torch.Tensor | None = None) -> torch.Tensor:
            return self.mu / torch.hypot(u, torch.ones_like(u)) ** 2

    with pytest.raises(ga.laws.LawViolation, match="curvature"):
        ga.laws.check_geometry(Wrong(mu=0.7))
    with pytest.raises(TypeError, match="fills no slot"):
        ga.laws.check_geometry(huber)


def test_broken_ones_are_reported_once_and_not_fatal(installed: Path) -> None:
    with pytest.warns(plugins.BrokenPluginWarning) as caught:
        plugins.found()
    messages = [str(w.message) for w in caught]
    assert len(messages) == 3
    assert any("'missing' = no_such_package:thing of other-package 1.2: ModuleNotFoundError" in m for m in messages)
    assert any("'absent'" in m and "AttributeError" in m for m in messages)
    assert any("'number'" in m and "it is int" in m for m in messages)
    plugins.found()  # an error would be raised: the warning comes once
    assert set(plugins.recipes()) == {"gentle", "nonsense", "opo"}
    assert "broken recipe 'missing'" in plugins.report()
    assert "recipe 'gentle' = other_package:gentle of other-package 1.2" in plugins.report()


def test_what_is_asked_for_by_name_says_what_is_wrong(installed: Path) -> None:
    quietly()
    with pytest.raises(ValueError, match=r"'missing' of other-package 1.2 could not be loaded: ModuleNotFoundError"):
        ga.recipes.get("missing")
    with pytest.raises(ValueError, match="nonsense returned int, not an objective"):
        ga.recipes.get("nonsense")


def test_our_own_names_are_not_taken(installed: Path) -> None:
    quietly()
    assert ga.recipes.get("opo", alpha=0.5).sampling == ga.Escort(0.5)


def test_the_command_line_names_them(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quietly()
    for words in (["list"], ["list", "--table"]):
        assert cli.main(words) == 0
        rows = [line for line in capsys.readouterr().out.splitlines() if "(other-package 1.2)" in line]
        assert [row.split()[0] for row in rows] == ["gentle", "nonsense"]
    assert "Huber" in rows[0] and "cannot be built" in rows[1]
    assert cli.main(["show", "gentl"]) == 2
    assert "Did you mean 'gentle'?" in capsys.readouterr().out


def test_the_command_line_warns_once_and_in_words(installed: Path) -> None:
    def errors(*words: str) -> list[str]:
        path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "geomalign", *words]
        return subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ).stderr.splitlines()

    said = errors("list", "--table")
    assert len(said) == 3 and all(line.startswith("warning: broken recipe '") for line in said)
    assert errors("plugins") == []


def test_two_packages_with_one_name(installed: Path) -> None:
    metadata = installed / "third_package-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-package\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("[geomalign.recipes]\ngentle = third_package:gentle\n")
    (installed / "third_package.py").write_text("def gentle(): ...\n")
    plugins.found.cache_clear()
    quietly()
    assert plugins.recipes()["gentle"].__module__ == "other_package"
    assert "the name is taken by other_package:gentle of other-package 1.2" in plugins.report()


def test_without_any_package() -> None:
    plugins.found.cache_clear()
    if not plugins.found():
        assert "no package offers entry points" in plugins.report()
