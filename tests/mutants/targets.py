"""Which fast tests cover which module: the files that are run on a mutant of it, the quickest first."""

from __future__ import annotations

import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _laws(*first: str) -> tuple[str, ...]:
    """The tests of slot values and all laws, those of the slot itself before the others."""
    own = (f"tests/test_laws.py::test_{name}" for name in (*first, "a_later_member_composes"))
    return ("tests/recipes/test_slots.py", "tests/test_slot_values.py", *own, "tests/test_laws.py")


SLOTS = _laws("every_drive_and_measure_adds_up")
NEWER = tuple(
    f"tests/recipes/test_{name}.py" for name in ("reinforce_kin", "surrogates", "more_regressions", "lengths")
)
"""Recipes with parts of their own in several slots."""
PULLS = ("tests/test_sampling_values.py", "tests/test_sampling_contracts.py", "tests/test_slot_defaults.py")
"""Sampling geometries by hand, and what each says of itself."""
EDGES = ("tests/test_potentials.py", "tests/test_group_potentials.py", "tests/test_slot_defaults.py")
"""Potentials at their edges, and what they have where nothing is given."""
FORMULA = ("tests/test_outcome.py", "tests/recipes/test_kl_penalties.py", "tests/test_core.py")

PACKAGES: dict[str, tuple[str, ...]] = {
    "core": (
        "batch/*.py",
        "chart/*.py",
        "measure/*.py",
        "nonfinite.py",
        "objective/*.py",
        "_util/[gnt]*.py",
        "_util/check.py",
    ),
    "unit": ("unit/*.py",),
    "sampling": ("sampling/*.py",),
    "optimization": ("optimization/*.py",),
    "divergences": ("divergences/*.py",),
    "recipes": ("recipes/rewards/*.py", "recipes/preferences/*.py", "recipes/distillation.py", "recipes/reference.py"),
    "analysis": ("analysis/*.py", "analysis/identification/*.py", "control/*.py"),
    "audit": ("audit/*.py",),
    "training": ("training/*.py", "training/policy/*.py", "training/config/*.py"),
}
"""A package of the report -> its modules, as patterns below geomalign/."""

DECISIONS, LEARNING = "tests/training/test_decisions.py", "tests/training/test_learning.py"

