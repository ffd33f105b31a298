"""Wrong lines that the fast tests once did not notice, by hand: larger changes than mutations.py makes.

Each is a test file (or a test of it), a module below geomalign/, a text that occurs there, and what it becomes.
"""

from __future__ import annotations

SLOTS = "tests/test_slot_values.py"
THRESHOLDS = "tests/test_thresholds.py"
DEFAULTS = "tests/recipes/test_defaults.py"
STEP = "tests/training/test_step.py"
HOLM = "tests/test_report.py::test_holms_correction_is_a_step_down_and_not_bonferronis"

KNOWN: tuple[tuple[str, str, str, str], ...] = (
    (SLOTS, "sampling/importance.py", "return self.of.reweight(drive, log_ratio, batch)", "return drive"),
    (SLOTS, "sampling/importance.py", "        return self.of.locality", "        return Locality.ROLLOUT"),
    (
        SLOTS,
        "sampling/escort.py",
        "return batch.groups().centred(exponent)",
        "return batch.groups().centred(exponent * self.temperature)",
    ),
    (SLOTS, "sampling/escort.py", "self.of.drive(batch) / self.temperature", "self.of.drive(batch) * self.temperature"),
    (SLOTS, "sampling/importance.py", ".clamp(min=low))", ")"),
    (SLOTS, "sampling/importance.py", "ratio if self.cap is None else ratio.clamp(max=self.cap)", "ratio"),
    (SLOTS, "sampling/mask.py", "moved <= self.high", "moved <= self.low"),
    (SLOTS, "sampling/mask.py", "moved <= self.low", "moved <= self.high"),
    (SLOTS, "sampling/selection.py", ".to(reward.dtype)) == 1", ".to(reward.dtype)) >= 1"),
    (
        SLOTS,
        "sampling/selection.py",
        "        first = best & (position == -groups.max(torch.where(best, -position, -math.inf)))",
        "        first = best",
    ),
    (SLOTS, "optimization/coupled.py", "torch.relu(drive) * 4 / self.positive", "drive * 4 / self.positive"),
    (
        SLOTS,
        "divergences/mixture.py",
        "-(1.0 - self.weight) * math.log1p(-self.weight))",
        "-self.weight * math.log(self.weight))",
    ),
    (SLOTS, "divergences/variation.py", "s.clamp(min=-0.5)", "s"),
    (SLOTS, "divergences/variation.py", "Interval(-0.5, 0.5)", "Interval(-1.0, 1.0)"),
    (SLOTS, "divergences/base.py", "torch.where(no_p & ~no_q,", "torch.where(no_p,"),
    (SLOTS, "divergences/base.py", "torch.where(no_q & ~no_p,", "torch.where(no_q,"),
    (SLOTS, "divergences/estimate.py", "/ abs(order - 1.0)", "/ (order - 1.0)"),
    (THRESHOLDS, "audit/facts.py", "int(share * x.numel())", "int((1 - share) * x.numel())"),
    (THRESHOLDS, "audit/facts.py", "at_anchor > 0.5", "at_anchor > 0.9"),
    (THRESHOLDS, "audit/facts.py", "silent > 0.3", "silent > 0.5"),
    (THRESHOLDS, "audit/facts.py", "1.0) < 0.3", "1.0) < 0.1"),
    (THRESHOLDS, "audit/facts.py", "0.0) > 1.0", "0.0) > 2.0"),
    (THRESHOLDS, "audit/facts.py", '["tokens_without_gradient"] > 0.2', '["tokens_without_gradient"] > 0.4'),
    (THRESHOLDS, "audit/findings.py", "ANCHORED = 1e-6", "ANCHORED = 1e-4"),
    (THRESHOLDS, "analysis/sensitivity.py", "tolerance * self.scale[1]", "tolerance * self.scale[0]"),
    (THRESHOLDS, "analysis/sensitivity.py", "tolerance: float = 1e-7", "tolerance: float = 1e-3"),
    (THRESHOLDS, "analysis/identification/__init__.py", "tolerance: float = 1e-8", "tolerance: float = 1e-4"),
    (THRESHOLDS, "training/step.py", "INACTIVE = 1e-4", "INACTIVE = 1e-2"),
    (THRESHOLDS, "objective/diagnostics.py", "(u.abs() < 1e-6)", "(u.abs() < 1e-3)"),
    (STEP, "training/step.py", "good = math.isfinite(norm) and math.isfinite(loss)", "good = math.isfinite(norm)"),
    (STEP, "training/step.py", "[step for step in steps if not step.skipped] or steps", "steps"),
    (STEP, "training/from_pairs.py", "term.u[term.support] + term.objective.unit.margin", "term.u[term.support]"),
    (HOLM, "report/statistics.py", "(len(found) - place)", "len(found)"),
    (
        STEP,
        "tasks/verifiers/sandbox.py",
        "chunk = os.read(key.fd, 1 << 16)",
        "chunk, deadline = os.read(key.fd, 1 << 16), time.monotonic() + limits.seconds",
    ),
    (
        STEP,
        "tasks/verifiers/mathematics.py",
        "text += chunk",
        "text, deadline = text + chunk, time.monotonic() + seconds",
    ),
    (DEFAULTS, "recipes/rewards/ppo.py", "def cfpo(epsilon: float = 0.2", "def cfpo(epsilon: float = 0.3"),
    (DEFAULTS, "recipes/rewards/ppo.py", "epsilon_high: float = 0.28", "epsilon_high: float = 0.3"),
    (DEFAULTS, "recipes/rewards/ppo.py", "def luspo(epsilon: float = 2e-3", "def luspo(epsilon: float = 3e-4"),
    (
        DEFAULTS,
        "recipes/rewards/importance.py",
        "delta: float = 0.15, *, cap: float | None = 20.0",
        "delta: float = 0.2, *, cap: float | None = 20.0",
    ),
    (DEFAULTS, "recipes/rewards/importance.py", "cap: float | None = 20.0", "cap: float | None = 10.0"),
    (SLOTS, "sampling/escort.py", "self.cap is None else math.log(self.cap)", "self.cap is None else math.log(20.0)"),
    (SLOTS, "batch/responses.py", "torch.full_like(sequences, self.size)", "sequences"),
)

SLOW: tuple[tuple[str, str, str, str], ...] = (
    (
        "tests/training/test_comparison.py::test_an_interrupted_comparison_ends_as_an_uninterrupted_one",
        "training/comparison.py",
        "            pool.interrupt()\n",
        "",
    ),
    (
        "tests/test_cli.py::test_compare_reports_and_continues",
        "training/trainer.py",
        'Event("skipped", name',
        'Event("done", name',
    ),
    (
        "tests/test_core.py::test_an_objective_compiles_without_graph_breaks",
        "_util/numerics.py",
        "if torch.compiler.is_compiling() or type(x) is not Tensor",
        "if type(x) is not Tensor",
    ),
    (
        "tests/test_node.py::test_a_compiled_objective_is_compiled_once_for_all_shapes",
        "batch/responses.py",
        "return self.policy.shape[0]",
        "return len([0] * self.policy.shape[0])",
    ),
    (
        "tests/test_report.py::test_figures_come_in_the_formats_that_are_asked_for",
        "plotting/style.py",
        '".pdf": "CreationDate", ',
        "",
    ),
)
"""For the fast tests that take longest, a wrong line that no other test of the same file notices."""
