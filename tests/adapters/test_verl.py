"""geomalign's losses and estimators inside verl, against verl's own where both have the method.

Runs in an environment with verl (`bash tests/parity/environments.sh verl`, then its python -m pytest on this file);
skipped elsewhere.
"""

import ast
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

pytest.importorskip("verl", reason="needs verl: bash tests/parity/environments.sh verl")

import geomalign as ga
from geomalign.adapters import verl as adapter

pytestmark = pytest.mark.filterwarnings("ignore")  # of verl, ray and transformers about each other

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "verl" / "opo.yaml"
MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
NO_DUAL = {"clip_ratio_c": 1e9}


def actor(
    loss_mode: str, hyperparameters: dict[str, Any] | None = None, info: dict[str, Any] | None = None, **options: Any
) -> Any:
    from verl.workers.config import ActorConfig, PolicyLossConfig

    policy_loss: Any = PolicyLossConfig(loss_mode=loss_mode)
    if hyperparameters is not None:
        policy_loss = adapter.GeometryLossConfig(loss_mode=loss_mode, hyperparameters=hyperparameters)
    config = ActorConfig(
        strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=4, policy_loss=policy_loss, **options
    )
    config.global_batch_info.update(info or {})
    return config


def data(rows: int = 12, width: int = 7, spread: float = 0.4) -> dict[str, torch.Tensor]:
    """What verl passes to a policy loss: ragged responses, tool outputs masked, one response without a token."""
    old = -0.05 - torch.empty(rows, width).exponential_(0.8)
    mask = torch.arange(width) < torch.randint(1, width + 1, (rows, 1))
    mask[1] = False
    mask[2:6, 1] = False
    return {
        "old_log_prob": old,
        "log_prob": (old + spread * torch.randn(rows, width)).clamp(max=-0.05),
        "advantages": torch.randn(rows, 1) * mask,
        "response_mask": mask,
    }


def evaluate(config: Any, inputs: dict[str, torch.Tensor], **more: Any) -> tuple[float, torch.Tensor, dict[str, float]]:
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    policy = inputs["log_prob"].clone().requires_grad_()
    function = get_policy_loss_fn(config.policy_loss.loss_mode)
    loss, found = function(**inputs | {"log_prob": policy}, loss_agg_mode=config.loss_agg_mode, config=config, **more)
    return float(loss), torch.autograd.grad(loss, policy)[0], found


def assert_same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    # verl adds 1e-8 to the number of tokens of a response.
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-7, atol=1e-9)
    assert ours[1].abs().max() > 0


