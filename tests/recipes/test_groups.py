"""Losses of all responses to one prompt: equal to their published formulas, written out; hostile groups; probes."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from literal import BATCH, agree, delta, groups, log_probs, mean

import geomalign as ga
from geomalign.analysis.identification import as_loss

RECIPES = ["adpo", "info_nca", "lpo", "lpo direction=reverse", "plackett_luce", "real", "sparse_lpo", "tpo", "gvpo"]


def over_groups(value: Callable[[list[int]], torch.Tensor]) -> torch.Tensor:
    """The mean over prompts, each weighted by its responses."""
    return mean([value(members) for members in groups() for _ in members])


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * (p.log() - q.log())).sum()


def stacked(members: list[int], against: str = "old", *, mean_of_tokens: bool = False) -> torch.Tensor:
    deltas = [delta(i, against) for i in members]
    return torch.stack([d.mean() if mean_of_tokens else d.sum() for d in deltas])


def standardised(r: torch.Tensor, epsilon: float = 0.0, ddof: int = 0) -> torch.Tensor:
    if len(r) == 1 or not (r != r[0]).any():
        return torch.zeros_like(r)
    return (r - r.mean()) / (r.std(correction=ddof) + epsilon)


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_tpo(normalize: str) -> None:
    def literal(members: list[int]) -> torch.Tensor:
        total = (lambda x: x.sum()) if normalize == "sum" else (lambda x: x.mean())
        policy, old = (torch.stack([total(log_probs(i, name)) for i in members]) for name in ("policy", "old"))
        q = (old.detach().log_softmax(0) + standardised(BATCH.reward[members]) / 0.7).softmax(0)
        cross_entropy = -(q * policy.log_softmax(0)).sum()
        return cross_entropy + (q * q.log()).sum()

    agree(ga.recipes.tpo(0.7, normalize=normalize), lambda: over_groups(literal), BATCH)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("scale, tau, normalize", [("none", 0.6, "mean"), ("group", 1.3, "sum")])
def test_lpo(direction: str, scale: str, tau: float, normalize: str) -> None:
    def literal(members: list[int]) -> torch.Tensor:
        r = BATCH.reward[members]
        advantage = standardised(r, 1e-6, ddof=1) if scale == "group" else r - r.mean()
        p = stacked(members, mean_of_tokens=normalize == "mean").softmax(0)
        w = (advantage / tau).softmax(0)
        return kl(w, p) if direction == "forward" else kl(p, w)

    objective = ga.recipes.lpo(tau, direction, scale_rewards=scale, normalize=normalize)
    agree(objective, lambda: over_groups(literal), BATCH)


@pytest.mark.parametrize("mixed", [True, False])
def test_real(mixed: bool) -> None:
    def literal(members: list[int]) -> torch.Tensor:
        s = stacked(members, mean_of_tokens=True) / 0.5
        right = BATCH.reward[members] > 0
        if mixed and (right.all() or not right.any()):
            return s.sum() * 0
        return torch.log1p(torch.exp(-s[right]).sum()) + torch.log1p(torch.exp(s[~right]).sum())

    agree(ga.recipes.real(0.5, mixed=mixed), lambda: over_groups(literal), BATCH)


def test_info_nca() -> None:
    def literal(members: list[int]) -> torch.Tensor:
        q = (BATCH.reward[members] / 0.4).softmax(0)
        log_p = (0.3 * stacked(members, "reference")).log_softmax(0)
        return (q * (q.log() - log_p)).sum()

    agree(ga.recipes.info_nca(0.3, 0.4), lambda: over_groups(literal), BATCH)


def test_adpo() -> None:
    def literal(members: list[int]) -> torch.Tensor:
        q = (standardised(BATCH.reward[members], 1e-8, ddof=1) / 0.5).softmax(0)
        return kl(q, (stacked(members) / 0.8).softmax(0))

    agree(ga.recipes.adpo(), lambda: over_groups(literal), BATCH)


def test_plackett_luce() -> None:
    def literal(members: list[int]) -> torch.Tensor:
        u = 0.3 * stacked(members, "reference")
        order = BATCH.reward[members].argsort(descending=True)
        return sum((torch.logsumexp(u[order[k:]], 0) - u[order[k]] for k in range(len(members))), u.new_zeros(()))

    agree(ga.recipes.plackett_luce(0.3), lambda: over_groups(literal), BATCH)


@pytest.mark.parametrize("mapping, order", [("sparsemax", 2.0), ("entmax", 1.5)])
def test_sparse_lpo(mapping: str, order: float) -> None:
    """By the entropies of Tsallis over densities of mean one: Ω(t) = mean (t^α − αt + α − 1)/(α(α − 1))."""

    def omega(t: torch.Tensor) -> torch.Tensor:
        return ((t**order - order * t + order - 1) / (order * (order - 1))).mean()

    def literal(members: list[int]) -> torch.Tensor:
        n, mu, r = len(members), 0.4, BATCH.reward[members]
        size = n ** (order - 1)
        u = stacked(members, mean_of_tokens=True)
        q = n * ga.ops.entmax(r / 0.8 / size, order)
        p = n * ga.ops.entmax(u / mu / size, order).detach()  # by Danskin's theorem
        return mu * (omega(q) - omega(p)) + ((p - q) * u).mean()

    agree(ga.recipes.sparse_lpo(0.8, 0.4, mapping=mapping), lambda: over_groups(literal), BATCH)


def hostile(reward: list[float], delta: list[float], group: list[int], mask: list[int] | None = None) -> ga.Batch:
    zero = torch.zeros(len(reward), 1)
    policy = torch.tensor(delta)[:, None].requires_grad_()
    rows = None if mask is None else torch.tensor(mask)[:, None]
    return ga.Batch(policy, zero, rows, torch.tensor(reward), reference=zero, group=torch.tensor(group))


@pytest.mark.float32
@pytest.mark.parametrize("name", RECIPES)
def test_hostile_groups(name: str) -> None:
    """A group of one, equal rewards, an empty group, rewards and log-ratios of ±1e4, and a reward that is NaN."""
    objective = ga.recipes.get(name)
    large = [1e4, -1e4, 0.0, 1e4, -1e4, 3.0]
    nan = math.nan
    for batch in (
        hostile([1.0, 0.0, 1.0], [0.1, 0.2, 0.3], [0, 1, 2]),
        hostile([1.0] * 4, [0.3, -0.2, 0.0, 5.0], [0, 0, 1, 1]),
        hostile([1.0, 0.0, 1.0, 0.0], [0.1] * 4, [0, 0, 1, 1], [0, 0, 1, 1]),
        hostile([1.0, 0.0], [0.1, 0.2], [0, 0], [0, 0]),
        hostile([1e4, 0.0, -1e4, 1.0, 1.0, 1.0], large, [0, 0, 0, 1, 1, 1]),
        hostile([1.0, nan, 0.0, nan], [0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1]),
    ):
        outcome = objective(batch)
        outcome.loss.backward()
        assert torch.isfinite(outcome.loss) and torch.isfinite(batch.policy.grad).all(), batch
        lost = ~torch.isfinite(batch.reward)
        assert not batch.policy.grad[lost].any()
        assert all(not value.isnan() for key, value in ga.metrics(outcome).items() if key != "stiffness")
    alone = hostile([1.0], [0.7], [0])
    assert not objective.gradient(alone).any()


@pytest.mark.parametrize("name", RECIPES)
def test_rows_in_any_order_and_numbers_for_groups(name: str) -> None:
    objective, batch = ga.recipes.get(name), BATCH
    order = torch.randperm(batch.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(objective.gradient(batch[order]), objective.gradient(batch)[order])
    kept = (batch.group == batch.group[0]).nonzero().flatten()[:4]
    kept = kept[batch.support[kept].any(-1)][:3]
    both = dataclasses.replace(batch[torch.cat([kept, kept])], group=3)
    one = dataclasses.replace(batch[kept], group=None)
    torch.testing.assert_close(2 * objective.gradient(both)[:3], objective.gradient(one))


def test_a_group_potential_is_of_whole_responses() -> None:
    for unit in (ga.Token(), ga.Pair()):
        with pytest.raises(ValueError, match="couples the responses"):
            ga.Objective(unit=unit, sampling=ga.Advantage(), optimization=ga.GroupPotential())
    with pytest.raises(ValueError, match="Add two objectives instead"):
        ga.GroupPotential() + ga.ChiSquare()
    with pytest.raises(ValueError, match="Add two objectives instead"):
        ga.ChiSquare() + ga.GroupPotential()
    assert (ga.recipes.lpo() + 0.1 * ga.recipes.mirror_descent()).locality is ga.Locality.GROUP


def test_pairs_are_groups_of_two() -> None:
    """On a `PreferenceBatch` the rows of one pair are a group: the one-hot target is DPO, up to its factor."""
    pairs = ga.laws.sample_pairs()
    pairs = pairs[pairs.rows.support.any(-1).view(2, -1).all(0)]
    two = ga.Objective(
        unit=ga.Sequence(),
        sampling=ga.Advantage(),
        optimization=ga.GroupPotential(temperature=1 / 0.3),
        anchor="reference",
    )
    found, expected = two.gradient(pairs), ga.recipes.dpo(beta=0.3).gradient(pairs)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(0.3 * mine, theirs)


def test_products_with_the_curvature_of_a_group() -> None:
    """Gauss–Newton of a group is its Hessian where the chart is linear, and not its diagonal."""
    anchor = torch.zeros(4, 1, dtype=torch.float64)
    reward = torch.tensor([1.0, 0.0, 0.3, -1.0], dtype=torch.float64)
    theta, vector = torch.tensor([[0.3, -0.2, 0.1, 0.0], [1.0, 0.5, -1.0, 0.2]], dtype=torch.float64)
    make = lambda theta: ga.Batch(theta[:, None], anchor, reward=reward)  # noqa: E731
    objective = ga.recipes.lpo()
    found = ga.analysis.gauss_newton(objective, make, theta, vector)
    torch.testing.assert_close(found, ga.analysis.hessian(objective, make, theta, vector))
    assert abs(float(found.sum())) < 1e-12 < float(found.abs().max())


@pytest.mark.parametrize("name", ["lpo", "info_nca beta=1.0 alpha=1.0", "adpo"])
def test_identify_sees_two_opposite_responses(name: str) -> None:
    """A probe of two responses reads the chart, the section's mirror, and that drive and potential do not mix."""
    objective = dataclasses.replace(ga.recipes.get(name), offset=ga.NoOffset())
    report = ga.identify(as_loss(objective), advantages=(-0.9, -0.5, -0.2, 0.0, 0.3, 0.6, 0.9), domain=(-3.0, 3.0))
    assert report.decoupled and isinstance(report.recognised.chart, ga.LogRatio)
    u = objective.chart(report.log_ratio)[:, None].expand(report.force.shape)
    expected = objective.chart.scale * objective.optimization.section.force(u, report.advantage.expand(u.shape))
    torch.testing.assert_close(report.force, expected, rtol=1e-9, atol=1e-11)


