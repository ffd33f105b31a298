"""Which functions of the trainers we call or equal, as read in a recorded release, and what changed in them since.

    python -m tests.adapters.drift            # downloads, compares, writes docs/trainers/drift.md
    python -m tests.adapters.drift trl verl   # these trainers, to the terminal

Wheels are downloaded without their dependencies and read as archives: nothing of them is installed or executed. A
function has changed if its syntax tree has, comments, docstrings and annotations apart.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime
import difflib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "trainers" / "drift.md"


@dataclasses.dataclass(frozen=True)
class Contract:
    """What is relied upon in one trainer.

    Args:
        package: its name on a package index.
        version: the release in which the functions were read, and the tests ran.
        functions: file → names of functions and classes, `Class.method`.
    """

    package: str
    version: str
    functions: dict[str, tuple[str, ...]]

    def names(self) -> Iterator[tuple[str, str]]:
        """(file, name) of everything relied upon."""
        return ((file, name) for file, names in self.functions.items() for name in names)


CONTRACTS: dict[str, Contract] = {
    "trl": Contract(
        "trl",
        "1.16.0",
        {
            "trl/trainer/grpo_trainer.py": (
                "GRPOTrainer._calculate_rewards",
                "GRPOTrainer._generate_and_score_completions",
                "GRPOTrainer._get_per_token_logps_and_entropies",
                "GRPOTrainer.get_high_entropy_mask",
                "GRPOTrainer.get_off_policy_mask",
                "GRPOTrainer.compute_loss",
                "GRPOTrainer._compute_loss",
            ),
            "trl/trainer/dpo_trainer.py": ("DPOTrainer._compute_loss",),
            "trl/trainer/rloo_trainer.py": ("RLOOTrainer._compute_loss",),
            "trl/trainer/kto_trainer.py": ("KTOTrainer._compute_loss",),
            "trl/trainer/utils.py": ("selective_log_softmax",),
        },
    ),
    "verl": Contract(
        "verl",
        "0.9.1",
        {
            "verl/trainer/ppo/core_algos.py": (
                "register_policy_loss",
                "get_policy_loss_fn",
                "register_adv_est",
                "get_adv_estimator_fn",
                "agg_loss",
                "kl_penalty",
                "compute_policy_loss_vanilla",
                "compute_policy_loss_gspo",
                "compute_policy_loss_cispo",
                "compute_policy_loss_sapo",
                "compute_policy_loss_dppo_tv",
                "compute_policy_loss_dro",
                "compute_grpo_outcome_advantage",
                "compute_rloo_outcome_advantage",
            ),
            "verl/trainer/ppo/ray_trainer.py": ("compute_advantage",),
            "verl/trainer/ppo/v1/utils.py": ("compute_advantage_for_multi_trajectories",),
            "verl/trainer/ppo/v1/trainer_base.py": (
                "PPOTrainer._compute_old_log_prob",
                "PPOTrainer._compute_advantage",
            ),
            "verl/trainer/ppo/rollout_corr_helper.py": ("apply_bypass_mode",),
            "verl/trainer/distillation/losses.py": ("distillation_loss",),
            "verl/workers/utils/losses.py": ("ppo_loss",),
            "verl/workers/config/actor.py": ("PolicyLossConfig",),
            "verl/workers/config/distillation.py": ("DistillationLossConfig",),
            "verl/trainer/config/algorithm.py": ("AlgoConfig",),
        },
    ),
    "openrlhf": Contract(
        "openrlhf",
        "0.11.2",
        {
            "openrlhf/models/loss.py": ("aggregate_loss", "PolicyLoss", "DPOLoss"),
            "openrlhf/models/utils.py": ("compute_approx_kl",),
            "openrlhf/cli/train_ppo_ray.py": ("train",),
        },
    ),
    "torchtune": Contract(
        "torchtune",
        "0.6.1",
        {"torchtune/rlhf/loss/ppo.py": ("PPOLoss",), "torchtune/rlhf/loss/dpo.py": ("DPOLoss", "RSOLoss")},
    ),
    "skyrl": Contract(
        "skyrl",
        "0.4.0",
        {
            "skyrl/backends/skyrl_train/utils/ppo_utils.py": (
                "BaseFunctionRegistry",
                "sync_registries",
                "reduce_loss",
                "apply_loss_reduction_to_advantages_minibatch",
                "compute_advantages_and_returns",
                "compute_grpo_outcome_advantage",
                "compute_rloo_outcome_advantage",
                "ppo_policy_loss",
                "gspo_policy_loss",
                "compute_policy_loss_cispo",
                "sapo_policy_loss",
            ),
            "skyrl/backends/skyrl_train/utils/off_policy_correction_utils.py": ("off_policy_correction_enabled",),
            "skyrl/backends/skyrl_train/workers/worker.py": ("PolicyWorkerBase._forward_backward_micro",),
            "skyrl/backends/skyrl_train/workers/worker_utils.py": ("reduce_metrics",),
            "skyrl/train/trainer.py": (
                "RayPPOTrainer.compute_advantages_and_returns",
                "RayPPOTrainer._normalize_advantages",
            ),
            "skyrl/train/dataset/preprocess.py": ("compute_prompt_mini_batch_boundaries",),
            "skyrl/train/config/config.py": ("AlgorithmConfig",),
            "skyrl/train/entrypoints/main_base.py": ("skyrl_entrypoint",),
        },
    ),
    "torchtitan": Contract(
        "torchtitan",
        "0.3.0",
        {
            "torchtitan/components/loss.py": ("BaseLoss", "compute_logprobs", "ChunkedLossWrapper"),
            "torchtitan/config/configurable.py": ("Configurable",),
            "torchtitan/experiments/rl/losses/dapo.py": ("DAPOLoss",),
            "torchtitan/experiments/rl/actors/trainer.py": ("PolicyTrainer.forward_backward",),
            "torchtitan/experiments/rl/components/batcher.py": ("Batcher",),
            "torchtitan/experiments/rl/rollout/advantage.py": ("AdvantageEstimator",),
        },
    ),
    "tinker": Contract(
        "tinker",
        "0.38.0",
        {
            "tinker/lib/public_interfaces/training_client.py": (
                "TrainingClient.forward_backward_custom",
                "TrainingClient._compute_custom_loss",
            ),
            "tinker/lib/public_interfaces/service_client.py": ("ServiceClient.create_custom_loss",),
        },
    ),
    "liger": Contract(
        "liger-kernel",
        "0.8.5",
        {
            "liger_kernel/chunked_loss/grpo_loss.py": ("LigerFusedLinearGRPOFunction",),
            "liger_kernel/chunked_loss/dpo_loss.py": ("LigerFusedLinearDPOFunction",),
            "liger_kernel/chunked_loss/kto_loss.py": ("LigerFusedLinearKTOFunction",),
            "liger_kernel/chunked_loss/simpo_loss.py": ("LigerFusedLinearSimPOFunction",),
        },
    ),
    "torchrl": Contract("torchrl", "0.14.1", {"torchrl/objectives/llm/grpo.py": ("GRPOLoss", "DAPO", "CISPOLoss")}),
}

ELSEWHERE: dict[str, str] = {
    "prime-rl": "`src/prime_rl/trainer/rl/loss.py` at commit 559b4477",
    "slime": "`slime/backends/megatron_utils/loss.py` at commit 00c2d6d",
    "nemo-rl": "`nemo_rl/algorithms/loss`, commits named on [its page](nemo-rl.md)",
    "rllm": "`rllm/trainer/algorithms/loss.py` at commit a5fa9aa1",
}
"""Trainers that no package index has, and where their contract was read."""


def normalised(node: ast.AST) -> str:
    """A function or class as text without comments, docstrings and annotations."""
    node = ast.parse(ast.unparse(node)).body[0]
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            part.body = [s for s in part.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            part.body = part.body or [ast.Pass()]
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            part.returns = None
        if isinstance(part, ast.arg):
            part.annotation = None
    return ast.unparse(node)


def find(source: str, name: str) -> ast.AST | None:
    """The function or class of this dotted name."""
    found: ast.AST = ast.parse(source)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        inside = [n for n in getattr(found, "body", []) if isinstance(n, kinds) and n.name == part]
        if not inside:
            return None
        found = inside[-1]
    return found


def arguments(node: ast.AST) -> list[str]:
    """Names of a function's arguments, or of the fields and methods of a class."""
    if isinstance(node, ast.ClassDef):
        fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        return fields + [n.name for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    given = node.args
    plain = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return plain + [f"*{a.arg}" for a in (given.vararg, given.kwarg) if a is not None]


class Wheel:
    """The sources of one release."""

    def __init__(self, path: Path):
        self.archive = zipfile.ZipFile(path)
        self.version = path.name.split("-")[1]
        self.files = [name for name in self.archive.namelist() if name.endswith(".py")]

    def read(self, file: str) -> str | None:
        """A file of a package; some wheels keep it under `NAME.data/purelib`."""
        found = [name for name in self.files if name == file or name.endswith(f"/{file}")]
        return self.archive.read(found[0]).decode() if found else None

    def elsewhere(self, name: str) -> str | None:
        """Another file of the release that has a function or class of this name."""
        last = name.split(".")[0]
        for file in self.files:
            text = self.archive.read(file).decode(errors="ignore")
            if (f"def {last}" in text or f"class {last}" in text) and find(text, name) is not None:
                return file
        return None


def change(old: Wheel, new: Wheel, file: str, name: str) -> tuple[str, str] | None:
    """What happened to a function between two releases, in words, and the difference; None: nothing.

    Raises:
        LookupError: the old release does not have it, so that the record is wrong.
    """
    before = find(old.read(file) or "", name)
    if before is None:
        raise LookupError(f"{file} of release {old.version} has no {name}: correct CONTRACTS in {__file__}.")
    source, moved = new.read(file), ""
    after = find(source, name) if source else None
    if after is None:
        target = new.elsewhere(name)
        if target is None:
            return "gone", ""
        after, moved = find(new.read(target) or "", name), f"moved to `{target}`"
    assert after is not None
    texts = [normalised(node) for node in (before, after)]
    words = [moved] if moved else []
    if texts[0] != texts[1]:
        was, now = arguments(before), arguments(after)
        words += [f"new: {', '.join(f'`{a}`' for a in now if a not in was)}"] if set(now) - set(was) else []
        words += [f"without: {', '.join(f'`{a}`' for a in was if a not in now)}"] if set(was) - set(now) else []
        lines = list(difflib.unified_diff(*(t.splitlines() for t in texts), old.version, new.version, lineterm=""))
        changed = sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in lines)
        words.append(f"{changed} lines of code")
        return ", ".join(words), "\n".join(lines)
    return (moved, "") if moved else None