SAME = {
    "grpo": ({}, "vanilla", NO_DUAL),
    "ppo": ({"dual_clip": 3.0}, "vanilla", {}),
    "dapo": ({}, "vanilla", {"clip_ratio_high": 0.28} | NO_DUAL),
    "gspo": ({"epsilon": 0.03, "epsilon_high": 0.04}, "gspo", {"clip_ratio_low": 0.03, "clip_ratio_high": 0.04}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("recipe", SAME)
def test_a_recipe_equals_verls_own_loss(recipe: str, mode: str) -> None:
    hyperparameters, theirs, options = SAME[recipe]
    inputs = data()
    ours = evaluate(actor(f"geomalign/{recipe}", hyperparameters, loss_agg_mode=mode, **options), inputs)
    assert_same(ours, evaluate(actor(theirs, loss_agg_mode=mode, **options), inputs))


@pytest.mark.parametrize("mode", MODES)
def test_global_batch_counts_are_verls(mode: str) -> None:
    info = {"dp_size": 2, "batch_num_tokens": 77, "global_batch_size": 24, "loss_scale_factor": 100}
    inputs = data()
    ours = evaluate(actor("geomalign/grpo", {}, info, loss_agg_mode=mode), inputs)
    assert_same(ours, evaluate(actor("vanilla", None, info, loss_agg_mode=mode, **NO_DUAL), inputs))


@pytest.mark.parametrize("recipe", ["opo", "grpo", "gspo"])
def test_micro_batches_add_up_to_the_batch(recipe: str) -> None:
    inputs = data()
    tokens, sequences = int(inputs["response_mask"].sum()), int(inputs["response_mask"].any(-1).sum())
    info = {"dp_size": 1, "batch_num_tokens": tokens, "global_batch_size": sequences}
    config = actor(f"geomalign/{recipe}", {}, info, loss_agg_mode="seq-mean-token-mean")
    whole = evaluate(config, inputs)
    parts = [
        evaluate(config, {k: v[rows] for k, v in inputs.items()})
        for rows in (slice(0, 1), slice(1, 2), slice(2, 9), slice(9, 12))
    ]
    torch.testing.assert_close(sum(p[0] for p in parts), whole[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), whole[1], rtol=1e-12, atol=1e-14)


def test_a_recipe_is_the_same_function_as_outside_verl() -> None:
    """OPO with its own drive, mean over responses: the library's objective on one batch."""
    inputs = data()
    config = actor("geomalign/opo", {"alpha": 0.3, "mu": 7.0}, loss_agg_mode="seq-mean-token-mean")
    batch = ga.Batch(inputs["log_prob"], inputs["old_log_prob"], mask=inputs["response_mask"])
    drive = inputs["advantages"].sum(-1) / inputs["response_mask"].sum(-1).clamp(min=1)
    objective = ga.recipes.opo(alpha=0.3, mu=7.0)
    loss, gradient, _ = evaluate(config, inputs)
    torch.testing.assert_close(loss, float(objective(batch, drive=drive).loss), rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(gradient, objective.gradient(batch, drive=drive), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("recipe", ["grpo", "gspo"])
def test_rollout_correction_weights_are_verls(recipe: str) -> None:
    hyperparameters, theirs, options = SAME[recipe]
    inputs = data()
    weights = torch.rand(12, 1).expand(12, 7).contiguous() + 0.5  # rollout_is: sequence
    if recipe == "grpo":
        weights = torch.rand(12, 7) + 0.5  # rollout_is: token
    weights = weights * inputs["response_mask"]
    config = actor(f"geomalign/{recipe}", hyperparameters, loss_agg_mode="seq-mean-token-mean")
    ours = evaluate(config, inputs, rollout_is_weights=weights)
    verls = evaluate(actor(theirs, loss_agg_mode="seq-mean-token-mean", **options), inputs, rollout_is_weights=weights)
    assert_same(ours, verls)


def rewards(rows: int = 12, width: int = 7) -> dict[str, Any]:
    mask = torch.arange(width) < torch.randint(1, width + 1, (rows, 1))
    last = mask.sum(-1, keepdim=True) - 1
    uid = numpy.array([f"uid-{i % 3}" for i in range(rows)], dtype=object)
    token_level = torch.where(torch.arange(width) == last, torch.randn(rows, 1), 0.0)
    return {"token_level_rewards": token_level, "response_mask": mask, "index": uid}


@pytest.mark.parametrize("field", ["old_log_prob", "advantages", "rollout_is_weights"])
def test_values_that_are_not_finite_are_dropped_and_counted(field: str) -> None:
    inputs, weights = data(), torch.ones(12, 7)
    row = int(inputs["response_mask"].any(-1).nonzero()[0])
    spoiled = {**inputs, "rollout_is_weights": weights}
    spoiled[field] = spoiled[field].clone()
    spoiled[field][row] = float("nan")
    kept = inputs["response_mask"].clone()
    kept[row] = False
    with pytest.warns(ga.NonFiniteWarning, match=f"of row {row}"):
        loss, gradient, found = evaluate(actor("geomalign/grpo"), spoiled)
    expected = evaluate(actor("geomalign/grpo"), {**inputs, "response_mask": kept}, rollout_is_weights=weights)
    assert_same((loss, gradient), expected[:2])
    assert found["geom/nonfinite_tokens"] == inputs["response_mask"][row].sum()


def test_an_estimator_leaves_out_a_reward_that_is_not_finite() -> None:
    rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, float("nan")]])
    with pytest.warns(ga.NonFiniteWarning, match="`reward` of row 2"):
        advantages, _ = adapter.estimator("GroupAdvantage")(rewards, torch.ones(3, 2), index=["prompt"] * 3)
    assert advantages[:, 0].tolist() == [0.5, -0.5, 0.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("grpo", "grpo", {}),
        ("dr_grpo", "grpo", {"norm_adv_by_std_in_grpo": False}),
        ("rloo", "rloo_vectorized", {}),
        ("rloo", "rloo", {}),
    ],
)
def test_an_estimator_equals_verls_own(ours: str, theirs: str, options: dict[str, Any]) -> None:
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    inputs = rewards()
    found, returns = get_adv_estimator_fn(f"geomalign/{ours}")(**inputs, config=AlgoConfig())
    expected, _ = get_adv_estimator_fn(theirs)(**inputs, config=AlgoConfig(), **options)
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-9, atol=1e-12)
    assert returns is found and found.abs().max() > 0.1


