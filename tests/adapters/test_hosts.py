"""Trainers with a loss of their own: each adapter against the host's own formula, value and gradient.

OpenRLHF and torchtune are the real packages, in environments of their own (`bash tests/parity/environments.sh
openrlhf`, `bash tests/adapters/environments.sh torchtune`); skipped elsewhere. prime-rl, slime and NeMo-RL cannot be
installed from a package index, so the types that the adapters take from them stand in, and the formula is the one in
their documentation.
"""

import dataclasses
import enum
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from adapters.common import ROWS, TOKENS, Rows, assert_same, clipped, opo, single, stand_in
from torch import Tensor

import geomalign as ga
from geomalign.adapters import hosted

# -------------------------------------------------------------------------------------------------------- shared


def test_an_objective_in_one_line() -> None:
    assert hosted.objective_of("opo alpha=0.5 mu=2 normalize=sum") == ga.recipes.opo(alpha=0.5, mu=2, normalize="sum")
    assert hosted.objective_of("ppo") is hosted.objective_of("ppo")
    with pytest.raises(ValueError, match="the objective 'opo alpha': 'alpha' is not key=value"):
        hosted.objective_of("opo alpha")
    with pytest.raises(ValueError, match="there is no recipe 'oppo'"):
        hosted.objective_of("oppo")


def test_weights_of_a_reduction_are_its_gradient() -> None:
    support = torch.tensor([[True, True, False], [True, False, False]])
    weights = hosted.weights_of(lambda x: (x * support).sum(1).div(support.sum(1)).mean(), support, torch.float64)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]]))


def test_each_term_gets_the_drive_of_its_unit(rows: Rows) -> None:
    """A sum of a token term, a response term and a KL penalty, in one call."""
    objective = ga.recipes.grpo(beta=0.1) + ga.recipes.opo(mu=3.0)
    batch = ga.Batch(rows.policy, rows.old, rows.mask, reference=rows.reference)
    outcome = hosted.evaluate(objective, batch, rows.advantages)
    k3 = torch.exp(rows.reference - rows.policy) - (rows.reference - rows.policy) - 1
    nested = lambda x: ((x * rows.mask).sum(1) / rows.mask.sum(1)).mean()  # noqa: E731
    expected = nested(clipped(rows.policy, rows)) + 0.1 * nested(k3) + opo(rows.policy, rows, 3.0).mean()
    assert_same(outcome.loss, expected, rows.policy)


def test_engine_weights_survive_a_hosts_advantages(rows: Rows) -> None:
    """`TruncatedImportance` weighs whatever drive there is: the host's takes the place of what it wraps."""
    engine = rows.old + 0.5 * torch.randn(ROWS, TOKENS)
    weight = torch.exp(rows.old - engine).clamp(max=2.0)
    objective = dataclasses.replace(
        ga.recipes.ppo(), sampling=ga.TruncatedImportance(ga.GroupAdvantage()), measure=ga.PooledMean()
    )
    batch = ga.Batch(rows.policy, rows.old, rows.mask, behavior=engine)
    outcome = hosted.evaluate(objective, batch, rows.advantages)
    assert_same(outcome.loss, (weight * clipped(rows.policy, rows))[rows.mask].mean(), rows.policy)
    given = hosted.evaluate(ga.recipes.ppo(), batch, rows.advantages, importance=weight)
    assert_same(given.loss, hosted.evaluate(ga.recipes.ppo(), batch, rows.advantages * weight).loss, rows.policy)


@pytest.mark.parametrize("name", single())
def test_a_recipe_keeps_its_weights_under_a_hosts_advantages(name: str) -> None:
    """With advantages that are the recipe's own drive it is the recipe: clips, masks, tapers and halves by sign too."""
    objective, batch = ga.recipes.get(name), ga.laws.sample_batch(8, 5)
    policy, reward = batch.policy.detach().requires_grad_(), (torch.arange(8) == 0).double()  # one in eight is right
    batch = dataclasses.replace(batch, policy=policy, reward=reward, advantage=reward - 0.1, group=None)
    drives = {term.sampling for term in objective.driven_terms}
    # Halves of several terms, and engine weights of one, are applied to what the host gives.
    applied = ga.sampling.SignWeighted if len(drives) > 1 else ga.MaskedImportance
    inner = [sampling.of if isinstance(sampling, applied) else sampling for sampling in drives]
    advantages = inner[0].drive(batch) if inner else reward  # what is not driven reads none
    outcome = hosted.evaluate(objective, batch, advantages)
    ours, theirs = (torch.autograd.grad(x.loss, batch.policy)[0] for x in (objective(batch), outcome))
    torch.testing.assert_close(theirs, ours)
    assert ours.abs().max() > 0


