"""An objective and its gradient on log-probabilities, against the loss functions of TRL and verl."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import geomalign as ga
from tests.bench.measure import ALL, Case, Compiled, Methods, installed

TOKENS = 2048
"""Per response."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "dapo": {
        "trl": {"loss_type": "dapo", "epsilon_high": 0.28},
        "verl": {"mode": "vanilla", "clip_ratio_high": 0.28},
    },
    "grpo beta=0.04": {"trl": {"loss_type": "grpo", "beta": 0.04}},
    "gspo": {
        "trl": {
            "loss_type": "grpo",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
            "importance_sampling_level": "sequence",
        }
    },
}
"""Recipe → peer → the same objective in the peer's words."""

PEAKS = (
    "geomalign",
    "geomalign, compiled",
    "geomalign, exported and compiled",
    "TRL's formula",
    "verl, with its metrics",
)

REFERENCE = "the formula under autograd, float64"


def cases(preset: str) -> list[Case]:
    quick = preset == "quick"
    rows = 16 if quick else 512
    main = {"rows": rows, "tokens": 64 if quick else TOKENS}
    seconds = {"quick": 0.1, "short": 4.0, "full": 20.0}[preset]
    found = [
        Case(
            f"objective {name}",
            main,
            partial(methods, name),
            seconds,
            (3, 61),
            per=main["rows"] * main["tokens"],
            memory=() if name != "dapo" else ALL if preset == "full" else PEAKS[: 1 if quick else None],
            both=name == "dapo" and not quick,
        )
        for name in (("dapo",) if quick else SETTINGS)
    ]
    for power in (4, 6) if quick else (12, 14, 16, 18, 20, 22):
        size = {"rows": 2, "tokens": 2**power // 2} if power < 12 else {"rows": 2**power // TOKENS, "tokens": TOKENS}
        few = partial(methods, "dapo", metrics=False)
        found.append(Case("objective in tokens", size, few, seconds / 3, (3, 31), per=2**power))
    for name in ("dapo", "gspo") if quick else SETTINGS:
        exact = partial(exactness, name)
        found.append(Case(f"gradient of {name}", {"rows": 16, "tokens": 64}, exact, 0.0, (1, 1), agree=1e-5))
    return found


class Rollout:
    """Ragged responses, eight to a prompt, a policy 0.1 nats per token from the one that sampled, and masks of int64
    as trainers hold them. Drives are those of the objective, computed before, as are the peers' advantages.
    """

    def __init__(self, name: str, rows: int, tokens: int):
        torch.manual_seed(0)
        self.old = -2 * torch.rand(rows, tokens)
        self.policy = (self.old + 0.1 * torch.randn(rows, tokens)).clamp(max=-1e-4)
        self.reference = (self.old + 0.1 * torch.randn(rows, tokens)).clamp(max=-1e-4)
        lengths = torch.randint(tokens // 4, tokens + 1, (rows,))
        self.mask = (torch.arange(tokens) < lengths[:, None]).long()
        self.objective = ga.recipes.get(name)
        self.reward, self.group = torch.rand(rows), min(8, rows)
        given = {"reward": self.reward, "group": self.group}
        self.advantage: Any = ga.recipes.get("dapo").drive(ga.Batch(self.policy, self.old, self.mask, **given))
        self.drive = self.objective.drive(self.batch(self.policy, **given))

    def batch(self, policy: Tensor, **more: Any) -> ga.Batch:
        reference = self.reference if self.objective.needs_reference else None
        return ga.Batch(policy, self.old, self.mask, reference=reference, **more)


def methods(name: str, rows: int, tokens: int, metrics: bool = True) -> Methods:
    """Each returns the gradient in the log-probabilities, of a loss whose value was computed as well."""
    data = Rollout(name, rows, tokens)
    objective, peers = data.objective, SETTINGS[name]

    def backward(loss: Callable[[Tensor], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        def call() -> tuple[Tensor, ...]:
            policy = data.policy.detach().requires_grad_()
            return torch.autograd.grad(loss(policy), policy)

        return call

    def ours(policy: Tensor) -> Tensor:
        return objective(data.batch(policy), drive=data.drive).loss

    def observed(policy: Tensor) -> Tensor:
        outcome = objective(data.batch(policy), drive=data.drive)
        data.seen = [float(x) for x in torch.stack(list(ga.metrics(outcome).values()))]
        return outcome.loss

    graph = Compiled(ours, f"{name}, the objective")
    plain = ga.ops.export(objective)
    given = ga.ops.arguments(plain, objective, data.batch(data.policy), drive=data.drive)
    given["mask"] = data.mask
    function = Compiled(lambda *tensors: plain(**dict(zip(given, tensors))), f"{name}, exported")
    found: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "geomalign": backward(ours),
        "geomalign, compiled": backward(graph),
        "geomalign, exported and compiled": lambda: function(*given.values())[1:],
    }
    if metrics:
        found["geomalign, with its metrics"] = backward(observed)
    formula = partial(trl_formula, data, **peers["trl"])
    found["TRL's formula"] = backward(formula)
    found["TRL's formula, compiled"] = backward(Compiled(formula, f"{name}, TRL's formula"))
    if metrics and installed("trl"):
        found["TRL, with its metrics"] = backward(_late(partial(trl, data, **peers["trl"])))
    if "verl" in peers and installed("verl"):
        found["verl, with its metrics"] = backward(_late(partial(verl, data, **peers["verl"])))
    return found


def _late(make: Callable[[], Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    """The loss that `make` returns, made (and its library imported) when it is first asked for."""
    made = cache(make)
    return lambda policy: made()(policy)


def trl_formula(
    data: Rollout,
    policy: Tensor,
    loss_type: str,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    importance_sampling_level: str = "token",
) -> Tensor:
    """What TRL's trainer differentiates, without the metrics that it computes beside: the least that it can cost."""
    advantage, mask = data.advantage[:, None], data.mask
    log_ratio = policy - data.old
    if importance_sampling_level == "sequence":
        log_ratio = ((log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).unsqueeze(-1)
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high))
    loss = -torch.min(ratio * advantage, clipped * advantage)
    if beta:
        excess = data.reference - policy
        loss = loss + beta * (torch.exp(excess) - excess - 1)
    if loss_type == "dapo":
        return (loss * mask).sum() / mask.sum().clamp(min=1.0)
    return ((loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()


def trl(data: Rollout, **options: Any) -> Callable[[Tensor], Tensor]:
    """`GRPOTrainer._compute_loss`, made as the parity table makes it, with log-probabilities in place of a model."""
    from trl import GRPOConfig, GRPOTrainer

    from tests.parity.implementations.trl import TRL, _rollout_inputs, _Training

    trainer = TRL()._rollout_trainer(GRPOTrainer, GRPOConfig, options | {"use_bias_correction_kl": False})
    inputs = _rollout_inputs(ga.Batch(data.policy, data.old, data.mask, advantage=data.advantage))
    inputs |= {"old_per_token_logps": data.old, "ref_per_token_logps": data.reference, "completion_mask": data.mask}
    entropies = torch.zeros_like(data.policy)

    def loss(policy: Tensor) -> Tensor:
        trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (policy, entropies, None)
        value: Tensor = trainer._compute_loss(_Training(), inputs)
        return value

    return loss


def verl(data: Rollout, mode: str, **options: Any) -> Callable[[Tensor], Tensor]:
    """A registered policy loss of verl, with advantages per token, as its worker passes them."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    from tests.parity.implementations.verl import _actor_config

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config, function = _actor_config(mode, options), get_policy_loss_fn(mode)
    advantages = data.advantage[:, None] * data.mask

    def loss(policy: Tensor) -> Tensor:
        value, _ = function(
            old_log_prob=data.old,
            log_prob=policy,
            advantages=advantages,
            response_mask=data.mask,
            loss_agg_mode=config.loss_agg_mode,
            config=config,
        )
        return value

    return loss


def exactness(name: str, rows: int, tokens: int) -> Methods:
    """The gradients in float32 beside that of the formula under autograd in float64."""
    data = Rollout(name, rows, tokens)

    def plain() -> tuple[Tensor, ...]:
        data.old, data.reference = data.old.double(), data.reference.double()
        policy = data.policy.double().requires_grad_()
        drive = data.objective.drive(data.batch(policy.detach(), reward=data.reward.double(), group=data.group))
        return torch.autograd.grad(data.objective.plain(data.batch(policy), drive=drive).loss, policy)

    return {REFERENCE: plain, **methods(name, rows, tokens, metrics=False)}