def test_hyperparameters_of_a_geometry_come_from_the_algorithm_section() -> None:
    from omegaconf import OmegaConf
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    inputs = rewards()
    config = OmegaConf.create({"hyperparameters": {"alpha": 0.25, "scaled": True}})
    found, _ = get_adv_estimator_fn("geomalign/Escort")(**inputs, config=config)
    group = torch.tensor([i % 3 for i in range(12)])
    reward = inputs["token_level_rewards"].sum(-1)
    batch = ga.Batch(torch.zeros(12, 7), None, mask=inputs["response_mask"], reward=reward, group=group)
    expected = ga.Escort(alpha=0.25, scaled=True).drive(batch)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-12, atol=1e-14)


def test_a_prompt_with_one_response_has_no_advantage() -> None:
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    inputs = rewards()
    inputs["index"][0] = "alone"
    ours, _ = get_adv_estimator_fn("geomalign/grpo")(**inputs)
    theirs, _ = get_adv_estimator_fn("grpo")(**inputs)
    assert ours[0].abs().max() == 0 and theirs[0].abs().max() > 0


def test_verls_worker_calls_the_loss_and_adds_its_own_kl_penalty() -> None:
    """`ppo_loss`, what verl's engine calls: unpadded log-probabilities, global counts in the data, the k3 term added by
    verl.
    """
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import ppo_loss

    inputs = data()
    lengths = inputs["response_mask"].long().cumsum(-1).argmax(-1) + 1
    prompts = torch.full((12,), 2)
    ref = (inputs["old_log_prob"] + 0.2 * torch.randn(12, 7)).clamp(max=-0.05)

    def nested(x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor([row[:n] for row, n in zip(x, lengths, strict=True)], layout=torch.jagged)

    def run(config: Any) -> tuple[float, torch.Tensor, dict[str, Any]]:
        policy = inputs["log_prob"].clone().requires_grad_()
        rows = [
            torch.cat([policy.new_zeros(1), row[:n], policy.new_zeros(1)])
            for row, n in zip(policy, lengths, strict=True)
        ]
        full = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        ids = torch.nested.as_nested_tensor(
            [torch.zeros(2 + int(n), dtype=torch.long) for n in lengths], layout=torch.jagged
        )
        fields = {
            "prompts": torch.nested.as_nested_tensor([torch.zeros(2, dtype=torch.long)] * 12, layout=torch.jagged),
            "responses": nested(torch.zeros(12, 7, dtype=torch.long)),
            "input_ids": ids,
            "response_mask": nested(inputs["response_mask"].long()),
            "old_log_probs": nested(inputs["old_log_prob"]),
            "advantages": nested(inputs["advantages"]),
            "ref_log_prob": nested(ref),
        }
        batch = TensorDict(fields, batch_size=[12])
        tu.assign_non_tensor(batch, dp_size=1, batch_num_tokens=40, global_batch_size=12, max_response_len=7)
        loss, found = ppo_loss(config, {"log_probs": full}, batch)
        return float(loss), torch.autograd.grad(loss, policy)[0], found

    assert prompts.sum() == 24
    kl_penalty = {"use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": "low_var_kl"}
    ours = run(actor("geomalign/grpo", {}, **kl_penalty))
    theirs = run(actor("vanilla", None, **kl_penalty, **NO_DUAL))
    assert_same(ours, theirs)
    assert {"actor/ppo_kl", "actor/pg_clipfrac", "kl_loss", "geom/ess"} <= set(ours[2])
    for name in ("actor/ppo_kl", "actor/pg_clipfrac"):
        assert math.isclose(ours[2][name].aggregate(), theirs[2][name].aggregate(), rel_tol=1e-5, abs_tol=1e-6)


def test_a_kl_penalty_to_the_reference_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="use_kl_loss: true"):
        evaluate(actor("geomalign/grpo", {"beta": 0.04}), data())