def test_identify_recognises_a_ranking_of_two() -> None:
    report = ga.identify(as_loss(ga.recipes.plackett_luce()))
    assert report.recognised.optimization == ga.Logistic(0.2)


def test_show_speaks_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    from geomalign.cli.show import description

    table = description("lpo", ga.recipes.lpo(), {})
    text = "\n".join(str(cell) for column in table.columns for cell in column.cells)
    assert "needs the responses that it is compared with" in text and "φ''(0) = 1" in text
    assert "drives from -1 to 1" in text


@pytest.mark.parametrize("name", [name.split()[0] for name in RECIPES])
def test_hosts_that_cut_groups_refuse_them(name: str) -> None:
    from geomalign.adapters import hosted
    from geomalign.adapters.trl.arguments import resolved
    from geomalign.adapters.verl.losses import why_not

    objective = ga.recipes.get(name)
    for refusal in (lambda: resolved(objective, paired=False), lambda: hosted.note(objective, "slime")):
        with pytest.raises(ValueError, match="whose parts are whole groups"):
            refusal()
    assert why_not(objective)


@pytest.mark.parametrize("name, rows", [("lpo", 3), ("grpo", 1)])
def test_the_trainer_takes_whole_groups(name: str, rows: int) -> None:
    """Mini-batches and micro-batches are of whole groups, each row once; of other objectives of rows, as before."""
    from types import SimpleNamespace

    from geomalign.training.from_rewards import _parts

    run = SimpleNamespace(objective=ga.recipes.get(name), config=SimpleNamespace(rl=SimpleNamespace(samples=3)))
    parts = list(_parts(run, torch.arange(12), 3, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(12))
    cut = any(len(set((part // 3).tolist())) * 3 != len(part) for part in parts)
    assert cut == (rows == 1)
    order = torch.randperm(12 // rows, generator=torch.Generator().manual_seed(0))
    assert torch.cat(parts)[::rows].tolist() == (rows * order).tolist()
    assert [part.tolist() for part in _parts(run, torch.arange(6), 2)] == [[0, 1, 2], [3, 4, 5]]
