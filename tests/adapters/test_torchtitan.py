"""torchtitan's loss of tokens, against its own in an environment of its own (`bash tests/adapters/environments.sh
torchtitan`).
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.common import ROWS, TOKENS, Rows, assert_same, clipped, single
from torch import Tensor

import geomalign as ga
from geomalign.adapters import hosted
from geomalign.adapters import torchtitan as titan


def test_torchtitan_drops_tokens_without_a_log_probability(rows: Rows) -> None:
    old = rows.old.clone()
    old[0, 2], old[3, 1] = float("nan"), -float("inf")
    kept = rows.mask & torch.isfinite(old)
    ours, seen = titan.evaluate(ga.recipes.ppo(), rows.policy, old, rows.advantages, rows.mask, float(kept.sum()))
    assert_same(ours, clipped(rows.policy, rows)[kept].mean(), rows.policy)
    assert all(x.ndim == 0 and bool(x.isfinite()) for x in seen.values())


def test_torchtitan_micro_batches_and_their_metrics_add_up(rows: Rows) -> None:
    tokens = float(rows.mask.sum())
    parts = [
        titan.evaluate(ga.recipes.ppo(), rows.policy[p], rows.old[p], rows.advantages[p], rows.mask[p], tokens)
        for p in (slice(0, 2), slice(2, 6))
    ]
    assert_same(sum(loss for loss, _ in parts), clipped(rows.policy, rows)[rows.mask].mean(), rows.policy)
    expected = (rows.policy - rows.old)[rows.mask].abs().mean()
    torch.testing.assert_close(sum(seen["geom/log_ratio_abs/mean"] for _, seen in parts), expected.detach())


@pytest.mark.parametrize("name", single())
def test_torchtitan_packs_responses_so_whole_ones_are_refused(name: str) -> None:
    """Cut between two tokens, a loss of tokens is the sum of its parts; what is not of that kind is refused."""
    objective = ga.recipes.get(name)
    old = -torch.rand(1, 8)
    policy = (old + 0.5 * torch.randn(1, 8)).requires_grad_()
    mask, advantages = torch.ones(1, 8, dtype=torch.bool), torch.where(torch.arange(8) < 4, 1.0, -0.7)[None]

    def gradient(*cuts: slice) -> Tensor:
        losses = [titan.evaluate(objective, *(x[:, c] for x in (policy, old, advantages, mask)), 8.0)[0] for c in cuts]
        return torch.autograd.grad(sum(losses), policy)[0]

    if hosted.of_tokens(objective):
        titan.configuration(name, objective, {})
        torch.testing.assert_close(gradient(slice(0, 4), slice(4, 8)), gradient(slice(0, 8)))
    else:
        assert not torch.allclose(gradient(slice(0, 4), slice(4, 8)), gradient(slice(0, 8)))
        with pytest.raises(ValueError, match="packs several responses into a row"):
            titan.configuration(name, objective, {})


@pytest.fixture
def torchtitan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchtitan's own DAPO loss; the package around it imports vLLM."""
    package = pytest.importorskip(
        "torchtitan.components.loss", reason="needs torchtitan: bash tests/adapters/environments.sh torchtitan"
    )
    path = Path(package.__file__).parents[1] / "experiments" / "rl" / "losses" / "dapo.py"
    spec = importlib.util.spec_from_file_location("torchtitan_dapo", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torchtitan_dapo", module)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


VOCABULARY = 11


@pytest.fixture
def packed(rows: Rows) -> dict[str, Tensor]:
    """A packed micro-batch as torchtitan's trainer passes it, with a token that vLLM gave no log-probability."""
    labels = torch.randint(VOCABULARY, (ROWS, TOKENS))
    generator = torch.randn(ROWS, TOKENS, VOCABULARY).log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    generator[0, 3] = float("nan")
    advantages = torch.where(rows.mask, rows.advantages, 0)
    return {
        "labels": labels,
        "generator_logprobs": generator,
        "advantages": advantages,
        "loss_mask": rows.mask.clone(),
    }


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
def test_torchtitans_own_loss(torchtitan: Any, packed: dict[str, Tensor]) -> None:
    logits = torch.randn(ROWS, TOKENS, VOCABULARY, requires_grad=True)
    tokens = float((packed["loss_mask"] & packed["generator_logprobs"].isfinite()).sum())
    theirs = torchtitan.DAPOLoss.Config(ratio_clip_low=0.2, ratio_clip_high=0.28).build()
    ours = titan.GeometryLoss.Config(objective="dapo").build()
    labels = packed.pop("labels")
    (a, seen), (b, their_seen) = (loss(logits, labels, tokens, **packed) for loss in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(x, logits)[0] for x in (a, b)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    assert gradients[0].abs().max() > 0
    for name in ("loss/mean", "trainer/entropy/mean"):
        torch.testing.assert_close(seen[name], their_seen[name], rtol=1e-5, atol=1e-6)
    assert all(x.ndim == 0 and bool(x.isfinite()) for x in seen.values())


@pytest.mark.float32
@pytest.mark.filterwarnings("ignore")
def test_it_runs_inside_torchtitans_chunks(torchtitan: Any, packed: dict[str, Tensor]) -> None:
    """The head and the loss chunk by chunk: the same gradient as on the whole."""
    from torchtitan.components.loss import ChunkedLossWrapper

    head = torch.nn.Linear(5, VOCABULARY, bias=False)
    hidden = torch.randn(ROWS, TOKENS, 5, requires_grad=True)
    labels = packed.pop("labels")
    inner = titan.GeometryLoss.Config(objective="cispo high=1.5")
    chunked = ChunkedLossWrapper.Config(num_chunks=3, loss_fn=inner).build()
    chunked.set_lm_head(head)
    found = []
    for loss, predicted in ((chunked, lambda: hidden * 1.0), (inner.build(), lambda: head(hidden))):
        hidden.grad = head.weight.grad = None
        value, _ = loss(predicted(), labels, 30.0, **packed)
        value.backward()
        found.append((value.detach(), hidden.grad.clone(), head.weight.grad.clone()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_torchtitans_configuration_refuses_whole_responses(torchtitan: Any) -> None:
    with pytest.raises(ValueError, match="opo reads whole responses"):
        titan.GeometryLoss.Config(objective="opo").build()