def test_an_unknown_hyperparameter_is_named() -> None:
    with pytest.raises(ValueError, match="mue"):
        evaluate(actor("geomalign/opo", {"mue": 1.0}), data())


def test_every_recipe_is_registered_or_has_a_reason() -> None:
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    registered = adapter.register()
    assert set(registered.losses) <= set(POLICY_LOSS_REGISTRY) and set(registered.estimators) <= set(
        ADV_ESTIMATOR_REGISTRY
    )
    assert {n.removeprefix("geomalign/") for n in registered.losses} | set(registered.left_out) == set(
        ga.recipes.names()
    )
    assert "pairs" in registered.left_out["dpo"]


@pytest.mark.parametrize("recipe", [n.removeprefix("geomalign/") for n in adapter.register().losses])
def test_every_registered_recipe_computes(recipe: str) -> None:
    """Estimator and loss together, at the defaults: finite, and something trains."""
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    inputs = rewards()
    # Two prompts, each solved once in six: also pass@4 has something to learn.
    inputs["index"] = numpy.array([f"uid-{i % 2}" for i in range(12)], dtype=object)
    inputs["token_level_rewards"] = torch.zeros(12, 7)
    inputs["token_level_rewards"][:2, 0] = 1.0
    advantages, _ = get_adv_estimator_fn(f"geomalign/{recipe}")(**inputs)
    batch = data() | {"advantages": advantages, "response_mask": inputs["response_mask"]}
    config = actor(f"geomalign/{recipe}", loss_agg_mode="seq-mean-token-mean")
    loss, gradient, found = evaluate(config, batch)
    assert math.isfinite(loss) and bool(torch.isfinite(gradient).all()) and gradient.abs().max() > 0
    assert all(isinstance(value, float) for value in found.values())


def test_an_objective_is_named_among_the_hyperparameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one's own, by module and attribute, as loss and as estimator."""
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    (tmp_path / "my_verl_objectives.py").write_text(
        "import geomalign as ga\n\n\ndef mine(mu=1.0):\n    return ga.recipes.opo(alpha=0.3, mu=mu)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    inputs = data()
    named = {"objective": "my_verl_objectives:mine", "mu": 7.0}
    ours = evaluate(actor("geomalign/objective", named), inputs)
    assert_same(ours, evaluate(actor("geomalign/opo", {"alpha": 0.3, "mu": 7.0}), inputs))
    rollout = rewards()
    advantages = [
        get_adv_estimator_fn(f"geomalign/{name}")(**rollout, config={"hyperparameters": hyperparameters})[0]
        for name, hyperparameters in (("objective", named), ("opo", {"alpha": 0.3}))
    ]
    assert torch.equal(*advantages)
    with pytest.raises(ValueError, match=r"needs hyperparameters\.objective"):
        evaluate(actor("geomalign/objective", {"mu": 7.0}), inputs)


def test_the_configuration_survives_the_way_to_a_worker() -> None:
    config = actor("geomalign/opo", {"mu": 3.0})
    assert pickle.loads(pickle.dumps(config)).policy_loss.hyperparameters == {"mu": 3.0}


def functions_of(path: str, *names: str, **known: Any) -> dict[str, Any]:
    """Functions of one of verl's files that imports what is not installed: taken out of it and compiled alone."""
    import verl

    tree = ast.parse(Path(next(iter(verl.__path__)), path).read_text(encoding="utf-8"))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in names]
    assert {n.name for n in found} == set(names)
    for function in found:
        function.decorator_list, function.returns = [], None
        for argument in function.args.args:
            argument.annotation = None
    made: dict[str, Any] = dict(known)
    exec(compile(ast.Module(found, []), path, "exec"), made)
    return made


