"""The pytest plugin in a suite of somebody else, and the function that it offers."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import geomalign as ga
from geomalign.laws.pytest_plugin import assert_conforms

try:
    import tomllib
except ImportError:
    import tomli as tomllib

pytest_plugins = ["pytester"]

MODULE = "geomalign.laws.pytest_plugin"
LOSS = """
def my_loss(logps, old_logps, advantages, mask):
    ratio, a = (logps - old_logps).exp(), advantages[:, None]
    return (-(ratio * a).minimum(ratio.clamp(1 - EPSILON, 1 + EPSILON) * a) * mask).sum() / mask.sum()
"""


def bnpo(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    ratio, a = (logps - old_logps).exp(), advantages[:, None]
    return (-(ratio * a).minimum(ratio.clamp(0.8, 1.2) * a) * mask).sum() / mask.sum()


def clamped(logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The same with log-ratios held within five nats: what implementations do against overflow."""
    return bnpo((logps - old_logps).clamp(-5, 5), torch.zeros_like(old_logps), advantages, mask)


def test_a_suite_of_somebody_elses(pytester: pytest.Pytester) -> None:
    """Fixture and function; a loss that conforms passes, and one that does not says where."""
    pytester.makepyfile(
        f"""
        from geomalign.laws.pytest_plugin import assert_conforms as function
        EPSILON = 0.2
        {LOSS.replace(chr(10), chr(10) + " " * 8)}
        def test_passes(assert_conforms):
            assert_conforms(my_loss, "bnpo")

        def test_is_the_same_function(assert_conforms):
            assert assert_conforms is function

        def test_fails(assert_conforms):
            assert_conforms(my_loss, "bnpo", epsilon=0.1)
        """
    )
    here = any(p.value == MODULE for p in importlib.metadata.entry_points(group="pytest11"))
    result = pytester.runpytest_inprocess("-q", *([] if here else ["-p", MODULE]))
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*my_loss is not the recipe that it is held to:*", "*against bnpo(epsilon=0.1)*"])
    result.stdout.no_fnmatch_line("*compare_loss(*")  # the trace ends in the test, not in the plugin


def test_pytest_finds_the_plugin_and_starts_without_torch() -> None:
    root = Path(__file__).parent.parent
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"geomalign": MODULE}
    code = f"import sys, {MODULE}; print(*{{'torch', 'numpy', 'hypothesis'}} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert seen.stdout.strip() == ""


def test_a_known_deviation_is_allowed_and_must_be_seen() -> None:
    with pytest.raises(AssertionError, match="far: differs"):
        assert_conforms(clamped, "bnpo")
    reason = {"far": "log-ratios beyond five nats are clamped"}
    report = assert_conforms(clamped, "bnpo", deviations=reason)
    assert not report["far"].equal and report["wide"].equal
    with pytest.raises(AssertionError, match=r"known to deviate: far \(log-ratios beyond five nats are clamped\)"):
        assert_conforms(bnpo, "bnpo", deviations=reason)
    with pytest.raises(ValueError, match=r"names \['fra'\]; the families of batches are \['ragged', 'wide'"):
        assert_conforms(bnpo, "bnpo", deviations={"fra": "…"})


def test_a_loss_that_raises_does_not_conform() -> None:
    def refuses(logps: Tensor, advantages: Tensor) -> Tensor:
        raise RuntimeError("no mask")

    with pytest.raises(AssertionError, match="refused: RuntimeError: no mask"):
        assert_conforms(refuses, "bnpo")


def test_type_and_tolerance_are_passed_on() -> None:
    def nearly(batch: ga.Batch) -> Tensor:
        return ga.recipes.bnpo()(batch).loss * (1 + 1e-5)

    with pytest.raises(AssertionError, match="proportional"):
        assert_conforms(nearly, "bnpo")
    assert assert_conforms(nearly, "bnpo", tolerance=1e-4).equal
    assert assert_conforms(nearly, "bnpo", dtype=torch.float32).equal