TESTS: dict[str, tuple[str, ...]] = {
    "sampling/masked_importance.py": ("tests/recipes/test_masked_importance.py", *PULLS, *_laws("sampling")),
    "sampling/off_policy.py": ("tests/recipes/test_masked_importance.py", *PULLS, *_laws("sampling")),
    "sampling/trust_region.py": (
        "tests/test_trust_region.py",
        *PULLS,
        *_laws("sampling", "every_drive_and_measure_adds_up"),
    ),
    "sampling/advantage.py": (
        "tests/recipes/test_advantages.py",
        *PULLS,
        *_laws("sampling", "every_drive_and_measure_adds_up"),
    ),
    "sampling/importance.py": (
        *PULLS,
        "tests/recipes/test_importance.py",
        "tests/recipes/test_formula.py",
        *_laws("sampling", "every_drive_and_measure_adds_up"),
    ),
    "sampling/*.py": (
        "tests/recipes/test_advantages.py",
        "tests/recipes/test_formula.py",
        *NEWER,
        "tests/test_sampling.py",
        *PULLS,
        *_laws("sampling", "every_drive_and_measure_adds_up"),
    ),
    "optimization/group.py": (
        *EDGES,
        "tests/recipes/test_groups.py",
        "tests/theory/test_theorems_groups.py",
        *_laws("optimization"),
    ),
    "optimization/listwise.py": (
        *EDGES,
        "tests/recipes/test_groups.py",
        "tests/test_optimization.py",
        "tests/theory/test_theorems_groups.py",
        *_laws("optimization"),
    ),
    "optimization/negative.py": (*NEWER, *EDGES, *_laws("optimization")),
    "optimization/pairwise.py": (*NEWER, *EDGES, *_laws("optimization")),
    "optimization/*.py": (
        "tests/test_optimization.py",
        "tests/test_equilibrium.py",
        "tests/recipes/test_unpaired.py",
        *EDGES,
        *_laws("optimization", "our_geometries_are_finite_far_from_the_anchor"),
        "tests/test_core.py",
    ),
    "divergences/estimate.py": (
        "tests/test_divergence_values.py",
        "tests/test_estimators.py",
        "tests/test_slot_values.py",
    ),
    "divergences/t*.py": (
        "tests/test_divergence_values.py",
        "tests/test_projection.py",
        "tests/test_trust_region.py",
        "tests/test_divergences.py",
    ),
    "divergences/*.py": (
        "tests/test_divergence_values.py",
        "tests/test_divergences.py",
        "tests/test_projection.py",
        *_laws("divergence", "chart"),
    ),
    "unit/observation.py": ("tests/test_unit_values.py", *NEWER, *_laws("unit")),
    "unit/*.py": (
        "tests/test_unit_values.py",
        "tests/recipes/test_unpaired.py",
        "tests/recipes/test_pairs.py",
        *_laws("unit"),
        "tests/test_core.py",
    ),
    "objective/certificate.py": (
        "tests/test_core_objective.py",
        "tests/test_certificate.py",
    ),
    "objective/surrogate_error.py": (
        "tests/test_core_objective.py",
        "tests/test_certificate.py",
    ),
    "objective/kl.py": ("tests/test_core_objective.py", "tests/recipes/test_kl_penalties.py", *SLOTS),
    "objective/*.py": (
        "tests/test_core_objective.py",
        "tests/test_node.py",
        "tests/test_thresholds.py",
        *FORMULA,
        *SLOTS,
    ),
    "recipes/*.py": (
        "tests/recipes/test_lookup.py",
        "tests/recipes/test_defaults.py",
        "tests/recipes/test_formula.py",
        "tests/recipes/test_advantages.py",
        "tests/recipes/test_importance.py",
        "tests/recipes/test_ppo.py",
        "tests/recipes/test_pairs.py",
        "tests/recipes/test_unpaired.py",
        "tests/recipes/test_regression.py",
        "tests/recipes/test_groups.py",
        "tests/recipes/test_distillation.py",
        "tests/recipes/test_kl_penalties.py",
        *NEWER,
        *EDGES,
        "tests/test_sampling.py",
        "tests/test_core.py",
    ),
    "analysis/identification/*.py": (
        "tests/test_curves.py",
        "tests/test_thresholds.py",
        "tests/test_analysis_reading.py",
        "tests/test_identify.py",
    ),
    "analysis/asymptotics.py": (
        "tests/test_curves.py",
        "tests/test_analysis_values.py",
        "tests/test_analysis_reading.py",
        "tests/test_identify.py",
        "tests/test_analysis.py",
    ),
    "analysis/translation.py": ("tests/test_translate.py",),
    "analysis/*.py": (
        "tests/test_analysis_values.py",
        "tests/test_thresholds.py",
        "tests/test_analysis.py",
        "tests/test_equilibrium.py",
    ),
    "control/*.py": ("tests/test_control_units.py", "tests/training/test_control.py", "tests/test_trust_region.py"),
    "audit/*.py": ("tests/test_thresholds.py", "tests/test_audit.py"),
    "training/checkpoint.py": (DECISIONS, "tests/training/test_checkpoint.py", "tests/training/test_trainer.py"),
    "training/st*.py": (
        "tests/training/test_step.py",
        "tests/training/test_diagnosis.py",
        "tests/training/test_trainer.py",
    ),
    "training/summary.py": (
        *("tests/training/test_step.py", "tests/training/test_diagnosis.py", "tests/training/test_trainer.py"),
    ),
    "training/comparison.py": (DECISIONS, "tests/training/test_comparison.py"),
    "training/workers.py": (DECISIONS, "tests/training/test_comparison.py"),
    "training/callbacks.py": (DECISIONS, "tests/training/test_callbacks.py"),
    "training/tracking.py": (DECISIONS, "tests/training/test_callbacks.py"),
    "training/bases.py": (DECISIONS, "tests/training/test_warmstart.py"),
    "training/hub.py": ("tests/training/test_model.py", "tests/training/test_conventions.py"),
    "chart/*.py": ("tests/test_core_values.py", "tests/test_probability_chart.py", *_laws("chart"), *FORMULA),
    "measure/*.py": (
        "tests/test_core_values.py",
        "tests/test_measures.py",
        "tests/test_slot_defaults.py",
        *_laws("measure", "every_drive_and_measure_adds_up"),
        *FORMULA,
    ),
    "training/warmstart.py": ("tests/training/test_step.py", LEARNING, "tests/training/test_warmstart.py"),
    "training/*pair*.py": (
        LEARNING,
        "tests/training/test_conventions.py",
        "tests/training/test_offline.py",
        "tests/training/test_step.py",
        "tests/training/test_preferences.py",
    ),
    "training/evaluation.py": (
        LEARNING,
        "tests/training/test_step.py",
        "tests/training/test_conventions.py",
        "tests/training/test_model.py",
    ),
    "training/config/*.py": ("tests/training/test_config.py", "tests/training/test_comparison.py"),
    "training/policy/*.py": (
        "tests/training/test_model.py",
        "tests/training/test_policy_head.py",
        "tests/training/test_conventions.py",
    ),
    "training/[gpw]*.py": (
        LEARNING,
        "tests/training/test_policy_head.py",
        "tests/training/test_rollout.py",
        "tests/training/test_conventions.py",
        "tests/training/test_model.py",
        "tests/training/test_diagnosis.py",
        "tests/training/test_offline.py",
    ),
    "training/*.py": (
        DECISIONS,
        LEARNING,
        "tests/training/test_diagnosis.py",
        "tests/training/test_step.py",
        "tests/training/test_trainer.py",
        "tests/training/test_offline.py",
        "tests/training/test_config.py",
        "tests/training/test_control.py",
        "tests/training/test_model.py",
    ),
    "_util/groups.py": ("tests/test_core_groups.py", "tests/test_projection.py", *FORMULA, *SLOTS),
    "nonfinite.py": (
        "tests/test_core_objective.py",
        "tests/test_nonfinite.py",
    ),
    "_util/numerics.py": (
        "tests/test_core_groups.py",
        "tests/test_divergences.py",
        "tests/test_optimization.py",
        *SLOTS,
        "tests/test_equilibrium.py",
    ),
    "batch/*.py": ("tests/test_core_checks.py", *FORMULA, *SLOTS, "tests/test_equilibrium.py"),
    "*.py": ("tests/test_core_checks.py", *FORMULA, *SLOTS, "tests/test_equilibrium.py"),
}
"""Patterns of modules -> test files; the first pattern that fits. The module's own examples run before them."""


def modules(root: Path, package: str) -> list[str]:
    """The modules of a package, as paths below the repository."""
    found = [path for pattern in PACKAGES[package] for path in sorted((root / "geomalign").glob(pattern))]
    return [str(path.relative_to(root)) for path in dict.fromkeys(found) if path.name != "__init__.py"]


def tests(path: str) -> list[str]:
    """The test files for the module at `path`, a path below the repository."""
    inside = path.removeprefix("geomalign/")
    return list(next(files for pattern, files in TESTS.items() if fnmatch.fnmatch(inside, pattern)))
