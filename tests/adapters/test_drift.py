"""The report of what changed in the trainers: on releases made up here, and the record against what is installed."""

import dataclasses
import importlib.metadata
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from geomalign.adapters.export import HOSTS
from tests.adapters import drift

OLD = '''
    """A module."""

    class Loss:
        """A loss."""
        weight: float = 1.0

        def forward(self, x: int, mask=None):
            """Computes."""
            # a comment
            return x * mask

    def reduce(x, mode="mean"):
        return x.mean()

    def kept(x):
        return x
'''


def wheel(folder: Path, version: str, files: dict[str, str]) -> drift.Wheel:
    path = folder / f"host-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, textwrap.dedent(text))
    return drift.Wheel(path)


def changes(folder: Path, new: dict[str, str], *names: str) -> dict[str, tuple[str, str]]:
    old = wheel(folder, "1.0", {"host/loss.py": OLD})
    contract = drift.Contract("host", "1.0", {"host/loss.py": names})
    found = drift.compare("host", contract, old, wheel(folder, "2.0", new))
    assert found.newest == "2.0"
    return {name.split(": ")[1]: seen for name, seen in found.changes.items()}


NAMES = ("Loss.forward", "Loss", "reduce", "kept")


def test_comments_docstrings_annotations_and_layout_are_no_change(tmp_path: Path) -> None:
    new = OLD.replace("# a comment", "").replace('"""Computes."""', '"""Computes it."""').replace("x: int", "x: float")
    new = new.replace("return x * mask", "return (\n                x\n                * mask\n            )")
    assert changes(tmp_path, {"host-2.0.data/purelib/host/loss.py": new}, *NAMES) == {}


def test_code_arguments_fields_and_defaults_are(tmp_path: Path) -> None:
    new = OLD.replace("x.mean()", "x.sum()").replace("mask=None", "mask=None, *, scale=1, **more")
    new = new.replace("weight: float = 1.0", "weight: float = 0.5\n        cap: float = 2.0")
    seen = changes(tmp_path, {"host/loss.py": new}, *NAMES)
    assert seen.keys() == {"Loss.forward", "Loss", "reduce"}
    assert seen["Loss.forward"][0].startswith("new: `scale`, `*more`, ")
    assert seen["Loss"][0].startswith("new: `cap`, ")
    assert seen["reduce"][0] == "2 lines of code"
    assert "-    return x.mean()" in seen["reduce"][1] and "+    return x.sum()" in seen["reduce"][1]


def test_what_is_gone_or_moved_is_named(tmp_path: Path) -> None:
    def without(start: str, end: str) -> str:
        return OLD[: OLD.index(start)] + (OLD[OLD.index(end) :] if end else "")

    files = {
        "host/loss.py": without("def reduce", "def kept"),
        "host/utils.py": "def unrelated():\n    return reduce\n\ndef reduce(x, mode='mean'):\n    return x.mean()\n",
    }
    assert changes(tmp_path, files, *NAMES) == {"reduce": ("moved to `host/utils.py`", "")}
    files = {"host/loss.py": without("def kept", ""), "host/utils.py": "def other():\n    return 'def kept'\n"}
    assert changes(tmp_path, files, *NAMES) == {"kept": ("gone", "")}


def test_a_record_that_is_wrong_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"has no Loss\.backward: correct CONTRACTS"):
        changes(tmp_path, {"host/loss.py": OLD}, "Loss.backward")


def test_the_page_names_versions_and_changes(tmp_path: Path) -> None:
    quiet = drift.Drift("trl", drift.CONTRACTS["trl"].version, {})
    loud = drift.Drift("verl", "9.9", {"verl/trainer/ppo/core_algos.py: agg_loss": ("new: `x`, 3 lines of code", "")})
    text = drift.page([quiet, loud], "2026-11-28")
    assert "| trl | 1.16.0 | 1.16.0 | " in text and "none changed" in text
    assert "| verl | 0.9.1 | 9.9 | " in text and "| 1 changed |" in text
    assert "* `verl/trainer/ppo/core_algos.py: agg_loss`: new: `x`, 3 lines of code" in text


def test_the_command_reads_the_newest_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wheel that pip does not have is reported and leaves the page as it was."""
    made = {
        "1.0": wheel(tmp_path, "1.0", {"host/loss.py": OLD}),
        "": wheel(tmp_path, "2.0", {"host/loss.py": OLD.replace("x.mean()", "x.sum()")}),
    }

    def download(package: str, version: str, folder: Path) -> drift.Wheel:
        if package == "missing":
            raise RuntimeError("pip has no wheel of missing")
        return made[version]

    page = tmp_path / "drift.md"
    monkeypatch.setattr(drift, "download", download)
    monkeypatch.setattr(drift, "PAGE", page)
    contract = drift.Contract("host", "1.0", {"host/loss.py": NAMES})
    monkeypatch.setattr(drift, "CONTRACTS", {"host": contract})
    assert drift.main([]) == 0 and "| host | 1.0 | 2.0 | 4 | 1 changed |" in page.read_text()
    printed = capsys.readouterr().out
    assert "host 1.0 → 2.0: 1 changed" in printed and "+    return x.sum()" in printed
    monkeypatch.setattr(
        drift, "CONTRACTS", {"host": contract, "gone": dataclasses.replace(contract, package="missing")}
    )
    page.write_text("as it was")
    assert drift.main([]) == 1 and page.read_text() == "as it was"
    assert "gone: pip has no wheel of missing" in capsys.readouterr().err
    assert drift.main(["nobody"]) == 2


def test_every_trainer_has_a_contract() -> None:
    assert set(HOSTS) <= set(drift.CONTRACTS) | set(drift.ELSEWHERE)


@pytest.mark.parametrize("host", drift.CONTRACTS)
def test_the_record_is_of_what_is_installed(host: str) -> None:
    """Where the trainer is here in the recorded release, every function of the record is found in it."""
    contract: Any = drift.CONTRACTS[host]
    try:
        distribution = importlib.metadata.distribution(contract.package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{contract.package} is not installed here")
    if distribution.version != contract.version:
        pytest.skip(f"{contract.package} {distribution.version} is here; the record is of {contract.version}")
    for file, name in contract.names():
        source = Path(str(distribution.locate_file(file))).read_text(encoding="utf-8")
        assert drift.find(source, name) is not None, f"{file} has no {name}"
