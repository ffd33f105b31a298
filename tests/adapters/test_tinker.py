"""Tinker: any objective as the weights of a cross-entropy, by the client's own code where the package is installed.

`bash tests/adapters/environments.sh tinker` installs it; the service is a stand-in on the loopback interface
(`tinker_server.py`). Elsewhere the contract stands in for the client: its data types, what it does with a loss, and
what it refuses to trace, all as in release 0.38.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.common import stand_in
from torch import Tensor

import geomalign as ga
from geomalign.adapters import tinker as geometry
from geomalign.adapters.export import configuration
from geomalign.adapters.hosted import cut_groups
from geomalign.laws import batches

try:
    import tinker as package
except ImportError:
    package = None

pytestmark = [
    pytest.mark.float32,
    pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning"),
    # The client leaves its connections to the end of the process.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
installed = pytest.mark.skipif(package is None, reason="needs tinker: bash tests/adapters/environments.sh tinker")

EXACT = {"rtol": 0, "atol": 3e-8}
VOCABULARY = 17

with warnings.catch_warnings(action="ignore"):  # a loss that is unbounded below is compared like any other
    EVERY = {name: ga.recipes.get(name) for name in ga.recipes.names()}
# A datum has the log-probabilities of one sampler, and `decoupled_ppo` compares two.
CUT = {name for name, objective in EVERY.items() if cut_groups(objective, "Tinker") is not None}
RECIPES = {name: objective for name, objective in EVERY.items() if name not in CUT | {"decoupled_ppo"}}
# The walls of `bapo` are those of all data together, and a traced loss sees one at a time.
REWARDS = [name for name, objective in RECIPES.items() if not objective.paired and name != "bapo"]
TRACEABLE = [name for name in REWARDS if not RECIPES[name].needs_reference]


def test_the_page_says_how_many_recipes_ran() -> None:
    page, index = (
        (Path(__file__).parents[2] / "docs" / "trainers" / name).read_text(encoding="utf-8")
        for name in ("tinker.md", "index.md")
    )
    assert f"What ran: {len(RECIPES)} recipes" in page and f"The {len(REWARDS)} recipes of\nsingle responses" in page
    assert f"client itself, {len(RECIPES)} recipes" in index


# ------------------------------------------------------------------------------------------------- the contract


@dataclasses.dataclass(frozen=True)
class TensorData:
    """Numbers with a shape, as the client keeps them."""

    kept: Tensor

    def to_torch(self) -> Tensor:
        return self.kept


@dataclasses.dataclass(frozen=True)
class Datum:
    """One sequence: its input, and named tensors that go with its target tokens."""

    model_input: Any
    loss_fn_inputs: dict[str, Any]

    def __post_init__(self) -> None:
        kept = {k: x if isinstance(x, TensorData) else TensorData(x) for k, x in self.loss_fn_inputs.items()}
        object.__setattr__(self, "loss_fn_inputs", kept)


def datum(tokens: Tensor, **inputs: Tensor) -> Any:
    inputs = {"target_tokens": tokens[1:], **inputs}
    if package is None:
        return Datum(tokens[:-1], inputs)
    return package.types.Datum(package.types.ModelInput.from_ints(tokens[:-1].tolist()), inputs)


def weights_sent(data: Sequence[Any], loss: Callable[..., Any], logprobs: Sequence[Tensor]) -> list[Tensor]:
    """What the client does with a loss: −∂loss/∂log π of every datum, as weights of a cross-entropy."""
    leaves = [x.clone().detach().requires_grad_() for x in logprobs]
    value, metrics = loss(list(data), leaves)
    assert value.ndim == 0 and all(type(x) is float for x in metrics.values())
    value.backward()
    return [-x.grad for x in leaves if x.grad is not None]


# --------------------------------------------------------------------------------------------------- the rollout


@dataclasses.dataclass
class Rollout:
    """Data as a sampler leaves them, log-probabilities of a policy in training, and the same as a batch of ours."""

    data: list[Any]
    policy: list[Tensor]
    given: dict[str, Any]
    batch: Any


def rollout(paired: bool, seed: int = 0) -> Rollout:
    """Ragged responses behind prompts of one token, one in three without a prompt."""
    torch.manual_seed(seed)
    whole = batches.pairs(seed, dtype=torch.float32) if paired else batches.rollouts(seed, dtype=torch.float32)
    rows = whole.rows
    order = torch.arange(rows.size).view(2, -1).T.flatten() if paired else torch.arange(rows.size)
    mask = rows.support.clone()
    mask[order[::3], 0] = mask[order[::3]].sum(-1) == 1
    data, policy, reference = [], [], []
    for i in order.tolist():
        n = int(rows.support[i].sum())
        known = (
            {"logprobs": rows.old[i, :n], "mask": mask[i, :n].float()}
            if not paired
            else {"weights": mask[i, :n].float()}
        )
        data.append(datum(torch.randint(VOCABULARY, (n + 1,)), **known))
        policy.append(rows.policy[i, :n])
        reference.append(rows.reference[i, :n])
    if paired:
        chosen, rejected = mask.chunk(2)
        margin = torch.linspace(-1, 2, whole.size)
        batch = dataclasses.replace(whole, chosen_mask=chosen, rejected_mask=rejected, margin=margin)
        return Rollout(data, policy, {"reference": reference, "margin": margin}, batch)
    batch = dataclasses.replace(whole, mask=mask, behavior=None)
    return Rollout(data, policy, {"reward": whole.reward, "group": whole.group, "reference": reference}, batch)


def per_datum(gradient: Any, data: Sequence[Any]) -> list[Tensor]:
    """A gradient of ours as one vector per datum."""
    rows = [row for pair in zip(*gradient, strict=True) for row in pair] if isinstance(gradient, tuple) else gradient
    lengths = [len(x.loss_fn_inputs["target_tokens"].to_torch()) for x in data]
    return [row[:n] for row, n in zip(rows, lengths, strict=True)]


def same(found: Sequence[Tensor], expected: Sequence[Tensor], sign: float = 1.0) -> None:
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, sign * y, **EXACT)


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_sent_are_the_gradient(name: str) -> None:
    objective = RECIPES[name]
    made = rollout(objective.paired)
    data = geometry.prepare(name, made.data, **made.given)
    sent = weights_sent(data, geometry.loss(name), made.policy)
    same(sent, per_datum(objective.gradient(made.batch), data), -1)
    assert name == "pass_at_k" or max(x.abs().max() for x in sent) > 0  # no prompt has so many right answers


@pytest.mark.parametrize("name", REWARDS)
def test_a_traced_loss_has_the_gradient_of_its_datum(name: str) -> None:
    objective = RECIPES[name]
    made = rollout(False)
    data = geometry.counted(geometry.prepare(objective, made.data, **made.given))
    function, ranks = geometry.traceable(objective)
    graph = traced(function, ranks)
    total, found = 0.0, []
    for each, policy in zip(data, made.policy, strict=True):
        leaf = policy.clone().requires_grad_()
        inputs = [each.loss_fn_inputs[key].to_torch() for key in list(ranks)[1:]]
        assert [x.ndim for x in inputs] == list(ranks.values())[1:]
        value, _ = graph(leaf, *inputs)
        value.backward()
        total += value.item()
        found.append(leaf.grad)
    assert total == pytest.approx(objective(made.batch).loss.item(), rel=1e-6, abs=1e-6)
    same(found, per_datum(objective.gradient(made.batch), data))


def traced(function: Callable[..., Any], ranks: dict[str, int]) -> torch.fx.GraphModule:
    """The trace, if it is of what the client lets through: calls of torch and math on the inputs that are named."""
    assert list(inspect.signature(function).parameters) == list(ranks) and len(ranks) <= 16
    graph = torch.fx.symbolic_trace(function)
    for node in graph.graph.nodes:
        assert node.op in ("placeholder", "call_function", "call_method", "output")
        if node.op == "call_function" and node.target is not getattr:
            assert node.target.__module__.split(".")[0] in ("torch", "math", "operator", "_operator"), node.target
        assert node.target not in ("item", "numpy", "tolist", "backward")
    return graph


@pytest.mark.parametrize("name", ["opo", "dapo", "gmpo", "dpo"])
def test_calls_of_one_step_add_up(name: str) -> None:
    objective = RECIPES[name]
    made = rollout(objective.paired)
    data = geometry.counted(geometry.prepare(objective, made.data, **made.given))
    sent = []
    for part in (slice(0, 4), slice(4, None)):
        sent += weights_sent(data[part], geometry.loss(objective), made.policy[part])
    same(sent, per_datum(objective.gradient(made.batch), data), -1)


def test_advantages_of_the_data_take_the_place_of_the_drive() -> None:
    """As in other trainers that make the advantages: per token for a unit of tokens, their mean for a response."""
    made = rollout(False)
    advantages = torch.randn(made.batch.policy.shape)
    own = [
        datum(torch.zeros(len(p) + 1, dtype=torch.long), advantages=a[: len(p)],
              **{k: d.loss_fn_inputs[k].to_torch() for k in ("logprobs", "mask")})
        for d, p, a in zip(made.data, made.policy, advantages, strict=True)
    ]  # fmt: skip
    masked = torch.where(made.batch.mask, advantages, 0)
    for name, drive in (("ppo", masked), ("opo", masked.sum(-1) / made.batch.mask.sum(-1))):
        data = geometry.prepare(name, own)
        expected = ga.recipes.get(name).gradient(made.batch, drive)
        same(weights_sent(data, geometry.loss(name), made.policy), per_datum(expected, data), -1)


@pytest.mark.parametrize("name", ["rloo", "grpo", "opo"])
def test_weights_at_the_policy_that_sampled(name: str) -> None:
    """One pass in the place of two, at the first step; and for REINFORCE's relatives, whose weights are constant."""
    objective = RECIPES[name]
    made = rollout(False)
    data = geometry.weighted(name, geometry.prepare(name, made.data, **made.given))
    assert set(data[0].loss_fn_inputs) == {"target_tokens", "weights"}
    at = (
        made.batch
        if objective.locality is ga.Locality.ROLLOUT
        else dataclasses.replace(made.batch, policy=made.batch.old)
    )
    found = [x.loss_fn_inputs["weights"].to_torch() for x in data]
    same(found, per_datum(objective.gradient(at), data), -1)