def sessions(config: Any, adv_estimator: str) -> torch.Tensor:
    """The advantages that verl's default trainer gives to four sessions, the last of which has five outputs."""
    from verl import DataProto
    from verl.trainer.ppo import core_algos

    made = functions_of(
        "trainer/ppo/ray_trainer.py",
        "compute_advantage",
        core_algos=core_algos,
        AdvantageEstimator=core_algos.AdvantageEstimator,
    )
    name = "compute_advantage_for_multi_trajectories"
    made = functions_of("trainer/ppo/v1/utils.py", name, torch=torch, **made)
    session = [0, 1, 2, 3, 3, 3, 3, 3]
    scores = torch.zeros(8, 4)
    scores[:, -1] = torch.tensor([1.0, 0, 0, 1])[session]
    tensors = {"token_level_rewards": scores, "response_mask": torch.ones(8, 4)}
    rows = DataProto.from_dict(tensors=tensors, non_tensors={"uid": numpy.array(["u"] * 8, dtype=object)})
    keys = [f"u_{s}_{session[:i].count(s)}" for i, s in enumerate(session)]
    rows = made[name](rows, keys, adv_estimator, norm_adv_by_std_in_grpo=False, config=config)
    return rows.batch["advantages"][:, 0]


def test_outputs_of_one_session_are_counted_as_responses_or_refused() -> None:
    """verl takes a session once for its own `grpo`; every other estimator gets rows, and cannot see the sessions."""
    once = sessions({}, "grpo")
    torch.testing.assert_close(once, torch.tensor([0.5, -0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5]))
    each = sessions({"hyperparameters": {}}, "geomalign/dr_grpo")
    torch.testing.assert_close(each[:4], torch.tensor([0.25, -0.75, -0.75, 0.25]))
    with pytest.raises(ValueError, match=r"8 rows, but algorithm\.group_size says 4 sessions"):
        sessions({"hyperparameters": {}, "group_size": 4}, "geomalign/dr_grpo")


def test_padding_of_verl_is_no_session() -> None:
    """verl appends rows without tokens, all of one made-up prompt."""
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    inputs = rewards()
    inputs["response_mask"][5:] = False
    inputs["index"] = numpy.array(["a"] * 5 + ["pad"] * 7, dtype=object)
    estimate = get_adv_estimator_fn("geomalign/rloo")
    found, _ = estimate(**inputs, config={"hyperparameters": {}, "group_size": 5})
    assert found[:5].abs().max() > 0 and found[5:].abs().max() == 0
    with pytest.raises(ValueError, match="5 rows"):
        estimate(**inputs, config={"hyperparameters": {}, "group_size": 4})


class Queue:
    """verl's transfer queue, of one batch."""

    def __init__(self, fields: dict[str, torch.Tensor]):
        self.fields = fields

    def kv_batch_get(self, select_fields: list[str], **where: Any) -> dict[str, torch.Tensor]:
        return {name: self.fields[name] for name in select_fields}

    def kv_batch_put(self, fields: dict[str, torch.Tensor], **where: Any) -> None:
        self.fields |= fields


def test_bypass_exchanges_the_old_policy_and_keeps_the_loss() -> None:
    """verl's default trainer, its own function: old becomes the rollout engine's, and `loss_mode` stays."""
    from types import SimpleNamespace

    from omegaconf import OmegaConf

    config = OmegaConf.create(
        {
            "algorithm": {"rollout_correction": {"bypass_mode": True}},
            "actor_rollout_ref": {"actor": {"policy_loss": {"loss_mode": "geomalign/opo"}}},
        }
    )
    before = OmegaConf.to_container(config)
    engine = -torch.rand(3, 5)
    queue = Queue({"rollout_log_probs": engine, "responses": torch.zeros(3, 5)})
    made = functions_of("trainer/ppo/v1/trainer_base.py", "_compute_old_log_prob", tq=queue)
    made["_compute_old_log_prob"](SimpleNamespace(config=config), SimpleNamespace(keys=[], partition_id=""), {})
    assert queue.fields["old_log_probs"] is engine and OmegaConf.to_container(config) == before


