"""The fused head equals log_softmax of all logits in value and gradient, whatever its tiles, without all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import members
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode

import geomalign as ga
from geomalign.laws import sample_batch, sample_pairs
from geomalign.ops import tiles
from geomalign.sampling.base import Reweighting

pytestmark = pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning")

VOCABULARY, HIDDEN = 23, 8
RECIPES = members.recipes()
#: Rows of which all logits may be kept: none, some responses or pairs, everything.
KEPT = {"four products": 0, "three products in parts": 14, "three products": 1000}


@pytest.fixture(autouse=True)
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few rows and columns, neither of which divides what they cover."""
    if request.node.get_closest_marker("float32") is None:
        for name, size in (("_TILE", 40), ("_NARROW", 7), ("_WIDE", 5), ("_TALL", 9)):
            monkeypatch.setattr(tiles, name, size)


def keep(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    if rows:
        monkeypatch.setattr("geomalign.ops.head.kept_rows", lambda head, hidden: rows)
    else:
        monkeypatch.setattr("geomalign.ops.layout.Layout.parts", lambda *arguments: None)


def naive(hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Any = None, temperature=1.0, softcap=None) -> Any:  # type: ignore[no-untyped-def]
    z = linear(hidden, weight, bias)
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    log_p = (z / temperature).log_softmax(-1)
    return log_p.gather(-1, targets[..., None])[..., 0], -(log_p.exp() * log_p).sum(-1)


def case(*shape: int, frozen: bool = False, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(*shape, HIDDEN, **options).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, **options).requires_grad_(not frozen)
    return hidden, weight, torch.randint(VOCABULARY, shape)


def gradients(loss: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [x for x in inputs if x is not None and x.requires_grad]))


