"""What is exported runs: scripts compile, YAML and TOML are what the adapters read, and hosts that are here take it."""

import ast
import importlib
import shlex
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

import geomalign as ga
from geomalign.adapters import hosted
from geomalign.adapters.export import HOSTS, configuration
from geomalign.adapters.verl.losses import PREFIX, objective_from

try:
    import tomllib
except ImportError:
    import tomli as tomllib

OF_TOKENS = ["torchtitan"]  # hosts where an event must be a token
SINGLE = ["opo", "grpo", "dapo", "dr_grpo", "gspo", "rloo", "gopo"]
PAIRED = ["dpo", "slic", "chi_po"]


@pytest.mark.parametrize("name", SINGLE + PAIRED)
def test_trl(name: str) -> None:
    code = configuration("trl", name)
    tree = ast.parse(code)
    call = next(node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "objective")
    assert eval(ast.unparse(call), {"ga": ga}) == ga.recipes.get(name)
    assert ("GeometryDPOTrainer" in code) == (name in PAIRED)


def test_trl_scores_the_reference_where_it_is_needed() -> None:
    assert "beta=0.04" not in configuration("trl", "grpo")
    assert "    beta=0.04,  # not zero" in configuration("trl", "grpo", beta=0.1)
    assert "ga.recipes.get('grpo', beta=0.1)" in configuration("trl", "grpo", beta=0.1)


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "hyperparameters"), [("opo", {"mu": 2.0}), ("grpo", {"beta": 0.04}), ("dpo", {})])
def test_the_script_for_trl_trains(
    name: str, hyperparameters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As printed, but for the names of model and data, and for a CPU."""
    pytest.importorskip("trl", reason="needs TRL: bash tests/adapters/environments.sh")
    from adapters import trl_worker

    trl_worker.loaded(str(tmp_path))
    trl_worker.tokenizer().save_pretrained(tmp_path / "model-0")
    row = '{"prompt": "a b", "answer": "a"}' if name != "dpo" else '{"prompt": "a", "chosen": " b", "rejected": " c d"}'
    (tmp_path / "data.jsonl").write_text(f"{row}\n" * 16)
    code = configuration("trl", name, **hyperparameters)
    code = code.replace("Qwen/Qwen3-0.6B", str(tmp_path / "model-0"))
    for data in ("prompts.jsonl", "preferences.jsonl"):
        code = code.replace(data, str(tmp_path / "data.jsonl"))
    small = (
        "use_cpu=True, bf16=False, max_steps=2, report_to='none', save_strategy='no', gradient_checkpointing=False, "
    )
    code = code.replace("output_dir=", small + "output_dir=", 1)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "exported", "exec"), names)
    assert names["trainer"].state.global_step == 2
    assert any(key.startswith("geom/") for key in names["trainer"].state.log_history[0])


@pytest.mark.parametrize("name", SINGLE)
def test_verl(name: str) -> None:
    seen = yaml.safe_load(configuration("verl", name))
    loss = seen["actor_rollout_ref"]["actor"]["policy_loss"]
    assert loss["loss_mode"] == seen["algorithm"]["adv_estimator"] == f"geomalign/{name}"
    module, _, attribute = loss["_target_"].rpartition(".")
    assert attribute in importlib.import_module(module).__all__
    per_token = {"dapo": "token-mean", "dr_grpo": "seq-mean-token-sum-norm"}
    assert seen["actor_rollout_ref"]["actor"]["loss_agg_mode"] == per_token.get(name, "seq-mean-token-mean")


def test_verl_has_a_kl_penalty_of_its_own() -> None:
    actor = yaml.safe_load(configuration("verl", "grpo", beta=0.04, epsilon=0.1))["actor_rollout_ref"]["actor"]
    assert actor["policy_loss"]["hyperparameters"] == {"epsilon": 0.1}
    assert (actor["use_kl_loss"], actor["kl_loss_coef"], actor["kl_loss_type"]) == (True, 0.04, "low_var_kl")
    actor = yaml.safe_load(configuration("verl", "dr_grpo", length=512))["actor_rollout_ref"]["actor"]
    assert actor["loss_scale_factor"] == 512


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "given"), [("opo", {"mu": 3.0}), ("grpo", {"beta": 0.04}), ("dr_grpo", {"length": 64})]
)
def test_verl_takes_it(name: str, given: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("verl", reason="needs verl: bash tests/parity/environments.sh verl")
    from geomalign.adapters.verl import check

    path = tmp_path / "exported.yaml"
    path.write_text(configuration("verl", name, **given))
    assert check([], str(path))[-1] == "ok"


@pytest.mark.parametrize("name", SINGLE)
def test_prime_rl(name: str) -> None:
    loss = tomllib.loads(configuration("prime-rl", name))["trainer"]["loss"]
    module, _, attribute = loss["import_path"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))
    kwargs = loss["kwargs"]
    assert hosted.objective_of(kwargs.pop("objective"), tuple(kwargs.items())) == ga.recipes.get(name)


def test_hyperparameters_reach_every_host() -> None:
    expected = ga.recipes.opo(alpha=0.3, mu=2.5, normalize="sum")
    given = {"alpha": 0.3, "mu": 2.5, "normalize": "sum"}
    kwargs = tomllib.loads(configuration("prime-rl", "opo", **given))["trainer"]["loss"]["kwargs"]
    assert hosted.objective_of(kwargs.pop("objective"), tuple(kwargs.items())) == expected
    line = yaml.safe_load(configuration("slime", "opo", **given))["geomalign_objective"]
    assert hosted.objective_of(line) == expected
    words = shlex.split(configuration("openrlhf", "opo", **given), comments=True)
    assert hosted.objective_of(words[words.index("-m") + 2]) == expected and "--" in words
    names: dict[str, Any] = {}
    exec(configuration("nemo-rl", "opo", **given), names)
    assert names["loss_fn"].objective == expected


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an objective of a user's own, in a module that no package index has."""
    text = "import geomalign as ga\n\n\ndef mine(mu: float = 1.0):\n    return ga.recipes.opo(alpha=0.3, mu=mu)\n"
    text += "\n\ndef tokens(epsilon: float = 0.2):\n    return ga.recipes.ppo(epsilon=epsilon)\n"
    (tmp_path / "my_objectives.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_objectives", raising=False)
    return "my_objectives:mine"


def test_an_objective_of_ones_own_is_named_with_its_module(mine: str) -> None:
    """Where the host reads text, the text resolves to the objective that was exported."""
    expected = ga.recipes.opo(alpha=0.3, mu=2.0)
    made = {host: configuration(host, f"{mine} mu=2") for host in HOSTS if host not in OF_TOKENS}
    assert all("my_objectives:mine" in text for text in made.values())
    kwargs = tomllib.loads(made["prime-rl"])["trainer"]["loss"]["kwargs"]
    assert hosted.objective_of(kwargs.pop("objective"), tuple(kwargs.items())) == expected
    assert hosted.objective_of(yaml.safe_load(made["slime"])["geomalign_objective"]) == expected
    words = shlex.split(made["openrlhf"], comments=True)
    assert hosted.objective_of(words[words.index("-m") + 2]) == expected
    names: dict[str, Any] = {}
    exec(made["nemo-rl"], names)
    assert names["loss_fn"].objective == expected
    actor = yaml.safe_load(made["verl"])["actor_rollout_ref"]["actor"]
    mode = actor["policy_loss"]["loss_mode"].removeprefix(PREFIX)
    assert objective_from(mode, actor["policy_loss"]) == expected
    loss = yaml.safe_load(made["torchtune"])["loss"]
    assert hosted.objective_of(loss["objective"], (("mu", loss["mu"]),)) == expected
    tree = ast.parse(made["trl"])
    call = next(node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "objective")
    assert eval(ast.unparse(call), {"ga": ga}) == expected
    assert hosted.objective_of(argument(made["skyrl"], "register", 1)) == expected
    assert hosted.objective_of(yaml.safe_load(made["rllm"])["algorithm"]["loss_params"]["objective"]) == expected
    tokens = configuration("torchtitan", "my_objectives:tokens epsilon=0.1")
    assert hosted.objective_of(argument(tokens, "Config", "objective")) == ga.recipes.ppo(epsilon=0.1)


@pytest.mark.filterwarnings("ignore")
def test_verl_takes_an_objective_of_ones_own(mine: str, tmp_path: Path) -> None:
    pytest.importorskip("verl", reason="needs verl: bash tests/parity/environments.sh verl")
    from geomalign.adapters.verl import check

    path = tmp_path / "exported.yaml"
    path.write_text(configuration("verl", mine, mu=2.0))
    assert check([], str(path))[-1] == "ok"


def test_options_may_stand_behind_the_name() -> None:
    for host in HOSTS:
        if host not in OF_TOKENS:
            assert configuration(host, "opo alpha=0.3 mu=2") == configuration(host, "opo", alpha=0.3, mu=2)
        assert configuration(host, "ppo epsilon=0.3") == configuration(host, "ppo", epsilon=0.3)
    assert "mu = 3" in configuration("prime-rl", "opo mu=2", mu=3)


def test_a_word_of_a_recipe_is_no_missing_value() -> None:
    """`scale_rewards=none` names a way of scaling; it survives every line that a host reads."""
    expected = ga.recipes.grpo(scale_rewards="none")
    line = yaml.safe_load(configuration("slime", "grpo scale_rewards=none"))["geomalign_objective"]
    assert hosted.objective_of(line) == expected
    kwargs = tomllib.loads(configuration("prime-rl", "grpo scale_rewards=none"))["trainer"]["loss"]["kwargs"]
    assert hosted.objective_of(kwargs.pop("objective"), tuple(kwargs.items())) == expected
    names: dict[str, Any] = {}
    exec(configuration("nemo-rl", "grpo", scale_rewards="none"), names)
    assert names["loss_fn"].objective == expected


def test_exporting_imports_no_trainer() -> None:
    code = "from geomalign.adapters.export import HOSTS, configuration\n"
    code += "for host in HOSTS: configuration(host, 'ppo')\nimport sys; print(*sys.modules)"
    listing = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name.split(".")[0] for name in listing.split()}
    assert not loaded & {"trl", "verl", "openrlhf", "ray", "torchtune", "transformers", "nemo_rl", "slime", "prime_rl"}
    assert not loaded & {"skyrl", "rllm", "torchtitan", "tinker"}


