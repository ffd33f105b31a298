"""SkyRL: losses whose advantages carry the weights of the reduction, and estimators.

The weights are written out here; in an environment with SkyRL (`bash tests/adapters/environments.sh skyrl`) they are
compared with SkyRL's own, and so are losses, estimators, registries and configuration.
"""

import dataclasses
import importlib
import math
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from adapters.common import ROWS, TOKENS, Rows, assert_same, clipped, opo, single
from torch import Tensor

import geomalign as ga
from geomalign.adapters import hosted
from geomalign.adapters import skyrl as adapter

LENGTH = 32
RESISTING = {"gopo", "mirror_descent", "opo", "opo_ess", "opo_trust_region", "w_gopo"}
RESISTING |= {"nft", "pmd"}
RESISTING |= {"chord_phi", "dft"}  # read no advantage, which SkyRL's weights are folded into
RESISTING |= {"prime_ipo"}  # a square of the log-ratio
OF_THE_ENGINE = {"decoupled_ppo"}  # reads `rollout_logprobs`: tests/adapters/test_hosts.py


def weights(mask: Tensor, reduction: str) -> Tensor:
    """What SkyRL multiplies the advantages of a mini-batch with, `(row, token)`; two rows answer each prompt."""
    rows, lengths = len(mask), mask.sum(-1, keepdim=True).clamp(min=1)
    one = torch.ones(mask.shape)
    per_prompt = mask.sum(-1).view(-1, 2).sum(-1).repeat_interleave(2)[:, None]
    return {
        "token_mean": lambda: one / mask.sum(),
        "sequence_mean": lambda: one / (rows * lengths),
        "seq_mean_token_sum_norm": lambda: one / (rows * LENGTH),
        "prompt_mean": lambda: one / (rows / 2 * per_prompt),
        # micro-batches of two rows, each a token mean
        "token_mean_legacy": lambda: one / (rows / 2 * per_prompt),
    }[reduction]()


def trained(loss: Any, rows: Rows, reduction: str, **more: Any) -> Tensor:
    """SkyRL's step: advantages weighted for the mini-batch, and the sum over its micro-batches."""
    weighted = rows.advantages * weights(rows.mask, reduction)
    mask = rows.mask.double()
    parts = [slice(0, 1), slice(1, 4), slice(4, ROWS)]
    return sum(loss(rows.policy[p], rows.old[p], weighted[p], None, mask[p], **more)[0] for p in parts)


REDUCTIONS = ["token_mean", "sequence_mean", "seq_mean_token_sum_norm", "prompt_mean", "token_mean_legacy"]


def test_which_gradients_are_proportional_to_the_drive() -> None:
    assert {name for name in single() if not adapter.homogeneous(ga.recipes.get(name))} == RESISTING
    page = (Path(__file__).parents[2] / "docs" / "trainers" / "skyrl.md").read_text(encoding="utf-8")
    assert f"{len(single()) - len(RESISTING)} of the {len(single())} recipes without a reference" in page
    named = page.split("The others (")[1].split(")")[0]
    assert set(re.findall(r"`(\w+)`", named)) == RESISTING


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", sorted(set(single()) - RESISTING - OF_THE_ENGINE))
def test_a_surrogate_is_exact_under_every_reduction(name: str, reduction: str, rows: Rows) -> None:
    objective = ga.recipes.get(name)
    batch = ga.Batch(rows.policy, rows.old, rows.mask)
    of_tokens = torch.where(rows.mask, weights(rows.mask, reduction), 0)
    expected = hosted.evaluate(objective, batch, rows.advantages, of_tokens).loss
    for count in (ROWS, None):  # None: step-wise training
        loss = adapter.GeometryLoss(objective, reduction, count, LENGTH)
        assert_same(trained(loss, rows, reduction), expected, rows.policy)


