"""The kin of REINFORCE in `recipes/rewards/weighted.py`: their published formulas, written out, and hostile batches."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from literal import BATCH, BINARY, advantages, agree, delta, groups, log_probs, mean, nested_mean, rows, token_mean
from torch import Tensor

import geomalign as ga

MIXED = dataclasses.replace(BINARY, group=BINARY.group % 3)


def test_maxrl() -> None:
    def literal() -> Tensor:
        values = []
        for members in groups(MIXED):
            p = MIXED.reward[members].mean()
            for i in members:
                a = (MIXED.reward[i] - p) / (p + 1e-6) if p > 0 else torch.zeros(())
                values.append(-a * log_probs(i).sum())
        return mean(values)

    agree(ga.recipes.maxrl(), literal, MIXED)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_mean_gradient_of_maxrl_is_that_of_the_series_of_log_p(n: int) -> None:
    """Over all groups of n answers, right with probability p: d/dp of −Σ_{k<n} (1 − p)^k/k, by exact enumeration."""
    logit = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    found = torch.zeros((), dtype=torch.float64)
    for answers in itertools.product([1.0, 0.0], repeat=n):
        right = torch.tensor(answers, dtype=torch.float64)
        policy = torch.nn.functional.logsigmoid(torch.where(right > 0, logit, -logit))
        batch = ga.Batch(policy[:, None], None, reward=right)
        share = policy.detach().sum().exp()
        found = found - share * torch.autograd.grad(ga.recipes.maxrl(epsilon=0.0)(batch).loss, logit)[0]
    p = torch.sigmoid(logit)
    series = -sum((1 - p) ** k / k for k in range(1, n))
    torch.testing.assert_close(found, torch.autograd.grad(series, logit)[0])


@pytest.mark.parametrize(("positive", "negative"), [(0.1, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_w_reinforce(positive: float, negative: float) -> None:
    def literal() -> Tensor:
        weight = {i: positive if BATCH.reward[i] > 0 else -negative for i in rows()}
        return mean([-weight[i] * log_probs(i).sum() for i in rows()])

    agree(ga.recipes.w_reinforce(positive, negative), literal, BATCH)


@pytest.mark.parametrize("shift", [-0.1, 0.3])
def test_asymre(shift: float) -> None:
    a = advantages()
    agree(
        ga.recipes.asymre(shift),
        lambda: mean([-(a[i] - shift) * log_probs(i).sum() for i in rows()]),
        BATCH,
    )


def test_tr_grpo() -> None:
    a = advantages(std=True)
    seen: set[float] = set()

    def literal() -> Tensor:
        values = {}
        for i in rows():
            p, t = log_probs(i).detach().exp(), torch.exp(delta(i))
            weight = (2 * (1 / (1 + torch.exp(-9 * p)) - 0.25)).clamp(1.0, 1.4)
            seen.update(weight.tolist())
            values[i] = -weight * torch.minimum(t * a[i], t.clamp(0.9, 1.3) * a[i])
        return nested_mean(values)

    agree(ga.recipes.tr_grpo(0.1, 0.3), literal, BATCH)
    assert {1.0, 1.4} < seen, "weights at both bounds and between them"


REWARDS = torch.stack([BATCH.reward, BINARY.reward, torch.linspace(-5, 9, BATCH.size) ** 2], 1)
SEVERAL = dataclasses.replace(BATCH, reward=None, rewards=REWARDS)


@pytest.mark.parametrize("over", ["responses", "tokens", "none"])
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, -0.25)])
def test_gdpo(weights: tuple[float, ...] | None, over: str) -> None:
    total = dict.fromkeys(rows(), torch.zeros((), dtype=torch.float64))
    for w, column in zip(weights or (1.0,) * 3, REWARDS.unbind(-1), strict=True):
        score = advantages(dataclasses.replace(BATCH, reward=column), std=True)
        for members in groups():
            equal = len({float(column[i]) for i in members}) == 1
            total |= {i: total[i] + w * (torch.zeros(()) if equal else score[i]) for i in members}
    if over == "responses":
        pool = torch.stack(list(total.values()))
        total = {i: (x - pool.mean()) / (pool.std() + 1e-6) for i, x in total.items()}
    elif over == "tokens":
        pool = torch.cat([x.expand(len(log_probs(i))) for i, x in total.items()])
        total = {i: (x - pool.mean()) * torch.rsqrt(pool.var() + 1e-8) for i, x in total.items()}

    def literal() -> Tensor:
        ratio = {i: torch.exp(delta(i)) for i in rows()}
        return nested_mean({i: -torch.minimum(t * total[i], t.clamp(0.9, 1.3) * total[i]) for i, t in ratio.items()})

    agree(ga.recipes.gdpo(weights, over=over, epsilon=0.1, epsilon_high=0.3), literal, SEVERAL)


def test_gdpo_of_one_reward_reads_the_reward() -> None:
    one = dataclasses.replace(BATCH, rewards=BATCH.reward[:, None])
    assert ga.recipes.gdpo().drive(one).equal(ga.recipes.gdpo().drive(BATCH))


def test_gdpo_tells_responses_apart_whose_rewards_have_the_same_sum() -> None:
    """GRPO of the sum gives the first two responses one advantage; normalised apart, the rarer reward pulls harder."""
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    batch = ga.Batch(torch.zeros(4, 1), torch.zeros(4, 1), reward=rewards.sum(1), rewards=rewards)
    summed, apart = ga.recipes.grpo().drive(batch), ga.recipes.gdpo().drive(batch)
    assert summed[0] == summed[1] and apart[0] > apart[1] + 0.1


def test_several_rewards_are_refused_in_words_where_one_is_read() -> None:
    policy = torch.full((4, 2), -1.0)
    several = ga.Batch(policy, policy, rewards=torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"needs `reward`, which this Batch lacks \(it has policy, old, rewards\)"):
        ga.recipes.grpo()(several)
    with pytest.raises(ValueError, match=r"weights=\(1.0, 2.0\).*the batch has 3 rewards per response"):
        ga.recipes.gdpo((1.0, 2.0))(several)
    with pytest.raises(ValueError, match=r"`rewards` of Batch is \(4,\).*For one reward per response use `reward`"):
        ga.Batch(policy, policy, rewards=torch.ones(4))
    with pytest.raises(ValueError, match=r"expected \(4, columns\)"):
        ga.Batch(policy, policy, rewards=torch.ones(3, 4))


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_response_of_which_one_reward_is_not_finite_is_in_no_group(bad: float) -> None:
    spoiled = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, bad], [0.0, 0.5]], dtype=torch.float64)
    policy = torch.full((4, 2), -1.0, dtype=torch.float64)
    drive = ga.recipes.gdpo().drive(ga.Batch(policy, policy, rewards=spoiled))
    kept = torch.tensor([0, 1, 3])
    expected = ga.recipes.gdpo().drive(ga.Batch(policy[kept], policy[kept], rewards=spoiled[kept]))
    assert drive[2] == 0
    torch.testing.assert_close(drive[kept], expected)
    batch, report = ga.drop_nonfinite(ga.Batch(policy, policy, rewards=spoiled))
    assert report.values["rewards"].tolist() == [0, 0, 1, 0] and not batch.support[2].any()


def test_dft() -> None:
    agree(ga.recipes.dft(), lambda: token_mean({i: -log_probs(i).detach().exp() * log_probs(i) for i in rows()}), BATCH)
    # sg[π] ∇log π = ∇π
    closed = ga.recipes.dft().gradient(BATCH)
    probability = torch.cat([log_probs(i).exp() for i in rows()]).mean()
    torch.testing.assert_close(closed, -torch.autograd.grad(probability, BATCH.policy)[0])


def test_chord_phi() -> None:
    def literal() -> Tensor:
        p = {i: log_probs(i).detach().exp() for i in rows()}
        return token_mean({i: -p[i] * (1 - p[i]) * log_probs(i) for i in rows()})

    agree(ga.recipes.chord_phi(), literal, BATCH)


def test_supervised_objectives_read_no_reward_and_take_no_advantage() -> None:
    policy = torch.full((2, 3), -0.7, requires_grad=True)
    for name in ("dft", "chord_phi"):
        objective = ga.recipes.get(name)
        assert not objective.driven
        outcome = objective(ga.Batch(policy, None))
        assert outcome.drive.shape == (2, 3) and bool((outcome.drive > 0).all())


def test_the_weights_by_probability_at_the_ends_of_the_scale() -> None:
    """A token whose probability is 0 or 1 in floating point has a finite weight."""
    log_p = torch.tensor([[-math.inf, -1e4, -1e-9, 0.0]])
    batch = ga.Batch(log_p, None)
    of = ga.Label()
    weight = {c: ga.sampling.ProbabilityWeighted(of, *c).weight(torch.ones(1, 4), log_p, batch)[0].tolist() for c in
              ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0))}  # fmt: skip
    assert weight[1.0, 0.0] == pytest.approx([0.0, 0.0, 1.0, 1.0]) and weight[0.0, 0.0] == [1.0] * 4
    assert weight[0.0, 1.0] == pytest.approx([1.0, 1.0, 1e-9, 0.0], rel=1e-6)
    assert weight[1.0, 1.0] == pytest.approx([0.0, 0.0, 1e-9, 0.0], rel=1e-6)
    gate = ga.sampling.ProbabilityGated(of).weight(torch.ones(1, 4), log_p, batch)[0].tolist()
    assert gate == pytest.approx([1.0, 1.0, 1.4, 1.4])


def observations(i: int) -> list[int]:
    return (BATCH.observation_mask[i] & ~BATCH.mask[i]).nonzero().flatten().tolist()


def test_echo() -> None:
    a = advantages(std=True)

    def literal() -> Tensor:
        ratio = {i: torch.exp(delta(i)) for i in rows()}
        grpo = nested_mean({i: -torch.minimum(t * a[i], t.clamp(0.9, 1.1) * a[i]) for i, t in ratio.items()})
        predicted = [
            torch.stack([BATCH.policy[i, t] for t in observations(i)]).mean() for i in rows() if observations(i)
        ]
        assert 3 < len(predicted) < len(rows())
        return grpo - 0.2 * torch.stack(predicted).sum() / len(rows())

    agree(ga.recipes.echo(0.2, epsilon=0.1), literal, BATCH)


def test_observations_are_no_part_of_the_policy_gradient() -> None:
    """The first term is GRPO to the last bit, and the second has a gradient at observations alone."""
    objective = ga.recipes.echo()
    (_, action), (weight, observation) = objective.terms
    assert action == ga.recipes.grpo() and weight == 0.05
    assert action.gradient(BATCH).equal(ga.recipes.grpo().gradient(dataclasses.replace(BATCH, observation_mask=None)))
    assert ((observation.gradient(BATCH) != 0) == BATCH.observed).all()
    assert objective.needs_observations and not ga.recipes.grpo().needs_observations
    drives = objective.drive(BATCH)
    assert len(drives) == 2 and objective(BATCH, drive=ga.recipes.grpo().drive(BATCH)).loss == objective(BATCH).loss


def test_tokens_of_both_masks_are_the_response_s_and_a_row_left_out_observes_nothing() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]])
    batch = ga.Batch(
        -torch.ones(2, 4), -torch.ones(2, 4), mask, reward=torch.ones(2), observation_mask=mask.flip(1) | mask
    )
    assert batch.observed.tolist() == [[False, False, True, True], [False] * 4]
    everything = dataclasses.replace(batch, observation_mask=torch.ones(2, 4))
    assert everything.observed.tolist() == [[False, False, True, True], [False] * 4]
    assert not ga.Batch(-torch.ones(2, 4)).observed.any()


def test_what_the_environment_wrote_is_learnt_whatever_the_reward_is() -> None:
    """Equal rewards silence GRPO, and a reward that is not a number takes out its response but not its observations."""
    policy = -torch.arange(1.0, 9.0).view(2, 4)
    mask = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 1]])
    for bad in (1.0, math.nan):
        batch = ga.Batch(policy, policy, mask, reward=torch.tensor([1.0, bad]), observation_mask=1 - mask)
        gradient = ga.recipes.echo(1.0).gradient(batch)
        torch.testing.assert_close(gradient, torch.tensor([[0.0, -0.25, 0.0, -0.25], [0.0, 0.0, -0.5, 0.0]]))


def test_observations_are_refused_in_words_where_they_are_missing() -> None:
    policy = torch.full((2, 3), -1.0)
    batch = ga.Batch(policy, policy, reward=torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"Observation needs `observation_mask`, which this Batch lacks"):
        ga.recipes.echo()(batch)
    with pytest.raises(ValueError, match="is given without `mask`, so that every token is the response's"):
        dataclasses.replace(batch, observation_mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"`observation_mask` of Batch is \(2, 2\) but `policy` is \(2, 3\)"):
        dataclasses.replace(batch, mask=torch.ones(2, 3), observation_mask=torch.ones(2, 2))
    with pytest.raises(ValueError, match="a unit of responses or of their tokens"):
        ga.unit.Observation(ga.unit.Observation())


@pytest.mark.parametrize("lambda_", [0.0, 0.3])
def test_echo_from_hidden_states(lambda_: float) -> None:
    """The fused head makes the log-probabilities of observations too, and its gradients are those of the logits."""
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((8, 6, 5), (11, 5)))
    targets = torch.randint(11, (8, 6), generator=generator)
    batch, objective = ga.laws.sample_batch(), ga.recipes.echo(lambda_)
    found = []
    for fused in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if fused:
            loss = ga.ops.fused_objective(objective, h, w, targets, batch).loss
        else:
            log_probs = torch.log_softmax(h @ w.T, -1).gather(-1, targets[..., None])[..., 0]
            loss = objective(dataclasses.replace(batch, policy=log_probs)).loss
        loss.backward()
        found.append((loss.detach(), h.grad, w.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    "sampling",
    [ga.sampling.ProbabilityWeighted(ga.GroupAdvantage()), ga.ClippedImportance(ga.GroupAdvantage(), high=1.1)],
    ids=["probability", "ratio"],
)
def test_a_weight_of_whole_responses_needs_whole_responses(
    sampling: ga.SamplingGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of six tokens cut responses only where no weight reads them as a whole."""
    assert ga.Objective(unit=ga.Token(), sampling=sampling, optimization=ga.Flat()).locality.name == "TOKEN"
    objective = ga.Objective(unit=ga.Sequence(), sampling=sampling, optimization=ga.Flat())
    assert objective.locality.name == "SEQUENCE" and ga.recipes.rloo().locality.name == "ROLLOUT"
    monkeypatch.setattr("geomalign.ops.head.kept_rows", lambda *_: 6)
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((8, 6, 5), (11, 5)))
    targets, batch = torch.randint(11, (8, 6), generator=generator), ga.laws.sample_batch()
    h = hidden.clone().requires_grad_()
    log_probs = torch.log_softmax(h @ weight.T, -1).gather(-1, targets[..., None])[..., 0]
    expected = torch.autograd.grad(objective(dataclasses.replace(batch, policy=log_probs)).loss, h)[0]
    w = weight.clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(ga.ops.fused_objective(objective, h, w, targets, batch).loss, h)[0], expected
    )