def test_the_check_knows_bypass() -> None:
    bypass = "algorithm.rollout_correction.bypass_mode=true"
    assert adapter.check([bypass], str(EXAMPLE))[-1] == "ok"
    with pytest.raises(RuntimeError, match="calculate_log_probs=true"):
        adapter.check([bypass, "actor_rollout_ref.rollout.calculate_log_probs=false"], str(EXAMPLE))
    with pytest.raises(RuntimeError, match="overwrites loss_mode 'geomalign/opo'"):
        adapter.check([bypass, "trainer.use_v1=false"], str(EXAMPLE))


def test_a_distillation_is_configured_as_the_page_says(tmp_path: Path) -> None:
    """The YAML of docs/trainers/verl.md, composed on top of verl's own."""
    from verl.utils.config import omega_conf_to_dataclass

    from geomalign.adapters.verl.preflight import _compose

    page = (ROOT / "docs" / "trainers" / "verl.md").read_text()
    block = next(b for b in page.split("```") if b.startswith("yaml\ndistillation:")).removeprefix("yaml\n")
    head = "hydra:\n  searchpath:\n    - pkg://verl.trainer.config\n\ndefaults:\n  - ppo_trainer\n  - _self_\n\n"
    path = tmp_path / "distil.yaml"
    path.write_text(head + block)
    section = omega_conf_to_dataclass(_compose([], str(path)).distillation.distillation_loss)
    assert (section.policy_loss_mode, dict(section.hyperparameters)) == ("geomalign/ppo", {"epsilon": 0.1})


@pytest.mark.parametrize(
    ("mode", "hyperparameters"), [("geomalign/ppo", {"dual_clip": 3.0}), ("geomalign/opo", {"mu": 2.0})]
)
def test_distillation_by_policy_gradient(mode: str, hyperparameters: dict[str, Any]) -> None:
    """verl's `distillation_loss` passes its own section as configuration, and the distillation loss as advantage."""
    from types import SimpleNamespace

    from tensordict import TensorDict
    from verl.trainer.distillation.losses import distillation_loss
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import DistillationLossConfig

    inputs = data()
    mask = torch.arange(7) < (inputs["response_mask"].sum(-1, keepdim=True)).clamp(min=1)
    lengths = mask.sum(-1).tolist()
    teacher = (inputs["old_log_prob"] + 0.5 * torch.randn(12, 7)).clamp(max=-0.05)

    def jagged(x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor([row[:n] for row, n in zip(x, lengths)], layout=torch.jagged)

    def whole(x: torch.Tensor) -> torch.Tensor:  # prompt of two tokens and response, scores one token early
        rows = [torch.cat([x.new_zeros(1), row[:n], x.new_zeros(1)]) for row, n in zip(x, lengths)]
        return torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    def run(section: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        policy = inputs["log_prob"].clone().requires_grad_()
        fields = {
            "prompts": torch.nested.as_nested_tensor([torch.zeros(2, dtype=torch.long)] * 12, layout=torch.jagged),
            "responses": jagged(torch.zeros(12, 7, dtype=torch.long)),
            "input_ids": torch.nested.as_nested_tensor(
                [torch.zeros(2 + n, dtype=torch.long) for n in lengths], layout=torch.jagged
            ),
            "response_mask": jagged(mask.long()),
            "old_log_probs": jagged(inputs["old_log_prob"]),
            "teacher_logprobs": whole(teacher),
        }
        batch = TensorDict(fields, batch_size=[12])
        tu.assign_non_tensor(batch, dp_size=1, batch_num_tokens=sum(lengths), global_batch_size=12, max_response_len=7)
        config = actor("vanilla", None, loss_agg_mode="seq-mean-token-mean")
        both = SimpleNamespace(distillation_loss=section)
        loss, found = distillation_loss(config, both, {"log_probs": whole(policy)}, batch)
        return loss.detach(), torch.autograd.grad(loss, policy)[0], found

    options = {"loss_mode": "k1", "use_policy_gradient": True, "loss_max_clamp": None}
    section = adapter.GeometryDistillationLossConfig(policy_loss_mode=mode, hyperparameters=hyperparameters, **options)
    loss, gradient, found = run(section)
    if mode == "geomalign/ppo":
        theirs = run(DistillationLossConfig(**options))
        assert_same((loss, gradient), theirs[:2])
    else:
        batch = ga.Batch(inputs["log_prob"], inputs["old_log_prob"], mask=mask)
        drive = ((teacher - inputs["log_prob"]) * mask).sum(-1) / mask.sum(-1)
        objective = ga.recipes.opo(mu=2.0)
        torch.testing.assert_close(gradient, objective.gradient(batch, drive=drive), rtol=1e-7, atol=1e-12)
    assert {"distillation/geom/ess", "distillation/ppo_kl", "distillation/pg_clipfrac"} <= set(found)
    with pytest.raises(NotImplementedError, match="Only vanilla"):  # what is not ours is verl's to judge
        adapter.GeometryDistillationLossConfig(policy_loss_mode="gspo", **options)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], capture_output=True, text=True, env=env, cwd=ROOT
    )