def test_surrogates_written_out(rows: Rows) -> None:
    token = clipped(rows.policy, rows)
    loss = adapter.GeometryLoss(ga.recipes.ppo(), "token_mean", ROWS)
    assert_same(trained(loss, rows, "token_mean"), token[rows.mask].mean(), rows.policy)
    loss = adapter.GeometryLoss(ga.recipes.grpo(), "sequence_mean", ROWS)
    nested = ((token * rows.mask).sum(1) / rows.mask.sum(1)).mean()
    assert_same(trained(loss, rows, "sequence_mean"), nested, rows.policy)
    loss = adapter.GeometryLoss(ga.recipes.dr_grpo(), "seq_mean_token_sum_norm", ROWS, LENGTH)
    summed = (token * rows.mask).sum(1).mean() / LENGTH
    assert_same(trained(loss, rows, "seq_mean_token_sum_norm"), summed, rows.policy)


@pytest.mark.parametrize("reduction", ["sequence_mean", "seq_mean_token_sum_norm"])
def test_weights_are_divided_out_where_a_potential_resists(reduction: str, rows: Rows) -> None:
    each = opo(rows.policy, rows, 2.0)
    if reduction != "sequence_mean":
        each = each * rows.mask.sum(1) / LENGTH  # a response counts once per token
    loss = adapter.GeometryLoss(ga.recipes.opo(mu=2.0), reduction, ROWS, LENGTH)
    assert_same(trained(loss, rows, reduction), each.mean(), rows.policy)
    # Undivided, the drive would be weighted and the potential would be what the drive was balanced against.
    wrong = adapter.GeometryLoss(ga.recipes.opo(mu=2.0), reduction, 2 * ROWS, 2 * LENGTH)
    assert not torch.allclose(trained(wrong, rows, reduction), each.mean())


@pytest.mark.parametrize("reduction", ["token_mean", "prompt_mean", "token_mean_legacy"])
@pytest.mark.parametrize("name", sorted(RESISTING))
def test_weights_that_a_loss_cannot_know_are_refused(name: str, reduction: str) -> None:
    with pytest.raises(ValueError, match=f"'{reduction}'.*Remedy: set trainer.algorithm.loss_reduction to sequence_m"):
        adapter.GeometryLoss(ga.recipes.get(name), reduction, ROWS)
    with pytest.raises(ValueError, match="Remedy: train without step_wise_trajectories"):
        adapter.GeometryLoss(ga.recipes.get(name), "sequence_mean", None)


def test_a_term_that_resists_beside_a_surrogate_is_refused_too() -> None:
    with pytest.raises(ValueError, match="not proportional"):
        adapter.GeometryLoss(ga.recipes.ppo() + 0.1 * ga.recipes.mirror_descent(), "token_mean", ROWS)
    with pytest.raises(ValueError, match="does not pass to a loss"):
        adapter.GeometryLoss(ga.recipes.grpo(beta=0.1), "sequence_mean", ROWS)
    with pytest.raises(ValueError, match="compares pairs"):
        adapter.GeometryLoss(ga.recipes.dpo(), "sequence_mean", ROWS)


@pytest.mark.parametrize(("reduction", "scaled"), [("sequence_mean", True), ("token_mean", False)])
def test_metrics_are_finite_numbers(reduction: str, scaled: bool, rows: Rows) -> None:
    loss = adapter.GeometryLoss(ga.recipes.ppo(), reduction, ROWS)
    mask = rows.mask[:1].double()
    _, seen = loss(rows.policy[:1], rows.old[:1], rows.advantages[:1] / 60, None, mask)  # micro-batches of one row
    assert all(isinstance(x, float) and math.isfinite(x) for x in seen.values())
    assert {"clip_ratio", "geom/ess", "geom/kl", "geom/inactive"} <= seen.keys()
    assert ("geom/force" in seen) is scaled


def test_engine_weights_come_from_the_rollout(rows: Rows) -> None:
    engine = rows.old + 0.5 * torch.randn(ROWS, TOKENS)
    objective = dataclasses.replace(ga.recipes.ppo(), sampling=ga.TruncatedImportance(ga.GroupAdvantage()))
    loss = adapter.GeometryLoss(objective, "token_mean", ROWS)
    weight = torch.exp(rows.old - engine).clamp(max=2.0)
    whole = rows.advantages / rows.mask.sum()
    ours, _ = loss(rows.policy, rows.old, whole, None, rows.mask.double(), engine)
    assert_same(ours, (weight * clipped(rows.policy, rows))[rows.mask].mean(), rows.policy)