def same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-12) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max()) if b.numel() else 0))


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("entropy", ["no entropy", "entropy", "entropy's gradient", "entropy's gradient alone"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_log_probs_equal_autograd(
    bias: bool, softcap: float | None, temperature: float, entropy: str, masked: bool, frozen: bool
) -> None:
    hidden, weight, targets = case(4, 6, frozen=frozen)
    options: dict[str, Any] = {"temperature": temperature, "softcap": softcap}
    options["bias"] = torch.randn(VOCABULARY).requires_grad_(not frozen) if bias else None
    mask = torch.rand(4, 6) < 0.6 if masked else torch.ones(4, 6, dtype=torch.bool)
    pull, push = torch.randn(2, 4, 6)
    pull = pull * ("alone" not in entropy)
    push = push * ("gradient" in entropy)
    log_p, spread = naive(hidden, weight, targets, **options)
    expected = gradients((mask * (pull * log_p + push * spread)).sum(), hidden, weight, options["bias"])

    asked: dict[str, Any] = {"entropy": entropy != "no entropy", "mask": mask if masked else None}
    found = ga.ops.fused_log_probs(hidden, weight, targets, **options, **asked)
    if entropy == "no entropy":
        same([found.detach()], [(log_p * mask).detach()])
        loss = (pull * found).sum()
    else:
        same([x.detach() for x in found], [(x * mask).detach() for x in (log_p, spread)])
        loss = (push * found[1]).sum()
        if "alone" not in entropy:
            loss = loss + (pull * found[0]).sum()
    same(gradients(loss, hidden, weight, options["bias"]), expected)


def batch_of(objective: ga.BaseObjective, seed: int = 0) -> ga.Batch | ga.PreferenceBatch:
    """A ragged batch, without gradient and without the policy's log-probabilities."""
    if objective.paired:
        pairs = sample_pairs(seed=seed)
        return dataclasses.replace(pairs, chosen=pairs.chosen.detach() * 0, rejected=pairs.rejected.detach() * 0)
    batch = sample_batch(seed=seed)
    return dataclasses.replace(batch, policy=batch.policy.detach() * 0)


def with_policy(batch: Any, log_p: Tensor) -> Any:
    if not batch.paired:
        return dataclasses.replace(batch, policy=log_p)
    chosen, rejected = log_p.chunk(2)
    width = batch.chosen.shape[1], batch.rejected.shape[1]
    return dataclasses.replace(batch, chosen=chosen[:, : width[0]], rejected=rejected[:, : width[1]])


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_through_the_head(name: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradient are those of the objective on the log-probabilities of all logits; so with a frozen head."""
    objective = RECIPES[name]
    batch = batch_of(objective)
    keep(monkeypatch, KEPT[kept])
    for frozen in (False, True) if kept == "four products" else (False,):
        hidden, weight, targets = case(*batch.rows.policy.shape, frozen=frozen)
        bias = torch.randn(VOCABULARY).requires_grad_(not frozen)
        options: dict[str, Any] = {"bias": bias, "temperature": 0.8, "softcap": 4.0}
        now = with_policy(batch, naive(hidden, weight, targets, **options)[0])
        drive = objective.drive(now)
        expected = objective(now, drive=drive)
        outcome = ga.ops.fused_objective(objective, hidden, weight, targets, batch, drive=drive, **options)
        same([outcome.loss.detach()], [expected.loss.detach()])
        for a, b in zip(outcome.terms, expected.terms, strict=True):
            same([a.u.detach()], [b.u.detach()], 1e-9)
        same(gradients(outcome.loss, hidden, weight, bias), gradients(expected.loss, hidden, weight, bias), 1e-11)


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("name", ["opo", "grpo(beta)", "gspo", "kto", "dpo"])
def test_parts_add_up_to_the_whole(name: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient accumulation with the counts and the drive of the whole, and any scale of the loss."""
    objective = RECIPES[name]
    batch = batch_of(objective)
    keep(monkeypatch, KEPT[kept])
    hidden, weight, targets = case(*batch.rows.policy.shape)
    drive, counts = objective.drive(batch), batch.counts()
    whole = ga.ops.fused_objective(objective, hidden, weight, targets, batch)
    expected = [whole.loss.detach(), *gradients(whole.loss, hidden, weight)]
    loss = torch.zeros(())
    for rows in (slice(0, 3), slice(3, None)):
        pick = torch.arange(batch.size)[rows]
        pick = torch.cat([pick, pick + batch.size]) if batch.paired else pick
        part = ga.ops.fused_objective(
            objective, hidden[pick], weight, targets[pick], batch[rows], drive=drive[rows], counts=counts
        )
        loss = loss + part.loss
    found = gradients(3 * loss, hidden, weight)
    same([loss.detach(), *(x / 3 for x in found)], expected)


class Products:
    """Counts the multiplications of all matrix products, in units of tokens × hidden × vocabulary."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
        self.done, self.unit = 0, tokens * HIDDEN * VOCABULARY
        product, add_product = tiles.product, tiles.add_product

        def count_product(a: Tensor, b: Tensor) -> Tensor:
            self.done += a.numel() * b.shape[0]
            return product(a, b)

        def count_add(total: Tensor, a: Tensor, b: Tensor) -> None:
            self.done += a.numel() * b.shape[1]
            add_product(total, a, b)

        monkeypatch.setattr(tiles, "product", count_product)
        monkeypatch.setattr(tiles, "add_product", count_add)

    def __call__(self) -> float:
        done, self.done = self.done / self.unit, 0
        return done


@dataclasses.dataclass(frozen=True)
class Compared(Reweighting):
    """A drive that shrinks where the policy has moved on the other answers to the prompt."""

    of: ga.SamplingGeometry
    reach = ga.Locality.GROUP

    def weight(self, drive: Tensor, log_ratio: Tensor, batch: Any) -> Tensor:
        return torch.exp(-batch.groups().mean(log_ratio.abs().sum(-1)))[:, None]


@pytest.mark.parametrize(
    ("name", "most", "products"),
    [
        ("grpo", 5, 3),  # a token's gradient needs the token
        ("reinforce", 5, 3),
        ("gspo", 6, 3),  # its response, of at most 6 tokens
        ("gspo", 5, 4),
        ("dpo", 12, 3),  # its pair
        ("dpo", 5, 4),
        ("custom", 12, 4),  # the responses to its prompt, in any order
        ("custom", 1000, 3),
        ("aot", 12, 4),  # the whole batch
        ("aot", 1000, 3),
    ],
)
def test_the_gradient_s_locality_picks_the_schedule(
    name: str, most: int, products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = ga.Objective(unit=ga.Token(), sampling=Compared(ga.GroupAdvantage()), optimization=ga.ReverseKL())
    objective = custom if name == "custom" else RECIPES[name]
    batch = batch_of(objective)
    keep(monkeypatch, most)
    hidden, weight, targets = case(*batch.rows.policy.shape)
    count = Products(monkeypatch, int(batch.rows.support.sum()))
    ga.ops.fused_objective(objective, hidden, weight, targets, batch).loss.backward()
    assert count() == products
    ga.ops.fused_objective(objective, hidden, weight.detach(), targets, batch).loss.backward()
    assert count() == 2
    with torch.no_grad():
        ga.ops.fused_objective(objective, hidden, weight, targets, batch)
    assert count() == 1


def test_log_probs_take_no_product_that_no_gradient_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = case(4, 6)
    count = Products(monkeypatch, 24)
    for h, w, products in (
        (hidden, weight, 4),
        (hidden, weight.detach(), 2),
        (hidden.detach(), weight, 3),
    ):
        ga.ops.fused_log_probs(h, w, targets).sum().backward()
        assert count() == products
        log_probs, _ = ga.ops.fused_log_probs(h, w, targets, entropy=True)
        log_probs.sum().backward()
        assert count() == products
    ga.ops.fused_log_probs(hidden.detach(), weight.detach(), targets)
    assert count() == 1


class Largest(TorchDispatchMode):
    """The size of the largest tensor that an operation returned."""

    size = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, Tensor):
                self.size = max(self.size, x.numel())
        return result


@pytest.mark.parametrize("name", ["grpo", "gspo", "kto"])
def test_no_tensor_of_all_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = RECIPES[name]
    batch = sample_batch(rows=40)
    keep(monkeypatch, 6)
    hidden, weight, targets = case(*batch.policy.shape)
    with Largest() as largest:
        ga.ops.fused_objective(objective, hidden, weight, targets, batch).loss.backward()
    assert largest.size == hidden.numel() < batch.counts().tokens * VOCABULARY / 2


@pytest.mark.parametrize("kept", KEPT)
def test_a_masked_token_is_absent(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden states may be NaN there and targets −100; results and gradients are 0."""
    keep(monkeypatch, KEPT[kept])
    batch = sample_batch()
    hidden, weight, targets = case(*batch.policy.shape)
    mask = batch.support
    broken = torch.where(mask[..., None], hidden.detach(), torch.nan).requires_grad_()
    labels = torch.where(mask, targets, -100)
    log_probs = ga.ops.fused_log_probs(broken, weight, labels, mask=mask)
    assert (log_probs[~mask] == 0).all()
    loss = ga.ops.fused_objective(ga.recipes.opo(), broken, weight, labels, batch).loss + log_probs.sum()
    found = gradients(loss, broken, weight)
    assert all(torch.isfinite(x).all() for x in found) and (found[0][~mask] == 0).all()
    now = with_policy(batch, naive(hidden, weight, targets)[0])
    same(found, gradients(ga.recipes.opo()(now).loss + now.policy[mask].sum(), hidden, weight))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (0, 3), (3, 4)])
def test_few_tokens_or_none(shape: tuple[int, int]) -> None:
    hidden, weight, targets = case(*shape)
    mask = torch.zeros(shape, dtype=torch.bool) if shape == (3, 4) else None
    batch = ga.Batch(torch.zeros(shape), torch.zeros(shape), mask, reward=torch.arange(float(shape[0])))
    found = ga.ops.fused_log_probs(hidden, weight, targets, mask=mask)
    outcome = ga.ops.fused_objective(ga.recipes.grpo(), hidden, weight, targets, batch)
    assert found.shape == shape and found.requires_grad and torch.isfinite(outcome.loss)
    assert all(torch.isfinite(x).all() for x in gradients(found.sum() + outcome.loss, hidden, weight))
    if mask is not None or not shape[0]:
        assert outcome.loss == 0 and not found.any()


@pytest.mark.parametrize("kept", KEPT)
def test_tied_embeddings(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight's gradient is the sum of what it gets as head and as embedding."""
    keep(monkeypatch, KEPT[kept])
    batch = sample_batch()
    _, weight, targets = case(*batch.policy.shape)
    loss = ga.ops.fused_objective(ga.recipes.grpo(), torch.tanh(weight[targets]), weight, targets, batch).loss
    expected = ga.recipes.grpo()(with_policy(batch, naive(torch.tanh(weight[targets]), weight, targets)[0])).loss
    same(gradients(loss, weight), gradients(expected, weight))


def test_drives_are_taken_from_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where tiles part the groups, and where a group is a number of consecutive rows."""
    keep(monkeypatch, 12)
    batch = dataclasses.replace(sample_batch(), group=None)
    objective = ga.recipes.grpo() + 0.5 * ga.recipes.gspo()
    hidden, weight, targets = case(*batch.policy.shape)
    expected = objective(with_policy(batch, naive(hidden, weight, targets)[0])).loss
    loss = ga.ops.fused_objective(objective, hidden, weight, targets, batch).loss
    same(gradients(loss, hidden, weight), gradients(expected, hidden, weight))


@pytest.mark.float32
@pytest.mark.parametrize("objective", ["none", "grpo", "opo", "kto"])
def test_large_products_keep_float32(objective: str) -> None:
    """Where oneDNN multiplies: relative errors of the gradients below 1e-6 against the path through all logits."""
    rows, tokens, hidden_size, vocabulary = 16, 40, 512, 2048
    hidden = torch.randn(rows, tokens, hidden_size).requires_grad_()
    weight = (torch.randn(vocabulary, hidden_size) / hidden_size**0.5).requires_grad_()
    targets = torch.randint(vocabulary, (rows, tokens))
    log_p, _ = naive(hidden, weight, targets)
    old = log_p.detach() + 0.1 * torch.randn(rows, tokens)
    batch = ga.Batch(old, old, reward=torch.randn(rows), reference=old)
    if objective == "none":
        loss, expected = ga.ops.fused_log_probs(hidden, weight, targets).sum(), log_p.sum()
    else:
        loss = ga.ops.fused_objective(ga.recipes.get(objective), hidden, weight, targets, batch).loss
        expected = ga.recipes.get(objective)(dataclasses.replace(batch, policy=log_p)).loss
    for a, b in zip(gradients(loss, hidden, weight), gradients(expected, hidden, weight)):
        assert (a - b).norm() <= 1e-6 * b.norm()


@pytest.mark.float32
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    hidden, weight = torch.randn(50, 64).to(dtype), torch.randn(3000, 64).to(dtype)
    targets = torch.randint(3000, (50,))
    exact = naive(hidden.double().requires_grad_(), weight.double(), targets)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = ga.ops.fused_log_probs(hidden, weight.requires_grad_(), targets)
    assert found.dtype == torch.float32 and (found <= 0).all()
    assert (found - exact).abs().mean() < 1e-5
    (gradient,) = gradients(found.sum(), weight)
    twin = weight.detach().double().requires_grad_()
    (expected,) = gradients(naive(hidden.double(), twin, targets)[0].sum(), twin)
    assert gradient.dtype == dtype
    assert (gradient - expected).norm() < torch.finfo(dtype).eps * expected.norm()


@pytest.mark.float32
def test_a_grad_scaler_s_factor_comes_before_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of 1e-9 vanishes in float16, and 2¹⁶ times it does not."""
    hidden, weight = torch.randn(4, 3, 8).half().requires_grad_(), torch.randn(11, 8).half().requires_grad_()
    batch = ga.Batch(torch.zeros(4, 3), torch.zeros(4, 3), reward=torch.tensor([1.0, 0.0, 0.0, 1.0]))
    loss = ga.ops.fused_objective(1e-8 * ga.recipes.grpo(), hidden, weight, torch.ones(4, 3).long(), batch).loss
    assert all(x.any() for x in gradients(loss * 2**16, hidden, weight))


@pytest.mark.parametrize("kept", KEPT)
def test_a_second_derivative_is_refused(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, KEPT[kept])
    batch = sample_batch()
    hidden, weight, targets = case(*batch.policy.shape)
    for loss in (
        ga.ops.fused_log_probs(hidden, weight, targets).sum(),
        ga.ops.fused_objective(ga.recipes.grpo(), hidden, weight, targets, batch).loss,
    ):
        with pytest.raises(RuntimeError, match="differentiate"):
            (first,) = torch.autograd.grad(loss, weight, create_graph=True)
            torch.autograd.grad(first.sum(), weight)


def test_a_known_gradient_is_given_once() -> None:
    batch = sample_batch()
    hidden, weight, targets = case(*batch.policy.shape)
    loss = ga.ops.fused_objective(ga.recipes.grpo(), hidden, weight, targets, batch).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


@pytest.mark.float32
@pytest.mark.parametrize("backend", ["auto", "linear_cross_entropy", "trl", "liger"])
def test_backends_agree(backend: str) -> None:
    package = {"trl": "trl.kernels", "liger": "liger_kernel"}.get(backend)
    if package:
        pytest.importorskip(package, reason=f"{backend} is not installed: bash tests/parity/environments.sh")
    if backend == "linear_cross_entropy" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        pytest.skip("this torch has no linear_cross_entropy")
    hidden, weight, targets = case(30)
    bias = torch.randn(VOCABULARY).requires_grad_()
    options: dict[str, Any] = {"bias": bias, "temperature": 0.7, "mask": torch.arange(30) % 3 > 0}
    if backend == "trl":
        options |= {"softcap": 3.0}
    ours = ga.ops.fused_log_probs(hidden, weight, targets, backend="torch", **options)
    theirs = ga.ops.fused_log_probs(hidden, weight, targets, backend=backend, **options)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    pull = torch.randn(30)
    for a, b in zip(*(gradients((x * pull).sum(), hidden, weight, bias) for x in (theirs, ours))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"hidden": torch.zeros(2, 3, 7)}, ValueError, r"`hidden` of fused_log_probs is \(2, 3, 7\) and `weight`"),
        ({"weight": torch.zeros(8)}, ValueError, "as nn.Linear holds it"),
        ({"targets": torch.zeros(2, 4).long()}, ValueError, "not shifted by one token"),
        ({"targets": torch.zeros(2, 3)}, ValueError, "integer token ids"),
        ({"targets": torch.full((2, 3), -100)}, ValueError, r"\[-100, -100\], but the vocabulary is \[0, 22\]"),
        ({"targets": torch.full((2, 3), 23)}, ValueError, "leave them out with a mask"),
        ({"targets": [[1]]}, TypeError, "`targets` of fused_log_probs is list"),
        ({"hidden": torch.zeros(2, 3, 8).long()}, ValueError, "it is floating point"),
        ({"bias": torch.zeros(8)}, ValueError, r"expected \(23,\)"),
        ({"mask": torch.ones(3, 2)}, ValueError, r"`mask` is \(3, 2\) but `targets` is \(2, 3\)"),
        ({"temperature": 0.0}, ValueError, "what the logits are divided by"),
        ({"softcap": -1.0}, ValueError, "or None for no bound"),
        ({"backend": "cuda"}, ValueError, "choose one of 'auto', 'torch'"),
        ({"backend": "linear_cross_entropy", "entropy": True}, ValueError, "cannot compute entropy"),
    ],
)
def test_wrong_arguments_are_refused_in_words(change: dict[str, Any], error: type, said: str) -> None:
    hidden, weight, targets = case(2, 3)
    with pytest.raises(error, match=said):
        ga.ops.fused_log_probs(**({"hidden": hidden, "weight": weight, "targets": targets} | change))


def test_wrong_batches_are_refused_in_words() -> None:
    hidden, weight, targets = case(2, 3)
    for batch, said in (
        (ga.Batch(torch.zeros(2), torch.zeros(2)), "sums over responses"),
        (ga.Batch(torch.zeros(2, 4), torch.zeros(2, 4)), r"the batch has \(2, 4\) tokens"),
        (ga.PreferenceBatch(*torch.zeros(2, 2, 3)), "first the chosen, then the rejected"),
    ):
        with pytest.raises(ValueError, match=said):
            ga.ops.fused_objective(ga.recipes.grpo(), hidden, weight, targets, batch)
    with pytest.raises(TypeError, match="takes a Batch or a PreferenceBatch"):
        ga.ops.fused_objective(ga.recipes.grpo(), hidden, weight, targets, torch.zeros(2, 3))  # type: ignore[arg-type]