def test_what_micro_batches_report_adds_up(rows: Rows) -> None:
    outcome = hosted.evaluate(ga.recipes.ppo(), ga.Batch(rows.policy, rows.old, rows.mask), rows.advantages)
    whole, half = hosted.host_metrics(outcome), hosted.host_metrics(outcome, torch.tensor(0.5))
    assert half["geom/kl"] == whole["geom/kl"] / 2
    assert whole.keys() - half.keys() == {f"geom/{name}" for name in ("ratio_min", "ratio_max", "stiffness", "gap")}


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=["no row", "no token"])
def test_nothing_to_report_is_no_error(shape: tuple[int, int]) -> None:
    """A rank or a micro-batch may be empty."""
    policy = torch.zeros(shape, requires_grad=True)
    outcome = hosted.evaluate(ga.recipes.ppo(), ga.Batch(policy, policy.detach()), torch.zeros(shape))
    outcome.loss.backward()
    seen = hosted.host_metrics(outcome)
    assert seen["geom/ratio_min"] == seen["geom/ratio_max"] == 1 and seen["geom/kl"] == 0


def test_pairs_are_refused(rows: Rows) -> None:
    with pytest.raises(ValueError, match="compares pairs"):
        hosted.evaluate(ga.recipes.dpo(), ga.Batch(rows.policy, rows.old), rows.advantages)


# ------------------------------------------------------------------------------------------------------ prime-rl


@dataclasses.dataclass
class LossOutputs:
    loss: Tensor
    metrics: dict[str, Tensor]


@dataclasses.dataclass
class LossInputs:
    """The fields in prime-rl's documentation of custom losses."""

    trainer_logprobs: Tensor
    inference_logprobs: Tensor
    ref_logprobs: Tensor | None
    advantages: Tensor
    loss_mask: Tensor
    loss_weights: Tensor | None = None