def test_an_estimator_is_the_sampling_geometry() -> None:
    reward, names = torch.randn(6), ["b", "a", "b", "a", "a", "b"]
    mask = torch.arange(4) < torch.tensor([4, 1, 2, 3, 0, 2])[:, None]
    token_level = torch.where(torch.arange(4) == 0, reward[:, None], 0.0)
    objective = ga.recipes.opo(alpha=0.3)
    ours, returns = adapter.GeometryAdvantage(objective)(
        token_level_rewards=token_level, response_mask=mask.double(), index=numpy.array(names), gamma=1.0, config=None
    )
    group = torch.tensor([1, 0, 1, 0, 0, 1])
    drive = objective.drive(ga.Batch(torch.zeros(6, 4), None, mask, reward=reward, group=group))
    torch.testing.assert_close(ours, torch.where(mask, drive[:, None], 0))
    assert returns is ours and ours.abs().max() > 0


def test_it_survives_the_way_to_a_worker() -> None:
    loss = adapter.GeometryLoss(ga.recipes.opo(), "sequence_mean", 8)
    assert pickle.loads(pickle.dumps(loss)) == loss
    advantage = adapter.GeometryAdvantage(ga.recipes.opo())
    assert pickle.loads(pickle.dumps(advantage)) == advantage


# ------------------------------------------------------------------------------------------------ SkyRL's own code