def test_what_is_missing_is_said() -> None:
    made = rollout(False)
    with pytest.raises(ValueError, match="no `advantages`: pass `reward`"):
        geometry.prepare("opo", made.data)
    with pytest.raises(ValueError, match="no `drive`: pass the data through prepare"):
        geometry.loss("opo")(made.data, made.policy)
    with pytest.raises(ValueError, match="several per position"):
        geometry.prepare(
            "opo", [datum(torch.arange(4), target_tokens=torch.ones(3, 2, dtype=torch.long))], reward=torch.ones(1)
        )
    with pytest.raises(ValueError, match="leave it out"):
        geometry.prepare("grpo beta=0.1", made.data, reward=made.given["reward"], reference=[torch.zeros(99)] * 12)
    with pytest.raises(ValueError, match="in turn, but there are 3"):
        geometry.prepare("dpo", rollout(True).data[:3])
    for name in ("dpo", "aot"):
        with pytest.raises(ValueError, match="use loss"):
            geometry.traceable(name)
    with pytest.raises(ValueError, match="use forward_backward_custom"):
        geometry.weighted("dpo", [])


@pytest.mark.parametrize("name", ["opo", "grpo beta=0.1", "dpo", "rpo"])
def test_the_exported_loop_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are those of the objective on the parts of the data, each a whole of its own."""
    stand_in(monkeypatch, "tinker", types=types.SimpleNamespace(AdamParams=dict))
    objective = ga.recipes.get(name)
    made = rollout(objective.paired)
    calls: list[Any] = []

    def forward_backward_custom(data: Sequence[Any], loss: Callable[..., Any]) -> Any:
        first = sum(len(x) for x in calls if isinstance(x, list))
        calls.append(weights_sent(data, loss, made.policy[first : first + len(data)]))
        return types.SimpleNamespace(result=lambda: types.SimpleNamespace(metrics={"calls": len(calls)}))

    client = types.SimpleNamespace(forward_backward_custom=forward_backward_custom, optim_step=calls.append)
    names: dict[str, Any] = {}
    exec(compile(configuration("tinker", name), "exported", "exec"), names)
    wanted = inspect.signature(names["update"]).parameters.keys() & made.given.keys()
    seen = names["update"](client, made.data, size=6, **{key: made.given[key] for key in wanted})
    assert len(seen) == 2 and [type(x) for x in calls] == [list, dict, list, dict]
    drive = objective.drive(made.batch)
    half = made.batch.size // 2
    for part, sent in ((slice(0, half), calls[0]), (slice(half, None), calls[2])):
        expected = per_datum(
            objective.gradient(made.batch[part], drive[part]), made.data[:6] if part.start == 0 else made.data[6:]
        )
        same(sent, expected, -1)


# ----------------------------------------------------------------------------------------- the client and a service


@pytest.fixture(scope="module", params=[False, True], ids=["client", "service"])
def connected(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
    """The package's own clients, and a stand-in that runs custom losses itself or leaves them to the client."""
    from adapters.tinker_server import Service, serve

    patch = pytest.MonkeyPatch()
    patch.setenv("TINKER_API_KEY", "tml-of-nobody")
    patch.setenv("TINKER_TELEMETRY", "0")
    service = Service(runs_losses=request.param)
    with serve(service) as address:
        client = package.ServiceClient(base_url=address)
        yield service, client, client.create_lora_training_client("a table").result(), {}
    patch.undo()


