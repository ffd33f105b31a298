"""An exported objective is a plain function of tensors: the same numbers, and nothing of this library in it."""

import dataclasses
import functools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import members
import pytest
import torch
from torch import Tensor, fx

import geomalign as ga
from geomalign._util.types import Locality
from geomalign.laws import batches

pytestmark = [
    pytest.mark.filterwarnings("ignore::geomalign.UnboundedLossWarning"),
    pytest.mark.filterwarnings("ignore::geomalign.RadiusWarning"),
]

COMPARING = [name for name, of in members.recipes().items() if any(term.measure.needs_lengths for _, term in of.terms)]
"""Recipes whose measure compares the lengths of responses."""
FEW = ["dapo", "gmpo", "opo", "gspo", "dpo", "orpo", "aot"]
SUMS: dict[str, ga.BaseObjective] = {
    "KL penalty": ga.recipes.grpo(beta=0.04),
    "weighted KL penalty": ga.recipes.dapo() + 0.1 * ga.kl_penalty("k2", "corrected", cap=2.0),
    "two drives": ga.recipes.opo() + 0.5 * ga.recipes.grpo(),
    "one drive, two units": ga.recipes.dr_grpo() + ga.Objective(
        unit=ga.Sequence(), sampling=ga.recipes.dr_grpo().sampling, optimization=ga.ChiSquare()
    ),
    "multiple": -2.0 * ga.recipes.gspo(),
    "pairs": 0.5 * ga.recipes.dpo() + ga.recipes.simpo() + 0.1 * ga.kl_penalty("k3", unit=ga.Sequence()),
}  # fmt: skip


@functools.cache
def exported(objective: ga.BaseObjective, dtype: torch.dtype = torch.float64) -> fx.GraphModule:
    return ga.ops.export(objective, dtype)


def whole(objective: ga.BaseObjective, seed: int = 0) -> ga.Batch | ga.PreferenceBatch:
    if not objective.paired:
        batch = batches.rollouts(seed)
        observed = ~batch.support if objective.needs_observations else None
        return dataclasses.replace(batch, observation_mask=observed)
    pairs = batches.pairs(seed)
    return dataclasses.replace(pairs, margin=torch.linspace(-1, 2, pairs.size))


def sizes(objective: ga.BaseObjective) -> Iterator[ga.Batch | ga.PreferenceBatch]:
    """Batches unlike the one that was traced: more rows, one row, one token, sides of different lengths."""
    batch = whole(objective)
    yield batch
    yield batch[:1]
    for keep, width in (("rejected", 1), ("chosen", 3)) if objective.paired else (("", 1),):
        names = [f.name for f in dataclasses.fields(batch) if keep in f.name]
        cut = {n: x[:, :width] for n in names if isinstance(x := getattr(batch, n), Tensor) and x.ndim == 2}
        yield dataclasses.replace(batch, **cut)


def assert_equal(
    objective: ga.BaseObjective, batch: ga.Batch | ga.PreferenceBatch, outputs: tuple[Tensor, ...]
) -> None:
    """Value and gradient of the objective, to 1e-12."""
    expected = objective.gradient(batch)
    loss, *found = outputs
    torch.testing.assert_close(loss, objective(batch).loss.detach(), rtol=1e-12, atol=1e-12)
    for x, y in zip(found, expected if isinstance(expected, ga.PairGradient) else (expected,), strict=True):
        torch.testing.assert_close(x[:, : y.shape[1]], y, rtol=1e-12, atol=1e-12)
        assert not x[:, y.shape[1] :].any()


@pytest.mark.parametrize("name", members.coupled())
def test_what_couples_the_responses_to_a_prompt_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="couples the responses to one prompt"):
        ga.ops.export(ga.recipes.get(name))


@pytest.mark.parametrize("name", COMPARING)
def test_measures_of_lengths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no argument that holds these"):
        ga.ops.export(ga.recipes.get(name))