def download(package: str, version: str, folder: Path) -> Wheel:
    """A release's wheel by pip, for whatever Python it asks for; `version` "" is the newest.

    Raises:
        RuntimeError: pip found none.
    """
    target = folder / f"{package}-{version or 'newest'}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--ignore-requires-python", "--only-binary=:all:", "-d", str(target)]
    done = subprocess.run([*command, f"{package}=={version}" if version else package], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip has no wheel of {package} {version}: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = target.glob("*.whl")
    return Wheel(wheel)


@dataclasses.dataclass(frozen=True)
class Drift:
    """What one trainer's newest release changed: name → (words, difference); `newest` is its version."""

    host: str
    newest: str
    changes: dict[str, tuple[str, str]]


def compare(host: str, contract: Contract, old: Wheel, new: Wheel) -> Drift:
    """Every function of a contract, in the release in which it was read and in the newest."""
    found = {f"{file}: {name}": change(old, new, file, name) for file, name in contract.names()}
    return Drift(host, new.version, {name: seen for name, seen in found.items() if seen is not None})


def page(drifts: list[Drift], day: str) -> str:
    """docs/trainers/drift.md."""
    rows, details = [], []
    for drift in drifts:
        contract = CONTRACTS[drift.host]
        count, changed = sum(1 for _ in contract.names()), len(drift.changes)
        said = f"{changed} changed" if changed else "none changed"
        rows.append(f"| {drift.host} | {contract.version} | {drift.newest} | {count} | {said} |")
        if changed:
            details += ["", f"## {drift.host} {contract.version} → {drift.newest}", ""]
            details += [f"* `{name}`: {words}" for name, (words, _) in drift.changes.items()]
    others = [f"* {host}: {where}" for host, where in ELSEWHERE.items()]
    return "\n".join(
        [
            "# Drift of the trainers",
            "",
            "`make hosts` writes this page. It downloads the newest release of every trainer that a package index has,",
            "and compares the functions that an adapter calls or overrides, or that a test holds a recipe equal to,",
            "with the release in which they were read. A function has changed if its syntax tree has; comments,",
            "docstrings and annotations do not count. A change says that the adapter is to be read again, not that it",
            "fails.",
            "",
            f"As of {day}:",
            "",
            "| trainer | read in | newest | functions | since then |",
            "|---|---|---|---|---|",
            *rows,
            *details,
            "",
            "No package index has these, and their sources were read at a commit:",
            "",
            *others,
            "",
        ]
    )


def main(hosts: list[str]) -> int:
    """Compare, print the differences of what changed, and write the page where all trainers were asked for."""
    unknown = set(hosts) - set(CONTRACTS)
    if unknown:
        print(f"no contract of {', '.join(sorted(unknown))}; there are {', '.join(CONTRACTS)}.", file=sys.stderr)
        return 2
    drifts, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for host in hosts or CONTRACTS:
            contract = CONTRACTS[host]
            try:
                new = download(contract.package, "", Path(folder))
                same = new.version == contract.version
                old = new if same else download(contract.package, contract.version, Path(folder))
                drifts.append(compare(host, contract, old, new))
            except (LookupError, RuntimeError) as error:
                failed.append(f"{host}: {error}")
                continue
            print(f"{host} {contract.version} → {new.version}: {len(drifts[-1].changes)} changed")
            for name, (words, difference) in drifts[-1].changes.items():
                print(f"  {name}: {words}", *(f"    {line}" for line in difference.splitlines()), sep="\n")
    print(*failed, sep="\n", end="\n" if failed else "", file=sys.stderr)
    if not hosts and not failed:
        PAGE.write_text(page(drifts, datetime.date.today().isoformat()), encoding="utf-8")
        print(f"wrote {PAGE}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