def policy_of(logits: Tensor, data: Sequence[Any]) -> list[Tensor]:
    """The log-probabilities that the service computes, with gradient in its table."""
    rows = logits.log_softmax(-1)
    inputs = [torch.tensor(each.model_input.to_ints()) for each in data]
    targets = [each.loss_fn_inputs["target_tokens"].to_torch() for each in data]
    return [rows[x].gather(1, y[:, None])[:, 0] for x, y in zip(inputs, targets, strict=True)]


@installed
@pytest.mark.parametrize("name", RECIPES)
def test_through_the_client(connected: tuple[Any, ...], name: str) -> None:
    """Two steps: what the service accumulates is the objective's gradient in the model, and metrics come back."""
    service, client, training, handles = connected
    objective = RECIPES[name]
    made = rollout(objective.paired)
    data = geometry.prepare(objective, made.data, **made.given)
    if service.config["custom_loss_server_side"]:
        if name not in REWARDS:
            with pytest.raises(ValueError, match="which the client runs"):
                geometry.traceable(objective)
            return
        function, ranks = geometry.traceable(objective)
        traced = torch.fx.symbolic_trace(function).code  # of which a session creates each once
        if traced not in handles:
            handles[traced] = client.create_custom_loss(function, ranks).result()
        loss, data = handles[traced], geometry.counted(data)
    else:
        loss = geometry.loss(objective)
    service.logits.data.normal_(std=0.5)
    for _ in range(2):
        service.forget()
        result = training.forward_backward_custom(data, loss).result()
        table = service.logits.detach().clone().requires_grad_()
        fields = ("chosen", "rejected") if objective.paired else ("policy",)
        policy = policy_of(table, data)
        columns = {
            field: torch.nn.utils.rnn.pad_sequence(policy[k :: len(fields)], batch_first=True)
            for k, field in enumerate(fields)
        }
        batch = dataclasses.replace(made.batch, **columns)
        value = objective(batch).loss
        value.backward()
        torch.testing.assert_close(service.logits.grad, table.grad, rtol=1e-5, atol=3e-8)
        assert result.metrics["loss:sum"] == pytest.approx(value.item(), rel=1e-5, abs=1e-5)
        if service.config["custom_loss_server_side"]:
            assert service.calls == [("custom", False)] * 3
        else:
            same(service.weights, per_datum(objective.gradient(batch), data), -1)
            assert service.fields == {"target_tokens", "weights"} and "geom/ess" in result.metrics
        training.optim_step(package.types.AdamParams(learning_rate=0.01)).result()
        torch.testing.assert_close(service.logits.detach(), table.detach() - 0.01 * table.grad, rtol=1e-5, atol=1e-6)


@installed
def test_supervised_calls_train_an_objective(connected: tuple[Any, ...]) -> None:
    """`forward_backward(…, "cross_entropy")`, the service's supervised loss, with the weights of RLOO."""
    service, _, training, _ = connected
    made = rollout(False)
    data = geometry.weighted("rloo", geometry.prepare("rloo", made.data, **made.given))
    service.forget()
    training.forward_backward(data, "cross_entropy").result()
    same(service.weights, per_datum(ga.recipes.rloo().gradient(made.batch), data), -1)
    assert set(service.calls) == {("cross_entropy", False)}


@pytest.mark.parametrize("name", sorted(CUT))
def test_an_objective_that_couples_a_prompts_responses_is_refused(name: str) -> None:
    couples = "couples the responses to one prompt, and Tinker cuts groups"
    why = f"{couples}|which Tinker does not pass on|Tinker passes no mask of these to a loss"
    for made in (geometry.loss, geometry.traceable):
        with pytest.raises(ValueError, match=why):
            made(name)