@pytest.mark.parametrize("name", [n for n in ga.recipes.names() if n not in members.coupled() + COMPARING])
def test_a_recipe_has_the_same_value_and_gradient(name: str) -> None:
    """Alone, traced once more, and under vmap over a leading axis of batches with counts of their own."""
    objective = ga.recipes.get(name)
    function = exported(objective)
    calls_torch_alone(function)
    for batch in sizes(objective):
        assert_equal(objective, batch, function(**ga.ops.arguments(function, objective, batch)))
    several = [whole(objective, seed) for seed in range(3)]
    given = [ga.ops.arguments(function, objective, batch) for batch in several]
    assert_equal(objective, several[0], fx.symbolic_trace(function)(**given[0]))
    stacked = {name: torch.stack([x[name] for x in given]) for name in given[0]}
    outputs = torch.func.vmap(lambda kwargs: function(**kwargs))(stacked)
    for k, batch in enumerate(several):
        assert_equal(objective, batch, tuple(x[k] for x in outputs))


def calls_torch_alone(function: fx.GraphModule) -> None:
    for node in function.graph.nodes:
        assert node.op in ("placeholder", "call_function", "call_method", "output")
        if node.op == "call_function":
            assert (node.target.__module__ or "torch").split(".")[0] in ("torch", "_operator", "builtins")
            assert not isinstance(node.target, torch._ops.OpOverload), f"{node.target} is not in the words of torch"
    assert "geomalign" not in ga.ops.source(function)


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_has_the_same_value_and_gradient(name: str) -> None:
    objective = SUMS[name]
    function = exported(objective)
    for batch in sizes(objective):
        assert_equal(objective, batch, function(**ga.ops.arguments(function, objective, batch)))


PARTS = [
    part
    for kind, parts in members.SLOTS.items()
    if kind is not ga.Divergence
    for part in parts
    if not any(part is one for one in members.GROUP_OPTIMIZATION + members.LENGTH_MEASURES)  # refused
    if getattr(part, "locality", None) is not Locality.GROUP or isinstance(part, ga.Unit)  # refused, of sampling
]


@pytest.mark.parametrize("part", PARTS, ids=members.ident)
def test_a_part_has_the_same_value_and_gradient(part: object) -> None:
    """Every member of every slot, whatever it computes with."""
    slots = {"unit": ga.Unit, "chart": ga.Chart, "optimization": ga.OptimizationGeometry, "measure": ga.Measure}
    slots |= {"sampling": ga.SamplingGeometry, "offset": ga.Offset}
    slot = next(name for name, kind in slots.items() if isinstance(part, kind))
    given = {"unit": ga.Token(), "sampling": ga.GroupAdvantage(), "optimization": ga.ChiSquare(), slot: part}
    if getattr(part, "paired", False):
        given["sampling"] = ga.Label(0.3)
    objective = ga.Objective(**given)  # type: ignore[arg-type]
    batch = whole(objective)
    if isinstance(batch, ga.Batch) and isinstance(part, ga.Advantage):
        batch = dataclasses.replace(batch, advantage=batch.reward)
    function = exported(objective)
    assert_equal(objective, batch, function(**ga.ops.arguments(function, objective, batch)))


@pytest.mark.parametrize("name", FEW)
def test_torch_export_with_sizes_that_change(name: str) -> None:
    objective = ga.recipes.get(name)
    function = exported(objective)
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    given = ga.ops.arguments(function, objective, whole(objective))
    dynamic = {k: None if k == "counts" else dict(enumerate((rows, tokens)[: x.ndim])) for k, x in given.items()}
    program = torch.export.export(function, (), given, dynamic_shapes=dynamic).module()
    batch = whole(objective, 1)[:3]
    assert_equal(objective, batch, program(**ga.ops.arguments(function, objective, batch)))