@pytest.fixture
def skyrl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ppo_utils`, without what SkyRL's `backends/__init__` imports for its server (which asks for Python 3.12)."""
    package = pytest.importorskip("skyrl", reason="needs SkyRL: bash tests/adapters/environments.sh skyrl")
    if "skyrl.backends" not in sys.modules:
        backends = types.ModuleType("skyrl.backends")
        backends.__path__ = [str(Path(package.__path__[0]) / "backends")]  # type: ignore[attr-defined]
        sys.modules["skyrl.backends"] = backends
    utils = importlib.import_module("skyrl.backends.skyrl_train.utils.ppo_utils")
    for registry in (utils.PolicyLossRegistry, utils.AdvantageEstimatorRegistry):
        monkeypatch.setattr(registry, "_functions", dict(registry._functions))
    return utils


def config(**algorithm: Any) -> Any:
    from skyrl.train.config import SkyRLTrainConfig

    made = SkyRLTrainConfig()
    made.trainer.policy_mini_batch_size, made.generator.n_samples_per_prompt = ROWS // 2, 2
    for name, value in ({"loss_reduction": "sequence_mean", "max_seq_len": LENGTH} | algorithm).items():
        setattr(made.trainer.algorithm, name, value)
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_weights_above_are_skyrls(skyrl: Any, reduction: str, rows: Rows) -> None:
    theirs = skyrl.apply_loss_reduction_to_advantages_minibatch(
        rows.advantages, rows.mask.double(), reduction, 2, LENGTH, [(0, 2), (2, 4), (4, 6)]
    )
    torch.testing.assert_close(rows.advantages * weights(rows.mask, reduction), theirs)


SAME = {
    "ppo": ("regular", {}),
    "gspo epsilon=0.2 epsilon_high=0.2": ("gspo", {}),
    "cispo": ("cispo", {}),
    "sapo": ("sapo", {}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reduction", ["sequence_mean", "token_mean"])
@pytest.mark.parametrize("name", SAME)
def test_a_recipe_equals_skyrls_own_loss(skyrl: Any, name: str, reduction: str, rows: Rows) -> None:
    cfg = config(loss_reduction=reduction)
    assert adapter.register(cfg, name) == f"geomalign/{name.split()[0]}" == cfg.trainer.algorithm.policy_loss_type
    ours = skyrl.PolicyLossRegistry.get(cfg.trainer.algorithm.policy_loss_type)
    theirs = skyrl.PolicyLossRegistry.get(SAME[name][0])
    algorithm = config(loss_reduction=reduction, policy_loss_type=SAME[name][0]).trainer.algorithm
    advantages = skyrl.apply_loss_reduction_to_advantages_minibatch(
        rows.advantages, rows.mask.double(), reduction, 2, LENGTH
    )
    gradients = [
        torch.autograd.grad(f(rows.policy, rows.old, advantages, algorithm, rows.mask.double(), None)[0], rows.policy)
        for f in (ours, theirs)
    ]
    torch.testing.assert_close(*(g[0] for g in gradients), rtol=1e-6, atol=1e-9)
    assert gradients[0][0].abs().max() > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "theirs", "std"), [("dr_grpo", "grpo", False), ("rloo", "rloo", True)])
def test_an_estimator_equals_skyrls_own(skyrl: Any, name: str, theirs: str, std: bool) -> None:
    cfg = config()
    adapter.register(cfg, name)
    inputs = {
        "token_level_rewards": torch.where(torch.arange(4) == 0, torch.randn(8, 1), 0.0),
        "response_mask": (torch.arange(4) < torch.randint(1, 5, (8, 1))).double(),
        "index": numpy.array(["a", "b"] * 4),
        "config": cfg.trainer.algorithm,
        "grpo_norm_by_std": std,
    }
    found = [
        skyrl.compute_advantages_and_returns(adv_estimator=estimator, **inputs)[0]
        for estimator in (cfg.trainer.algorithm.advantage_estimator, theirs)
    ]
    torch.testing.assert_close(*(x.double() for x in found), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_what_skyrl_would_weigh_or_normalise_itself_is_refused(skyrl: Any) -> None:
    cfg = config()
    cfg.trainer.algorithm.off_policy_correction.tis_ratio_type = "token"
    with pytest.raises(ValueError, match=r"ga\.TruncatedImportance"):
        adapter.register(cfg, "ppo")
    with pytest.raises(ValueError, match="advantage_batch_normalize"):
        adapter.register(config(advantage_batch_normalize=True), "ppo")
    with pytest.raises(ValueError, match="estimator=False"):
        adapter.register(config(), "gmpo")
    with pytest.raises(ValueError, match="'token_mean'"):
        adapter.register(config(loss_reduction="token_mean"), "opo")
    cfg = config()
    cfg.generator.step_wise_trajectories = True
    with pytest.raises(ValueError, match="step_wise_trajectories"):
        adapter.register(cfg, "opo")


@pytest.mark.filterwarnings("ignore")
def test_registering_twice_and_keeping_skyrls_advantages(skyrl: Any) -> None:
    cfg = config(advantage_batch_normalize=True)
    before = cfg.trainer.algorithm.advantage_estimator
    for mu in (1.0, 2.0):
        name = adapter.register(cfg, ga.recipes.opo(mu=mu), estimator=False)
    loss = skyrl.PolicyLossRegistry.get(name)
    assert (loss.objective, loss.rows, loss.reduction) == (ga.recipes.opo(mu=2.0), ROWS, "sequence_mean")
    assert cfg.trainer.algorithm.advantage_estimator == before and name == "geomalign/objective"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_worker_gets_the_loss(skyrl: Any) -> None:
    """Registered before Ray starts, sent by `sync_registries`, and found by a process that never saw it."""
    import ray

    cfg = config()
    name = adapter.register(cfg, "opo mu=3")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        skyrl.sync_registries()

        @ray.remote
        def look(folder: str) -> Any:
            backends = types.ModuleType("skyrl.backends")
            backends.__path__ = [folder]  # type: ignore[attr-defined]
            sys.modules["skyrl.backends"] = backends
            from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry, PolicyLossRegistry

            return PolicyLossRegistry.get(name), AdvantageEstimatorRegistry.get(name)

        loss, advantage = ray.get(look.remote(sys.modules["skyrl.backends"].__path__[0]), timeout=120)
        assert loss == adapter.GeometryLoss(ga.recipes.opo(mu=3.0), "sequence_mean", ROWS, LENGTH)
        assert advantage.objective == ga.recipes.opo(mu=3.0)
    finally:
        ray.shutdown()