def test_torchtune() -> None:
    loss = yaml.safe_load(configuration("torchtune", "chi_po", beta=0.2))["loss"]
    module, _, attribute = loss.pop("_component_").rpartition(".")
    made = getattr(importlib.import_module(module), attribute)(**loss)
    assert made.objective == ga.recipes.chi_po(beta=0.2)
    assert "PPOLoss" in configuration("torchtune", "ppo")


def argument(code: str, function: str, at: int | str) -> Any:
    """A literal argument of a call in a script, by position or keyword."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function:
            given = node.args[at:] if isinstance(at, int) else [k.value for k in node.keywords if k.arg == at]
            if given:
                return ast.literal_eval(given[0])
    raise AssertionError(f"no argument {at} of {function}")


@pytest.mark.parametrize("name", SINGLE)
def test_the_script_for_skyrl_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls in their order: registered before SkyRL validates and sends; the reduction is the recipe's measure."""
    from adapters.common import stand_in

    from geomalign.adapters import skyrl

    calls: list[Any] = []
    algorithm = types.SimpleNamespace()
    config = types.SimpleNamespace(trainer=types.SimpleNamespace(algorithm=algorithm))
    kind = types.SimpleNamespace(from_cli_overrides=lambda arguments: config)
    entry = types.SimpleNamespace(remote=lambda cfg: "run")
    stand_in(monkeypatch, "ray", get=lambda task: calls.append(task))
    stand_in(monkeypatch, "skyrl.train.config", SkyRLTrainConfig=kind)
    validate = {"validate_cfg": lambda cfg: calls.append("validate"), "skyrl_entrypoint": entry}
    stand_in(monkeypatch, "skyrl.train.entrypoints.main_base", **validate)
    stand_in(monkeypatch, "skyrl.train.utils", initialize_ray=lambda cfg: calls.append("ray"))
    monkeypatch.setattr(skyrl, "register", lambda cfg, line: calls.append(hosted.objective_of(line)))
    exec(compile(configuration("skyrl", name), "exported", "exec"), {"__name__": "__main__"})
    assert calls == [ga.recipes.get(name), "validate", "ray", "run"]
    reductions = {"dapo": "token_mean", "dr_grpo": "seq_mean_token_sum_norm"}
    assert algorithm.loss_reduction == reductions.get(name, "sequence_mean")
    length = algorithm.max_seq_len if name == "dr_grpo" else None
    skyrl.GeometryLoss(ga.recipes.get(name), algorithm.loss_reduction, 8, length)  # is not refused


