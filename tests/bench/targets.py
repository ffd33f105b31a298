"""What the benchmark must show, as one list: where a figure is found among the records, and how good it must be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Case = Any


@dataclass(frozen=True)
class Figure:
    """A median with quartiles; NaN quartiles where there are no rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Records:
    """The records of a run, in their order."""

    def __init__(self, records: Sequence[Case]):
        self._records = records

    def __iter__(self) -> Iterator[Case]:
        return iter(self._records)

    def of(self, case: str, **size: int) -> list[Case]:
        """Records of this case and size on one thread that were measured for a target, the largest last."""
        found = [
            r
            for r in self._records
            if r["case"] == case and r["threads"] == 1 and all(r["size"].get(k) == v for k, v in size.items())
        ]
        return sorted(found, key=lambda r: r["size"].get("tokens", 0))


def faster(case: Case, ours: str, peer: str) -> Figure:
    """How many times as long as ours the peer takes, round by round."""
    clock = "cpu" if case["threads"] == 1 else "wall"
    return _middle([b / a for a, b in zip(case["methods"][ours][clock], case["methods"][peer][clock])])


def extra(case: Case, method: str) -> float:
    """Extra memory in MiB."""
    return float(case["methods"][method]["peak"])


def _middle(values: Sequence[float]) -> Figure:
    if len(values) < 2:
        return Figure(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, low, high)


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Args:
        what: is measured.
        against: which peer, empty where the figure stands for itself.
        find: records → the figure; None where it was not measured.
        limit: what it must reach, or must not exceed.
        most: whether the limit is the most that it may be.
        unit: behind numbers.
        bound: why it cannot be met, for the page.
    """

    what: str
    against: str
    find: Callable[[Records], Figure | None]
    limit: float
    most: bool = False
    unit: str = "×"
    bound: str = ""

    @property
    def wanted(self) -> str:
        return f"{'≤' if self.most else '≥'} {_number(self.limit)}{self.unit}"

    def met(self, figure: Figure) -> bool:
        return figure.value <= self.limit if self.most else figure.value >= self.limit

    def shown(self, figure: Figure) -> str:
        alone = figure.low == figure.high
        spread = "" if alone else f" [{_number(figure.low)}, {_number(figure.high)}]"
        return f"{_number(figure.value)}{self.unit}{spread}"


def _number(x: float) -> str:
    return f"{x:.1e}" if 0 < abs(x) < 1e-3 else f"{x:.3g}"


def _ratio(case: str, ours: str, peer: str, **size: int) -> Callable[[Records], Figure | None]:
    def find(records: Records) -> Figure | None:
        found = [r for r in records.of(case, **size) if ours in r["methods"] and peer in r["methods"]]
        return faster(found[-1], ours, peer) if found else None

    return find


def _objective_memory(method: str) -> Callable[[Records], Figure | None]:
    """In tensors of one float32 per token."""

    def find(records: Records) -> Figure | None:
        found = [r for r in records.of("objective dapo") if "peak" in r["methods"][method]]
        if not found:
            return None
        value = extra(found[-1], method) / (found[-1]["per"] * 4 / 2**20)
        return Figure(value, value, value)

    return find


def _head_memory(vocabulary: int, method: str) -> Callable[[Records], Figure | None]:
    """In units of the gradients that are returned."""

    def find(records: Records) -> Figure | None:
        found = [r for r in records.of("head", vocabulary=vocabulary) if "peak" in r["methods"][method]]
        if not found:
            return None
        size = found[-1]["size"]
        gradients = (size["vocabulary"] + size["tokens"]) * size["hidden"] * 4 / 2**20
        value = extra(found[-1], method) / gradients
        return Figure(value, value, value)

    return find


def _difference(case: str, methods: Sequence[str]) -> Callable[[Records], Figure | None]:
    """The largest of those recorded."""

    def find(records: Records) -> Figure | None:
        found = [
            m["difference"]
            for r in records
            if r["case"].startswith(case)
            for name, m in r["methods"].items()
            if name in methods
        ]
        return Figure(max(found), max(found), max(found)) if found else None

    return find


def _spread(records: Records) -> Figure | None:
    """The slowest objective through the head over the fastest, round by round."""
    found = records.of("objectives through the head")
    if not found:
        return None
    rounds = zip(*(method["cpu"] for method in found[-1]["methods"].values()))
    medians = [statistics.median(method["cpu"]) for method in found[-1]["methods"].values()]
    middle = _middle([max(times) / min(times) for times in rounds])
    return Figure(max(medians) / min(medians), middle.low, middle.high)


def _growth(records: Records) -> Figure | None:
    """The cost of a token among the most tokens over the least that it is among fewer."""
    costs = [
        (r["per"], statistics.median(r["methods"]["geomalign"]["cpu"]) / r["per"])
        for r in records.of("objective in tokens")
    ]
    if len(costs) < 2:
        return None
    value = max(costs)[1] / min(cost for _, cost in costs)
    return Figure(value, value, value)


_EAGER, _COMPILED, _EXPORTED = "geomalign", "geomalign, compiled", "geomalign, exported and compiled"
_TRL, _VERL = "TRL's formula", "verl, with its metrics"
_NODE = (
    "Compiled under autograd: the backward pass multiplies the gradient that the node keeps by that of the loss, one "
    "more pass over all tokens, which the exported function does not need because its gradient is a result."
)
_PASSES = (
    "Compiled: the least that a pass over three inputs and one output can cost, with one exponential per token, is "
    "some 0.75 ns per token; an int64 mask and the page faults of a fresh 4 MiB result come on top, for every method."
)
_FOUR, _THREE, _TWO = (f"geomalign, {count} products" for count in (4, 3, 2))


def _objective() -> list[Target]:
    name = "dapo, value and gradient, 512 × 2048"
    made = []
    for method, word, trl, verl, bound in (
        (_EAGER, "eager", 1.2, 3.0, ""),
        (_COMPILED, "compiled", 8.0, 25.0, _NODE),
        (_EXPORTED, "exported and compiled", 8.0, 25.0, _PASSES),
    ):
        for peer, against, limit in ((_TRL, "TRL's dapo, eager", trl), (_VERL, "verl's vanilla, eager", verl)):
            find = _ratio("objective dapo", method, peer, tokens=2048)
            made.append(Target(f"{name}, {word}", against, find, limit, bound=bound))
    made.append(Target("its extra memory, eager", "one float32 per token", _objective_memory(_EAGER), 4.0, most=True))
    for method, word in ((_COMPILED, "compiled"), (_EXPORTED, "exported and compiled")):
        find = _objective_memory(method)
        made.append(Target(f"its extra memory, {word}", "one float32 per token", find, 1.1, most=True))
    return made


def _projection() -> list[Target]:
    made = []
    for groups, size, limit in ((64, 8, 15.0), (1024, 16, 4.0), (4096, 64, 1.4)):
        find = _ratio("bounded projection", "geomalign", "bisection", groups=groups, size=size)
        made.append(Target(f"bounded projection, {groups} × {size}", "40-step bisection", find, limit))
    for dtype, limit in (("float32", 2e-5), ("float64", 1e-13)):
        find = _difference("sum of the projection", [f"geomalign, {dtype}"])
        made.append(Target(f"its largest \\|Σv\\|, {dtype}", "", find, limit, most=True, unit=""))
    for groups, size in ((64, 8), (1024, 16), (4096, 64)):
        for alpha in (1.5, 1.3):
            find = _ratio(f"entmax {alpha}", "geomalign", "entmax_bisect", groups=groups, size=size)
            made.append(Target(f"α-entmax, α = {alpha}, {groups} × {size}", "entmax_bisect", find, 5.0))
    return made


def _head() -> list[Target]:
    made = []
    for vocabulary in (32768, 131072):
        where = f"V = {vocabulary}"
        for what, case, method, peers in (
            ("head, 4 products", "head", _FOUR, {"TRL": 1.5, "torch": 1.3, "Liger": 1.1}),
            ("head, 3 products", "head", _THREE, {"TRL": 2.0, "Liger": 1.4, "all logits": 1.0}),
            ("frozen head, 2 products", "frozen head", _TWO, {"TRL": 2.5, "Liger": 1.5}),
        ):
            for peer, limit in peers.items():
                find = _ratio(case, method, peer, vocabulary=vocabulary)
                made.append(Target(f"{what}, {where}", peer, find, limit))
        find = _head_memory(vocabulary, _FOUR)
        made.append(Target(f"its peak, 4 products, {where}", "the gradients returned", find, 1.5, most=True))
    made.append(Target("slowest over fastest objective through the head", "", _spread, 1.05, most=True, unit=""))
    return made


TARGETS = (
    *_objective(),
    *_projection(),
    *_head(),
    Target("a training step", "TRL's GRPOTrainer", _ratio("training step", "geomalign train", "TRL GRPOTrainer"), 1.5),
    Target(
        "gradient of an objective in float32",
        "float64",
        _difference("gradient of", (_EAGER, _COMPILED, _EXPORTED)),
        1e-6,
        most=True,
        unit="",
    ),
    Target(
        "gradient through the head in float32",
        "all logits, float64",
        _difference("gradient through", (_FOUR, _THREE, _TWO)),
        1e-6,
        most=True,
        unit="",
    ),
    Target("cost of a token among 2²² over the least among fewer", "", _growth, 1.2, most=True, unit=""),
)