def prime(rows: Rows, policy: Tensor, weights: Tensor | None = None, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """What prime-rl does with a custom loss: one sequence at a time, the sum divided by the step's tokens."""
    module, _, attribute = "geomalign.adapters.prime_rl.loss".rpartition(".")
    custom = getattr(importlib.import_module(module), attribute)
    total, metrics = torch.zeros(()), {}
    for k in range(ROWS):
        outputs = custom(
            LossInputs(
                policy[k],
                rows.old[k],
                rows.reference[k],
                rows.advantages[k],
                rows.mask[k],
                None if weights is None else weights[k],
            ),
            **kwargs,
        )
        total, metrics = total + outputs.loss, outputs.metrics
    scale = rows.mask.sum() if weights is None else torch.where(rows.mask, weights, 0).sum()
    return total / scale, metrics


def test_prime_rl(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    stand_in(monkeypatch, "prime_rl.trainer.rl.loss", LossOutputs=LossOutputs)
    ours, metrics = prime(rows, rows.policy, objective="ppo")
    assert_same(ours, clipped(rows.policy, rows)[rows.mask].mean(), rows.policy)
    assert all(name.startswith("geom/") and value.ndim == 0 and value.isfinite() for name, value in metrics.items())
    ours, _ = prime(rows, rows.policy, objective="opo", mu=2.0)
    lengths = rows.mask.sum(1)
    assert_same(ours, (opo(rows.policy, rows, 2.0) * lengths).sum() / lengths.sum(), rows.policy)


def test_prime_rl_weights(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    stand_in(monkeypatch, "prime_rl.trainer.rl.loss", LossOutputs=LossOutputs)
    weights = torch.rand(ROWS, TOKENS)
    ours, _ = prime(rows, rows.policy, weights, objective="ppo")
    expected = (clipped(rows.policy, rows) * weights)[rows.mask].sum() / weights[rows.mask].sum()
    assert_same(ours, expected, rows.policy)


# --------------------------------------------------------------------------------------------------------- slime


def slime_reducer(masks: list[Tensor], per_token: bool) -> Callable[[Tensor], Tensor]:
    """slime's `get_sum_of_sample_mean`: of a flat tensor of all responses' tokens."""

    def reduce(flat: Tensor) -> Tensor:
        parts = flat.split([len(m) for m in masks])
        sums = [(x * m).sum() / (1 if per_token else m.sum().clamp(min=1)) for x, m in zip(parts, masks, strict=True)]
        return torch.stack(sums).sum()

    return reduce


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("form", ["pair", "dictionary"])
def test_slime(monkeypatch: pytest.MonkeyPatch, rows: Rows, per_token: bool, form: str) -> None:
    lengths = [9, 4, 3, 6, 2, 7]
    flat = rows.policy[torch.arange(TOKENS) < torch.tensor(lengths)[:, None]]

    def get_log_probs_and_entropy(logits: Tensor, *, args: Any, with_entropy: bool, **layout: Any) -> Any:
        assert layout.keys() == {"unconcat_tokens", "total_lengths", "response_lengths"}
        scored = {"log_probs": list(logits.split(lengths)), "entropy": list((-logits).split(lengths))}
        return scored if form == "dictionary" else (torch.empty(0), scored)

    stand_in(monkeypatch, "slime.backends.megatron_utils.loss", get_log_probs_and_entropy=get_log_probs_and_entropy)
    from geomalign.adapters.slime import loss

    masks = [torch.ones(n) for n in lengths]
    masks[2] = torch.tensor([1.0, 0.0, 0.0])  # tokens of a tool, which do not count
    cut = lambda x: [x[k, :n] for k, n in enumerate(lengths)]  # noqa: E731
    batch = {
        "log_probs": cut(rows.old),
        "ref_log_probs": cut(rows.reference),
        "advantages": cut(rows.advantages),
        "loss_masks": masks,
        "unconcat_tokens": None,
        "total_lengths": lengths,
        "response_lengths": lengths,
    }
    reduce = slime_reducer(masks, per_token)
    exists = torch.arange(TOKENS) < torch.tensor(lengths)[:, None]
    args = types.SimpleNamespace(geomalign_objective="ppo", entropy_coef=0.1)
    ours, metrics = loss(args, batch, flat, reduce)
    assert_same(ours, reduce(clipped(rows.policy, rows)[exists]) - 0.1 * reduce(-flat), rows.policy)
    count = rows.mask.sum() if per_token else ROWS  # what slime divides the sum of all micro-batches' reports by
    log_ratio = (rows.policy - rows.old).abs()[rows.mask].mean()
    assert metrics["loss"].requires_grad is False
    torch.testing.assert_close(metrics["geom/log_ratio_abs"], count * log_ratio.detach())
    args = types.SimpleNamespace(geomalign_objective="opo mu=2.0")
    ours, _ = loss(args, batch, flat, reduce)
    assert_same(ours, (opo(rows.policy, rows, 2.0) * (rows.mask.sum(1) if per_token else 1)).sum(), rows.policy)
    for whole in ("opo", "luspo", "vespo"):  # by its unit, and by weights of whole responses on tokens
        with pytest.raises(ValueError, match="parts of responses"):
            loss(types.SimpleNamespace(geomalign_objective=whole, context_parallel_size=2), batch, flat, reduce)
    loss(types.SimpleNamespace(geomalign_objective="ppo", context_parallel_size=2), batch, flat, reduce)


@pytest.fixture
def slime_flat(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """slime's forward pass where the logits are the log-probabilities, and what it was asked for."""
    asked: dict[str, Any] = {}

    def get_log_probs_and_entropy(
        logits: Tensor, *, args: Any, response_lengths: list[int], with_entropy: bool, **more: Any
    ) -> Any:
        asked.update(more)
        return torch.empty(0), {"log_probs": list(logits.split(response_lengths))}

    stand_in(monkeypatch, "slime.backends.megatron_utils.loss", get_log_probs_and_entropy=get_log_probs_and_entropy)
    return asked


def slime_batch(lengths: list[int], **more: Any) -> dict[str, Any]:
    return {
        "advantages": [torch.full((n,), k - 1.5) for k, n in enumerate(lengths)],
        "loss_masks": [torch.ones(n) for n in lengths],
        "unconcat_tokens": None,
        "total_lengths": lengths,
        "response_lengths": lengths,
        **more,
    }


def test_slime_anchors(slime_flat: dict[str, Any]) -> None:
    """The old policy's log-probabilities, the engine's where slime is told so, the current ones where none came."""
    from geomalign.adapters.slime import loss

    lengths = [3, 2]
    flat = (-torch.rand(5)).requires_grad_()
    old, engine = torch.rand(5) - 1.5, torch.rand(5) - 1.5
    advantages = torch.cat(slime_batch(lengths)["advantages"])
    reduce = slime_reducer([torch.ones(n) for n in lengths], True)
    dumps = {"log_probs": list(old.split(lengths)), "rollout_log_probs": list(engine.split(lengths))}
    for anchor, given, flag in (
        (old, dumps, False),
        (engine, dumps, True),
        (flat.detach(), {"log_probs": None}, False),
    ):
        args = types.SimpleNamespace(geomalign_objective="ppo epsilon=0.1", use_rollout_logprobs=flag)
        ours, _ = loss(args, slime_batch(lengths, **given), flat, reduce)
        ratio = torch.exp(flat - anchor)
        assert_same(ours, -torch.min(ratio * advantages, ratio.clamp(0.9, 1.1) * advantages).sum(), flat)
    assert "top_p_token_ids" not in slime_flat
    args.rollout_top_p = 0.9
    more = {"rollout_top_p_token_ids": [[1]], "rollout_top_p_token_offsets": [[0, 1]]}
    loss(args, slime_batch(lengths, **more), flat, reduce)
    assert slime_flat["top_p_token_ids"] == [[1]] and slime_flat["top_p_token_offsets"] == [[0, 1]]
    with pytest.raises(ValueError, match="use-tis weighs slime's own"):
        loss(types.SimpleNamespace(use_tis=True), slime_batch(lengths), flat, reduce)


def test_miles_has_its_forward_pass_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in `miles/backends/training_utils/loss.py` at commit 0336a443: slime's arguments, another module."""

    def get_log_probs_and_entropy(logits: Tensor, *, response_lengths: list[int], **more: Any) -> Any:
        return {"log_probs": list(logits.split(response_lengths))}

    stand_in(monkeypatch, "miles.backends.training_utils.loss", get_log_probs_and_entropy=get_log_probs_and_entropy)
    monkeypatch.setitem(sys.modules, "slime", None)
    from geomalign.adapters.slime import loss

    lengths = [3, 2]
    flat, old = (-torch.rand(5)).requires_grad_(), torch.rand(5) - 1.5
    batch = slime_batch(lengths, log_probs=list(old.split(lengths)))
    reduce = slime_reducer([torch.ones(n) for n in lengths], True)
    ours, _ = loss(types.SimpleNamespace(geomalign_objective="ppo"), batch, flat, reduce)
    ratio, advantages = torch.exp(flat - old), torch.cat(batch["advantages"])
    assert_same(ours, -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).sum(), flat)


def test_slime_without_a_token(slime_flat: dict[str, Any]) -> None:
    from geomalign.adapters.slime import loss

    flat = torch.zeros(4, requires_grad=True)
    reduce = slime_reducer([torch.ones(0)], False)
    ours, metrics = loss(types.SimpleNamespace(), slime_batch([0]), flat[:0], reduce)
    ours.backward()
    assert ours == 0 and flat.grad.abs().max() == 0 and all(torch.isfinite(x) for x in metrics.values())


def test_slime_rewards_are_the_recipes_drive() -> None:
    from geomalign.adapters.slime import rewards

    sample = lambda reward, group: types.SimpleNamespace(  # noqa: E731
        group_index=group, get_reward_value=lambda args: reward
    )
    args = types.SimpleNamespace(
        geomalign_objective="opo alpha=0.3", advantage_estimator="grpo", n_samples_per_prompt=2
    )
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.5]
    raw, drive = rewards(args, [sample(x, k % 2) for k, x in enumerate(values)])
    batch = ga.Batch(torch.zeros(6), None, reward=torch.tensor(values), group=torch.arange(6) % 2)
    assert raw == values
    torch.testing.assert_close(torch.tensor(drive), ga.Escort(0.3).drive(batch))
    _, by_order = rewards(args, [sample(x, None) for x in values])
    by_order_batch = dataclasses.replace(batch, group=torch.arange(6) // 2)
    torch.testing.assert_close(torch.tensor(by_order), ga.Escort(0.3).drive(by_order_batch))
    args.advantage_estimator = "reinforce_plus_plus"
    with pytest.raises(ValueError, match="would change the drive"):
        rewards(args, [])
    args.advantage_estimator, args.geomalign_objective = "grpo", "gmpo"
    with pytest.raises(ValueError, match="different drives"):
        rewards(args, [sample(x, None) for x in values])


# ------------------------------------------------------------------------------------------------------- NeMo-RL


@pytest.mark.parametrize(
    ("description", "level"), [("dapo", "token"), ("grpo beta=0.1", "sequence"), ("opo mu=2", "sequence")]
)
def test_nemo_rl(monkeypatch: pytest.MonkeyPatch, rows: Rows, description: str, level: str) -> None:
    kinds = enum.Enum("LossType", {"TOKEN_LEVEL": "token", "SEQUENCE_LEVEL": "sequence"})
    inputs = enum.Enum("LossInputType", {"LOGPROB": "logprob"})
    divided_by = enum.Enum("MetricNormalizer", {"NONE": "none"})
    interfaces = {"LossType": kinds, "LossInputType": inputs, "MetricNormalizer": divided_by}
    stand_in(monkeypatch, "nemo_rl.algorithms.loss.interfaces", **interfaces)
    from geomalign.adapters.nemo_rl import GeometryLoss

    fn = GeometryLoss(description)
    assert fn.loss_type.value == level and fn.input_type.value == "logprob"
    assert fn.metric_normalizations == {"num_valid_samples": divided_by.NONE}
    pad = lambda x: torch.cat([torch.full((ROWS, 1), 7.0), x.double()], 1)  # noqa: E731  (the prompt's last token)
    keep = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])  # a response that must not be trained on
    data = {
        "prev_logprobs": pad(rows.old),
        "advantages": pad(rows.advantages),
        "token_mask": pad(rows.mask),
        "sample_mask": keep,
        "reference_policy_logprobs": pad(rows.reference),
        "generation_logprobs": pad(rows.old),
    }
    mask = rows.mask & (keep[:, None] != 0)
    tokens, responses = mask.sum().double(), keep.sum()
    parts = [slice(0, 2), slice(2, 6)]
    results = [fn(rows.policy[p], {k: v[p] for k, v in data.items()}, responses, tokens) for p in parts]
    loss = sum(result[0] for result in results)
    ratio = torch.exp(rows.policy - rows.old)
    surrogate = -torch.min(
        ratio * rows.advantages, ratio.clamp(0.8, 1.28 if level == "token" else 1.2) * rows.advantages
    )
    k3 = torch.exp(rows.reference - rows.policy) - (rows.reference - rows.policy) - 1
    nested = lambda x: ((x * mask).sum(1) / mask.sum(1).clamp(min=1)).sum() / responses  # noqa: E731
    expected = {
        "dapo": lambda: surrogate[mask].sum() / tokens,
        "grpo beta=0.1": lambda: nested(surrogate) + 0.1 * nested(k3),
        "opo mu=2": lambda: (opo(rows.policy, rows, 2.0) * keep).sum() / responses,
    }[description]()
    assert_same(loss, expected, rows.policy)
    assert results[1][1]["num_valid_samples"] == 3.0 and isinstance(results[1][1]["geom/kl"], float)
    # NeMo-RL adds up what micro-batches report (but for names of its own): means must be parts of one mean.
    reported = {name: sum(seen[name] for _, seen in results) for name in results[0][1]}
    parts_of = [(ratio[p].log().abs() * mask[p]).sum() / mask[p].sum() for p in parts]
    share = mask if level == "token" else mask.any(-1)
    expected = sum(x * share[p].sum() / share.sum() for x, p in zip(parts_of, parts, strict=True))
    assert reported["geom/log_ratio_abs"] == pytest.approx(float(expected.detach()))
    assert not any(name.endswith(("_min", "_max")) for name in reported)


def test_nemo_rl_tokens_and_policies_that_are_missing(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    """Tokens that sampling filters left without a log-probability, and a run forced to be on-policy."""
    stand_in(monkeypatch, "nemo_rl.algorithms.loss.interfaces")
    from geomalign.adapters.nemo_rl import GeometryLoss

    pad = lambda x: torch.cat([torch.zeros(ROWS, 1), x.double()], 1)  # noqa: E731
    keep = torch.rand(ROWS, TOKENS) < 0.7
    data = {
        "advantages": pad(rows.advantages),
        "token_mask": pad(rows.mask),
        "sample_mask": torch.ones(ROWS),
        "curr_logprobs_keep_mask": keep,
    }
    tokens = rows.mask.sum()
    loss, _ = GeometryLoss("dapo")(rows.policy, data, torch.tensor(ROWS), tokens)
    on_policy = -torch.exp(rows.policy - rows.policy.detach()) * rows.advantages
    assert_same(loss, on_policy[rows.mask & keep].sum() / tokens, rows.policy)
    assert GeometryLoss("dapo").metric_normalizations == {}  # of releases that do not ask


# ------------------------------------------------------------------------------------------------------ OpenRLHF


@pytest.fixture
def openrlhf(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("openrlhf", reason="needs OpenRLHF: bash tests/parity/environments.sh openrlhf")
    from tests.parity.implementations.openrlhf import _module

    return _module("loss")


COUNTS: list[dict[str, Any]] = [{}, {"dp_size": 2, "batch_num_tokens": 40.0, "global_batch_size": 12.0}]


@pytest.mark.parametrize("counts", COUNTS, ids=["local", "global"])
@pytest.mark.parametrize("token_level_loss", [True, False])
def test_openrlhf(openrlhf: Any, rows: Rows, token_level_loss: bool, counts: dict[str, Any]) -> None:
    from geomalign.adapters.openrlhf import PolicyLoss

    # OpenRLHF adds 1e-8 to a response's length, which is 1e-8 of the loss.
    theirs = openrlhf.PolicyLoss(token_level_loss=token_level_loss)
    arguments = (rows.policy, rows.old, rows.advantages, rows.mask.double())
    ours = PolicyLoss("ppo", token_level_loss=token_level_loss, clip_eps_low=0.2, clip_eps_high=0.2)
    a, b = ours(*arguments, **counts), theirs(*arguments, **counts)
    torch.testing.assert_close(a[0], b[0], rtol=1e-7, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(x[0], rows.policy)[0] for x in (a, b)), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(a[2], b[2], rtol=1e-6, atol=1e-9)
    assert len(a) == len(b) and a[3] is a[4] is b[3] is b[4] is None


def test_openrlhf_gspo(openrlhf: Any, rows: Rows) -> None:
    from geomalign.adapters.openrlhf import PolicyLoss

    arguments = (rows.policy, rows.old, rows.advantages, rows.mask.double())
    a = PolicyLoss("gspo epsilon=0.2 epsilon_high=0.2", token_level_loss=False)(*arguments)
    b = openrlhf.PolicyLoss(policy_loss_type="gspo")(*arguments)
    torch.testing.assert_close(a[0], b[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(*(torch.autograd.grad(x[0], rows.policy)[0] for x in (a, b)), rtol=1e-5, atol=1e-8)


def test_openrlhf_is_installed_into_a_process(openrlhf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from geomalign.adapters import openrlhf as adapter

    models = sys.modules["openrlhf.models"]
    monkeypatch.setattr(openrlhf, "PolicyLoss", openrlhf.PolicyLoss)
    monkeypatch.setattr(models, "PolicyLoss", None, raising=False)
    monkeypatch.setenv(adapter.VARIABLE, "opo alpha=0.5")
    adapter.install()
    assert models.PolicyLoss is openrlhf.PolicyLoss is adapter.PolicyLoss
    # As OpenRLHF constructs it, from its command line.
    made = models.PolicyLoss(
        clip_eps_low=0.2,
        clip_eps_high=0.2,
        dual_clip=None,
        token_level_loss=True,
        policy_loss_type="ppo",
        is_correction_level="off",
        is_correction_mode="mask",
        is_correction_gating="ratio",
        is_correction_threshold=[0.5, 5.0],
    )
    assert made.objective.sampling == ga.Escort(0.5)
    with pytest.raises(ValueError, match="set it to off"):
        models.PolicyLoss(is_correction_level="token")


def test_openrlhf_launcher_says_how_it_is_called() -> None:
    from geomalign.adapters.openrlhf import main

    with pytest.raises(SystemExit, match="OBJECTIVE -- ARGUMENTS"):
        main(["opo"])


def test_openrlhf_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is started with the hook and the objective, and OpenRLHF's own command runs with its own arguments."""
    from geomalign.adapters import openrlhf as adapter

    seen: dict[str, Any] = {}
    stand_in(monkeypatch, "ray", init=lambda **options: seen.update(options))
    monkeypatch.setattr("runpy.run_module", lambda name, run_name: seen.update(name=name, argv=sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setenv(adapter.VARIABLE, "")
    adapter.main(["opo alpha=0.5", "--", "--train.max_epochs", "1"])
    environment = seen["runtime_env"]
    assert environment["worker_process_setup_hook"] == "geomalign.adapters.openrlhf.install"
    assert environment["env_vars"][adapter.VARIABLE] == "opo alpha=0.5"
    assert (seen["name"], seen["argv"]) == ("openrlhf.cli.train_ppo_ray", ["--train.max_epochs", "1"])
    with pytest.raises(ValueError, match="there is no recipe"):
        adapter.main(["oppo", "--"])


# ----------------------------------------------------------------------------------------------------- torchtune


@pytest.fixture
def torchtune() -> Any:
    pytest.importorskip("torchtune", reason="needs torchtune: bash tests/adapters/environments.sh torchtune")
    from torchtune.rlhf import loss

    return loss


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_torchtune_dpo(torchtune: Any, smoothing: float) -> None:
    from geomalign.adapters.torchtune import PreferenceLoss

    policy = torch.randn(4, 5, requires_grad=True)
    arguments = (policy[0], policy[1], policy[2].detach(), policy[3].detach())
    a = PreferenceLoss("dpo", beta=0.3, label_smoothing=smoothing)(*arguments)
    b = torchtune.DPOLoss(beta=0.3, label_smoothing=smoothing)(*arguments)
    assert_same(a[0].mean(), b[0].mean(), policy)
    for k in (1, 2):
        torch.testing.assert_close(a[k], b[k] * (1 - smoothing))


@pytest.mark.filterwarnings("ignore")
def test_torchtune_hinge_and_others(torchtune: Any) -> None:
    from geomalign.adapters.torchtune import PreferenceLoss

    policy = torch.randn(4, 5, requires_grad=True)
    arguments = (policy[0], policy[1], policy[2].detach(), policy[3].detach())
    assert_same(
        PreferenceLoss("slic", beta=0.3)(*arguments)[0].mean(), torchtune.RSOLoss(0.3)(*arguments)[0].mean(), policy
    )
    assert PreferenceLoss("chi_po")(*arguments)[0].shape == (5,)
    with pytest.raises(ValueError, match="needs the single tokens"):
        PreferenceLoss("simpo")(*arguments)


@pytest.mark.filterwarnings("ignore")
def test_torchtune_ppo(torchtune: Any, rows: Rows) -> None:
    from geomalign.adapters.torchtune import PPOLoss

    values, returns = torch.randn(ROWS, TOKENS, requires_grad=True), torch.randn(ROWS, TOKENS)
    old_values = values.detach() + 0.3 * torch.randn(ROWS, TOKENS)
    arguments = (rows.old, rows.policy, rows.advantages, old_values, values, returns, rows.mask, rows.mask)
    a = PPOLoss("ppo", epsilon=0.1, value_coeff=0.5)(*arguments)
    b = torchtune.PPOLoss(epsilon=0.1, value_coeff=0.5)(*arguments)
    assert_same(a[0], b[0], rows.policy)
    assert_same(a[0], b[0], values)
    for k in (1, 2, 3):
        torch.testing.assert_close(a[k], b[k])
    torch.testing.assert_close(a[4], b[4])


@pytest.mark.filterwarnings("ignore")
def test_torchtune_instantiates_it_from_yaml(torchtune: Any) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    from torchtune import config

    component = {"_component_": "geomalign.adapters.torchtune.PreferenceLoss", "objective": "chi_po", "beta": 0.2}
    made = config.instantiate(omegaconf.OmegaConf.create(component))
    assert made.objective == ga.recipes.chi_po(beta=0.2)