@pytest.mark.parametrize("name", SINGLE)
def test_rllm(name: str) -> None:
    algorithm = yaml.safe_load(configuration("rllm", name))["algorithm"]
    assert algorithm["loss_fn"] == "geomalign"
    assert hosted.objective_of(algorithm["loss_params"]["objective"]) == ga.recipes.get(name)
    assert algorithm["loss_agg_mode"] == ("token-mean" if name == "dapo" else "seq-mean-token-mean")


def test_what_a_host_replaces_is_said() -> None:
    for host in ("prime-rl", "openrlhf", "nemo-rl", "rllm"):
        assert "in the place of Escort(alpha=0.3)" in configuration(host, "opo", alpha=0.3)
    assert "in the place of" in configuration("slime", "gmpo")  # two drives, of which slime passes one
    opo = configuration("slime", "opo", alpha=0.3)
    assert "in the place of" not in opo and "--custom-reward-post-process-path geomalign.adapters.slime.rewards" in opo


@pytest.mark.parametrize(
    ("host", "name", "given", "message"),
    [
        ("ray", "opo", {}, "no export to 'ray'; there are trl, verl"),
        ("trl", "oppo", {}, "no recipe 'oppo'"),
        ("verl", "dpo", {}, "verl cannot compute dpo: it compares pairs"),
        ("prime-rl", "dpo", {}, "compares pairs"),
        ("prime-rl", "grpo", {"beta": 0.04}, "use its own KL term and beta=0"),
        ("torchtune", "simpo", {}, "divides by their lengths"),
        ("skyrl", "grpo", {"beta": 0.04}, "use its own KL term and beta=0"),
        ("skyrl", "dpo", {}, "compares pairs"),
        ("rllm", "dpo", {}, "compares pairs"),
        ("torchtitan", "opo", {}, "opo reads whole responses"),
        ("torchtitan", "grpo", {"beta": 0.04}, "use its own KL term and beta=0"),
    ],
)
def test_what_cannot_run_is_refused(host: str, name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configuration(host, name, **given)


def test_every_host_has_a_page() -> None:
    pages = {path.stem for path in (Path(__file__).parent.parent / "docs" / "trainers").glob("*.md")}
    assert set(HOSTS) <= pages