@pytest.mark.parametrize("name", FEW)
def test_dynamo_takes_it_whole(name: str) -> None:
    objective = ga.recipes.get(name)
    function = exported(objective)
    compiled = torch.compile(function, backend="eager", fullgraph=True, dynamic=True)
    for batch in (whole(objective), whole(objective, 1)[:3]):
        assert_equal(objective, batch, compiled(**ga.ops.arguments(function, objective, batch)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_inductor_compiles_it(name: str) -> None:
    objective = ga.recipes.get(name)
    function = exported(objective)
    compiled = torch.compile(function, fullgraph=True, dynamic=True)
    for batch in (whole(objective), whole(objective, 1)[:3]):
        assert_equal(objective, batch, compiled(**ga.ops.arguments(function, objective, batch)))


def test_the_text_runs_where_this_library_cannot_be_imported(tmp_path: Path) -> None:
    cases = {}
    for name in FEW:
        objective = ga.recipes.get(name)
        function = exported(objective)
        (tmp_path / f"{name}.py").write_text(ga.ops.source(function, name))
        given = ga.ops.arguments(function, objective, whole(objective))
        cases[name] = (given, function(**given))
    torch.save(cases, tmp_path / "cases.pt")
    code = (
        "import sys; sys.modules['geomalign'] = None\n"
        "import importlib, torch\n"
        "for name, (given, expected) in torch.load('cases.pt').items():\n"
        "    found = getattr(importlib.import_module(name), name)(**given)\n"
        "    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True)), name\n"
        "    print(name)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.split() == FEW, run.stderr


def test_it_can_be_pickled() -> None:
    function = exported(ga.recipes.opo())
    given = ga.ops.arguments(function, ga.recipes.opo(), whole(ga.recipes.opo()))
    assert torch.equal(pickle.loads(pickle.dumps(function))(**given)[1], function(**given)[1])


def test_micro_batches_add_up() -> None:
    """Drive and counts of the whole come in as arguments, so that parts are parts of one loss."""
    objective = ga.recipes.grpo(beta=0.04)
    function, batch = exported(objective), whole(objective)
    drive, counts = objective.drive(batch), batch.counts()
    parts = [
        function(**ga.ops.arguments(function, objective, batch[rows], drive[rows], counts))
        for rows in (slice(0, 5), slice(5, None))
    ]
    assert_equal(objective, batch, (parts[0][0] + parts[1][0], torch.cat([parts[0][1], parts[1][1]])))


def test_tokens_may_have_drives_of_their_own() -> None:
    objective = ga.recipes.ppo()
    batch = whole(objective)
    assert isinstance(batch, ga.Batch)
    batch = dataclasses.replace(batch, advantage=torch.randn(batch.policy.shape))
    function = exported(objective)
    assert_equal(objective, batch, function(**ga.ops.arguments(function, objective, batch)))
    same = dataclasses.replace(batch, advantage=batch.reward)
    given = ga.ops.arguments(function, objective, same)
    assert given["drive"].ndim == 1
    spread = given | {"drive": given["drive"][:, None].expand(batch.policy.shape)}
    assert torch.equal(function(**given)[1], function(**spread)[1])


def test_types_are_converted() -> None:
    """Half-precision log-probabilities, masks of any type, and integer drives; the result is of the exported type."""
    objective = ga.recipes.dapo()
    function = exported(objective, torch.float32)
    batch = whole(objective)
    given = ga.ops.arguments(function, objective, batch)
    half = given | {k: given[k].bfloat16() for k in ("policy", "old")}
    half |= {"mask": given["mask"].long(), "drive": given["drive"].sign().long()}
    single = half | {k: half[k].float() for k in ("policy", "old", "mask", "drive")}
    assert all(torch.equal(x, y) for x, y in zip(function(**half), function(**single), strict=True))
    assert [x.dtype for x in function(**half)] == [torch.float32] * 2


def test_outputs_carry_no_graph() -> None:
    """The gradient is an output; the loss differentiated once more would be that of a formula without its constants."""
    objective = ga.recipes.cispo()
    function = exported(objective)
    given = ga.ops.arguments(function, objective, whole(objective))
    given["policy"].requires_grad_()
    loss, gradient = function(**given)
    assert not loss.requires_grad and not gradient.requires_grad
    given["policy"].backward(gradient)
    assert torch.equal(given["policy"].grad, gradient)


def test_what_nothing_uses_is_no_argument() -> None:
    names = lambda name: [n.target for n in exported(ga.recipes.get(name)).graph.nodes if n.op == "placeholder"]  # noqa: E731
    assert names("reinforce") == ["policy", "mask", "drive", "counts"]
    assert names("dapo") == ["policy", "old", "mask", "drive", "counts"]
    assert names("gmpo") == ["policy", "old", "mask", "drive_1", "drive_2", "counts"]
    assert names("simpo") == ["chosen", "rejected", "chosen_mask", "rejected_mask", "counts"]


@dataclasses.dataclass(frozen=True)
class Deciding(ga.Chart):
    """A chart that looks at its numbers."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return log_ratio if log_ratio.max() > 0 else 2 * log_ratio

    def inverse(self, u: Tensor) -> Tensor:
        return u


def test_what_cannot_be_traced_is_refused() -> None:
    objective = dataclasses.replace(ga.recipes.opo(), chart=Deciding())
    with pytest.raises(ValueError, match=r"cannot be traced.*write it with torch\.where"):
        ga.ops.export(objective)


def test_what_a_batch_lacks_is_named() -> None:
    objective = ga.recipes.dpo()
    pairs = ga.PreferenceBatch(*torch.zeros(2, 2, 3))
    with pytest.raises(
        ValueError, match="needs reference_chosen, reference_rejected, which this PreferenceBatch lacks"
    ):
        ga.ops.arguments(exported(objective), objective, pairs)


# ----------------------------------------------------------------------------------------- weighted cross-entropy


@pytest.mark.parametrize("name", FEW)
def test_a_step_on_weighted_cross_entropy_is_a_step_on_the_objective(name: str) -> None:
    """An engine that knows Σ w · (−log π) alone trains the objective, for as many steps as the weights are renewed."""
    objective = ga.recipes.get(name)
    fixed = whole(objective)
    fields = ("chosen", "rejected") if objective.paired else ("policy",)
    vocabulary, tokens = 11, {field: torch.randint(11, getattr(fixed, field).shape) for field in fields}
    drive = objective.drive(fixed)

    def batch(logits: Tensor) -> ga.Batch | ga.PreferenceBatch:
        return dataclasses.replace(
            fixed, **{f: logits.log_softmax(-1)[tokens[f].flatten()].view(tokens[f].shape) for f in fields}
        )

    models = [torch.zeros(vocabulary, requires_grad=True) for _ in range(2)]
    optimizers = [torch.optim.SGD([model], lr=0.5) for model in models]
    for _ in range(3):
        seen = batch(models[1])
        weights = ga.ops.cross_entropy_weights(objective, seen, drive)
        both = weights if isinstance(weights, ga.PairGradient) else (weights,)
        losses = (
            objective(batch(models[0]), drive).loss,
            sum(-(w.detach() * getattr(seen, f)).sum() for f, w in zip(fields, both, strict=True)),
        )
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(*models, rtol=1e-12, atol=1e-14)
    assert models[0].abs().max() > 1e-3


def test_weights_serve_a_whole_rollout_where_the_policy_does_not_enter() -> None:
    kept = set()
    for name in ga.recipes.names():
        objective = ga.recipes.get(name)
        batch = whole(objective)
        names = ("chosen", "rejected") if objective.paired else ("policy",)
        later = dataclasses.replace(batch, **{n: (x := getattr(batch, n)) - 0.1 * torch.rand_like(x) for n in names})
        both = [ga.ops.cross_entropy_weights(objective, b) for b in (batch, later)]
        if all(map(torch.equal, *(w if isinstance(w, ga.PairGradient) else (w,) for w in both))):
            kept.add(name)
    known = {name for name in ga.recipes.names() if ga.recipes.get(name).locality is ga.Locality.ROLLOUT}
    # Two more have no gradient that changes on these batches: no k answers to a prompt, and margins inside the hinge.
    assert kept == known | {"pass_at_k", "slic"} and "reinforce" in known