KIN = ("gdpo", "maxrl", "w_reinforce", "asymre", "tr_grpo", "dft", "chord_phi")
CONSTANT = {"w_reinforce": {0.5: 0.1, 0.0: -1.0}, "asymre": {0.5: 0.1, 0.0: 0.1}}
"""The drive of a group of rewards that are all 0.5 or all 0, where it is not zero."""


def hostile(reward: Tensor, group: Tensor | None = None) -> ga.Batch:
    policy = -torch.arange(1.0, 1.0 + 2 * len(reward)).view(-1, 2)
    return ga.Batch(policy.requires_grad_(), policy.detach() - 0.1, reward=reward, group=group)


@pytest.mark.parametrize("name", KIN)
@pytest.mark.parametrize("level", [0.5, 0.0])
@pytest.mark.parametrize("size", [1, 4])
def test_equal_rewards(name: str, level: float, size: int) -> None:
    """Of equal rewards, of rewards of zero and of one response: finite, and zero or the constant that is stated."""
    batch = hostile(torch.full((size,), level))
    outcome = ga.recipes.get(name)(batch)
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss) and torch.isfinite(batch.policy.grad).all()
    if name not in ("dft", "chord_phi"):
        torch.testing.assert_close(outcome.drive, torch.full_like(outcome.drive, CONSTANT.get(name, {}).get(level, 0)))