def test_rollouts_of_verl_are_read_by_the_audit(tmp_path: Path) -> None:
    """`trainer.rollout_data_dir`, by verl's own writer: texts and scores of every step, no log-probabilities.

    The trainer's module imports the servers of the rollout engines, so its function is taken out of the file.
    """
    from geomalign.audit import audit

    name = "_write_generations"
    made = functions_of("trainer/ppo/ray_trainer.py", name, json=json, os=os)
    prompts = ["2+2", "2+2", "3+3", "3+3"]
    for step in (9, 10):
        scores, extra = [1.0, 0.0, float(step), float(step)], {"acc": [True, False, True, True], "uid": ["a"] * 3}
        made[name](prompts, ["…"] * 4, ["4"] * 4, scores, extra, str(tmp_path), step)
    found = audit(tmp_path)
    assert (found.facts["responses"], found.facts["rollouts"], found.facts["prompts"]) == (8, 2, 4)
    assert found.facts["reward_mean"] == pytest.approx((2 * 1.0 + 2 * 9 + 2 * 10) / 8)
    assert found.steps["share with a drive"] == [0.5, 0.5] and found.advice[0].startswith("No log-probabilities")


def test_importing_verl_is_enough() -> None:
    seen = python(
        "-c",
        "import verl; from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY as r; print('geomalign/opo' in r)",
    )
    assert seen.stdout.split()[-1] == "True", seen.stderr


def test_the_example_is_a_working_configuration() -> None:
    lines = adapter.check([], str(EXAMPLE))
    assert lines[-1] == "ok" and any("opo" in line and "seq-mean-token-mean" in line for line in lines)


def readme_overrides() -> list[str]:
    rows = [
        line.split("|")
        for line in (EXAMPLE.parent / "README.md").read_text().splitlines()
        if line.startswith("| ") and "=" in line
    ]
    return [row[2].strip().strip("`") for row in rows]


@pytest.mark.parametrize("overrides", readme_overrides())
def test_the_overrides_of_the_readme_work(overrides: str) -> None:
    assert adapter.check(overrides.split(), str(EXAMPLE))[-1] == "ok"


def test_the_check_says_what_is_wrong() -> None:
    wrong = python(
        "-m",
        "geomalign.adapters.verl",
        "--config",
        str(EXAMPLE),
        "actor_rollout_ref.actor.policy_loss.loss_mode=geomalign/oppo",
    )
    assert wrong.returncode == 1 and "geomalign/oppo" in wrong.stderr
    blocked = python("-m", "geomalign.adapters.verl", VERL_USE_EXTERNAL_PLUGINS="none")
    assert blocked.returncode == 1 and "VERL_USE_EXTERNAL_PLUGINS" in blocked.stderr
    assert python("-m", "geomalign.adapters.verl").returncode == 0


@pytest.mark.slow
def test_a_ray_worker_knows_the_losses() -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote
        def look() -> bool:
            import verl  # noqa: F401
            from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

            return "geomalign/opo" in POLICY_LOSS_REGISTRY and "geomalign/opo" in ADV_ESTIMATOR_REGISTRY

        assert ray.get(look.remote(), timeout=120)
    finally:
        ray.shutdown()