@pytest.mark.parametrize("name", KIN)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_takes_its_response_out(name: str, bad: float) -> None:
    """The others have the drives that they have without it; what reads no reward learns the response all the same."""
    clean = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    group = torch.tensor([0, 0, 0, 1, 1])
    batch = hostile(torch.cat([clean, torch.tensor([bad])]), torch.cat([group, torch.tensor([0])]))
    outcome = ga.recipes.get(name)(batch)
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss) and torch.isfinite(batch.policy.grad).all()
    expected = ga.recipes.get(name)(hostile(clean, group)).drive
    torch.testing.assert_close(outcome.drive[:5], expected)
    assert bool((outcome.drive[5] == 0).all()) is (name not in ("dft", "chord_phi"))


def test_maxrl_leaves_groups_out_whose_mean_reward_is_not_positive() -> None:
    batch = hostile(torch.tensor([1.0, -1.0, -2.0, 0.5]), torch.tensor([0, 0, 1, 1]))
    assert ga.recipes.maxrl()(batch).drive.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ga.recipes.maxrl(-1.0), r"epsilon=-1.0\): a number ≥ 0"),
        (lambda: ga.recipes.w_reinforce(-0.1), r"positive=-0.1\): a number ≥ 0"),
        (lambda: ga.recipes.asymre(math.nan), r"shift=nan\): a finite number"),
        (lambda: ga.recipes.tr_grpo(low=2.0), r"low=2.0, high=1.4\): bounds of a weight"),
        (lambda: ga.sampling.ProbabilityWeighted(power=-1.0), r"power=-1.0\): a number ≥ 0"),
        (lambda: ga.recipes.gdpo((math.inf,)), r"weights\[0\]=inf\): a finite number"),
        (lambda: ga.sampling.DecoupledAdvantage([1.0]), r"weights=\[1.0\]\): a tuple of numbers"),
        (lambda: ga.sampling.ProbabilityGated(steepness=0.0), r"steepness=0.0\): a positive number"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
