"""Write docs/identify: what `identify` reads off every recipe's loss, and off the losses of other libraries.

python docs/identify_pages.py               index.md, reports.md and figures, from the recipes
python docs/identify_pages.py --check       fail if index.md is not what the recipes say
python docs/identify_pages.py --of trl      trl.md, where TRL is installed (tests/parity/environments.sh); also:
verl
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import geomalign as ga
from geomalign import recipes
from geomalign.analysis.identification import Identification, as_loss, identify
from geomalign.recipes.rewards import groups

HERE = Path(__file__).resolve().parent / "identify"
MADE = "<!-- Made by docs/identify_pages.py. -->\n"
FIGURES = ("grpo", "dpo", "opo", "gopo", "chi_po", "sapo")

PROBED: dict[str, tuple[float, tuple[float, float]]] = {"orpo": (-4.0, (-8.0, 3.9))}
"""The events' log-probability under the anchor, and the log-ratios probed: log-odds need a probability below one."""

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "Their event is a whole group, of which a loss of one response shows nothing, and of two responses a part": (
        *groups.__all__,
        "amir_grpo",
        "disco",
        "gvpo",
    ),
    "Their weight or mask without gradient is none that has a name here, or has walls that depend on the batch": (
        *("aspo", "bapo", "ce_gppo", "fipo", "gepo", "gppo", "prime_ipo", "rec", "softmax_ppo"),
    ),
    "They weigh a token by its probability, and one probability is probed": ("chord_phi", "dft", "tr_grpo"),
    "Their potential or their mask has no name here": ("f_grpo", "nft", "opd"),
    "It needs a second mask, and an event of one token has one": ("echo",),
    "It has a term for each sign of the advantage, which of one token are PPO's walls": ("gmpo",),
}
"""Recipes whose loss of one event does not give back their own slots, by the reason."""

INDEX = r"""# What the loss alone tells

What [`identify`](../api/analysis.md) reads off the *loss alone* of every recipe: values and gradients of one event, as
a function of its log-ratio and its drive (of two log-ratios for pairs), without a look at the slots. The full reports
are [here](reports.md). The same was done to the loss functions of [TRL](trl.md) and [verl](verl.md).

{own} of the {count} recipes of the catalogue give back the geometry of their own slots: {plain} one chart and one
potential, {parts} a sum whose terms are named one by one or a potential of the preference probability, {weights} a
weight without gradient that is told from what it weighs. `tests/test_identify.py` compares each with the recipe's
slots, and the names' gradients with the recipe's closed form. A name is given only where the gradient that it predicts
is that of the loss to a relative 1e-8 at points that no fit has seen. The other {rest} do not give back their own
slots:

{elsewhere}

A dash in the table says that no name was found; what `identify` says of a recipe that it cannot read is in the reports.

*Where*: the log-ratios on which the names hold, if not all that were looked at. *Push at +∞*, *at −∞*: how the force of
a drive of +1 (of its own label for pairs) behaves as the log-ratio grows without bound.

## What no loss can tell

Two sets of slots with the same value and the same gradient at every event cannot be told apart by any probe. That
leaves these names open; where a choice has to be made it is stated.

1. **A factor.** $c\,[\varphi(u)-g\,u]=(c\varphi)(u)-(cg)\,u$, and $\varphi(ku)-g\,ku=\varphi_k(u)-(kg)\,u$ with
   $\varphi_k(u)=\varphi(ku)$: of coefficient, scale of the chart and strength of the drive only the products are seen.
   `sppo` at weight 2 reads as a stiffness of 4, `bco` as twice a logistic, `a2po` as `ChiSquare(2e-6)` in `LogRatio()`.
2. **A potential that is linear in its coordinate**, or a box that a bounded coordinate never leaves, is a drive:
   $\varphi(u)=cu$ and $g=-c$ have one energy. `kto` and `apo_zero` read as `Flat()`.
3. **A linear term of a pair.** $h(u^+-u^-)+c\,(u^+-u^-)-c\,u^++c\,u^-=h(u^+-u^-)$ for every $c$. It is put where a term
   vanishes: `cpo` has no term of the rejected response, so its likelihood is one of the chosen.
4. **A factor |g| under a label of one strength** is a number: `wpo`'s `AdvantageScaled` reads as the logistic that it
   weighs.
5. **What differs only between events.** The event probed has one token and one response: a sum, a mean and a geometric
   mean of one token are the same number, and so are a clamp before a mean and one after (`gmpo` reads as PPO's clip
   with walls in nats). Ranks in a batch (`aot`, `aot_unpaired`) do not show in a batch of one. `dppo`'s mask is of
   $|\pi-\pi_k|=\pi_k|t-1|$, read where $\pi_k=1$.
6. **The sampling before the drive.** Advantages, baselines and escort weights are computed before the loss is called.
   What follows the policy while it trains, the weight $\operatorname{{sg}}[w]$ of an energy $E$, is seen: the value is
   $wE$ and the force $wE'$, their ratio $E/E'$ determines $E$ up to a factor, and the value then $w$.

| recipe | chart | potential | drive | coupled | convex | push at −∞ | push at +∞ | where |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def read(name: str) -> Identification | str:
    """The report of a recipe, or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ga.UnboundedLossWarning)
        objective = recipes.get(name)
        try:
            log_prob, domain = PROBED.get(name, (0.0, (-30.0, 30.0)))
            kind = "pair" if objective.paired else "advantage"
            return identify(as_loss(objective, log_prob=log_prob), kind=kind, domain=domain)
        except ValueError as error:
            return str(error)


def row(name: str, report: Identification | str) -> str:
    if isinstance(report, str):
        return f"| [`{name}`](reports.md#{anchor(name)}) | not read | | | | | | | |"
    found = report.recognised
    potential = "—" if found.optimization is None else f"`{found.optimization!r}`"
    if found.penalty is not None:
        potential += f" and `{found.penalty!r}` in `{found.penalty_chart!r}`"
    chart = "—" if found.chart is None else f"`{found.chart!r}`"
    drive = report.drive_formula or "a function of A"
    if found.parts:
        units = [re.sub(r"(of=Sequence\(\)|margin=0\.0)(, )?", "", repr(part.unit)) for part in found.parts]
        chart = "; ".join(f"`{unit}` in `{part.chart!r}`" for unit, part in zip(units, found.parts))
        potential = "; ".join(f"`{part.optimization!r}`" for part in found.parts)
        drive = "; ".join(f"{part.drive:.6g}" for part in found.parts)
    if found.weight is not None:
        drive += f", weighted by `{found.weight!r}`"
    if found.shift:
        potential += f", shifted by {found.shift:g}"
    low, high = report.saturation.get(1.0) or next(iter(report.saturation.values()))
    coupled = "no"
    if report.coupling.coupled:
        coupled = (
            "no difference of charts" if report.kind == "pair" else "by sign" if report.coupling.by_sign else "by size"
        )
    cells = (
        f"[`{name}`](reports.md#{anchor(name)})",
        chart,
        potential,
        drive,
        coupled,
        {True: "yes", False: "**no**", None: "no chart"}[report.convex],
        mathematics(str(low)),
        mathematics(str(high)),
        ""
        if found.chart is None or found.window.high - found.window.low >= 24
        else f"{found.window.low:.4g} < Δ < {found.window.high:.4g}",
    )
    return "| " + " | ".join(cells) + " |"


def mathematics(text: str) -> str:
    return text.replace("|x|^1", "|x|").replace("|", "\\|").replace("~ ", "")


def anchor(name: str) -> str:
    return name.replace("_", "-")


def portable(text: str) -> str:
    """Residuals to the next decade: their digits differ between machines."""
    return re.sub(r"residual (\S+?)\)", lambda m: "residual below 1e-9)" if float(m[1]) < 1e-9 else m[0], text)


def names(page: str) -> list[list[str]]:
    """The cells of the table up to *convex*: what does not depend on a machine's rounding."""
    return [line.split(" | ")[:6] for line in page.splitlines() if line.startswith("| [`")]


def section(title: str, report: Identification | str) -> str:
    body = portable(report.summary()) if isinstance(report, Identification) else report
    return f"## {title}\n\n```text\n{body}\n```\n"


def index(reports: dict[str, Identification | str]) -> str:
    drawn = "\n".join(f"![{name}](figures/{name}.png)\n" for name in FIGURES if name in reports)
    tree = "```{toctree}\n:hidden:\nreports\ntrl\nverl\n```\n"
    lines = "\n".join(row(name, report) for name, report in reports.items())
    apart = [name for those in ELSEWHERE.values() for name in those]
    own = [r.recognised for n, r in reports.items() if isinstance(r, Identification) and n not in apart]
    parts = sum(bool(found.parts) for found in own)
    weights = sum(found.weight is not None for found in own)
    reasons = "\n".join(f"* {why}: {', '.join(f'`{n}`' for n in sorted(those))}." for why, those in ELSEWHERE.items())
    words = INDEX.format(
        count=len(reports),
        own=len(own),
        plain=len(own) - parts - weights,
        parts=parts,
        weights=weights,
        rest=len(reports) - len(own),
        elsewhere=reasons,
    )
    return f"{MADE}\n{words}{lines}\n\n{drawn}\n{tree}"


# ------------------------------------------------------------------------------------------- other libraries


def as_event(loss: Callable[[ga.Batch], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def event(log_ratio: Tensor, advantage: Tensor) -> Tensor:
        zero = torch.zeros_like(log_ratio)[:, None]
        return loss(ga.Batch(log_ratio[:, None], zero, torch.ones_like(zero), None, advantage, zero, None, zero))

    return event


def as_pair(loss: Callable[[ga.PreferenceBatch], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def pair(chosen: Tensor, rejected: Tensor) -> Tensor:
        anchor = torch.full_like(chosen, -4.0)[:, None]
        return loss(ga.PreferenceBatch(chosen[:, None] - 4, rejected[:, None] - 4, anchor, anchor))

    return pair


def trl() -> Iterator[tuple[str, Callable[[], Identification]]]:
    from tests.parity.implementations.trl import TRL

    trl = TRL()
    for options in (
        {"loss_type": "grpo"},
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"loss_type": "grpo", "delta": 3.0},
        {"loss_type": "grpo", "beta": 0.04},
        {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"loss_type": "sapo"},
    ):
        title = "GRPOTrainer, " + ", ".join(f"{k}={v!r}" for k, v in options.items())
        yield title, lambda o=options: identify(as_event(trl.loss("GRPOTrainer", **o)))
    for kind in ("sigmoid", "ipo", "hinge", "robust", "sppo_hard", "apo_zero", "nca_pair", "discopop"):
        yield (
            f"DPOTrainer, loss_type={kind!r}",
            lambda k=kind: identify(as_pair(trl.loss("DPOTrainer", loss_type=k)), kind="pair", domain=(-8.0, 3.9)),
        )


def verl() -> Iterator[tuple[str, Callable[[], Identification]]]:
    from tests.parity.implementations.verl import Verl

    for mode in ("vanilla", "gspo", "clip_cov", "geo_mean", "cispo", "sapo", "gpg", "dppo_tv"):
        yield f"policy loss {mode!r}", lambda m=mode: identify(as_event(Verl().loss(m)))


OTHERS = {
    "trl": (
        trl,
        "TRL's `_compute_loss` was called with log-probabilities in place of a forward pass; nothing of its formulas "
        "was read.\n\nTwo findings. The KL penalty of GRPO (`beta`) is the k3 estimate *times the ratio* unless "
        "`use_bias_correction_kl=False`: read off, it is `KL(beta)` in the ratio chart, the KL penalty of PPO, and "
        "convex; without the correction it is `ReverseKL(beta)` in the log-ratio, whose sum with a driven ratio is not "
        "convex in the ratio. And the value of `cispo` is not the integral of its force: a stop-gradient, whose weight "
        "is told from the plain log-ratio that it weighs.",
    ),
    "verl": (
        verl,
        "verl's registered policy losses were called with its own `ActorConfig` at its defaults.\n\nFindings. "
        "`vanilla` clamps the log-ratio at ±20 nats, `gspo` at 10: the gradient of a negative advantage dies there, "
        "which reads as a dual clip at e¹⁰ for `gspo`. `vanilla` has the dual clip at 3 by default, `clip_cov` has "
        "none. `geo_mean` clips the log-ratio at ±0.2, not the ratio; 1e-8 in a denominator leaves it 1e-8 beside a "
        "name, so it gets none. `dppo_tv` caps its weight at 3, which is `clip_ratio_c`.",
    ),
}


def write_other(name: str) -> None:
    import importlib.metadata

    cases, words = OTHERS[name]
    sections = []
    for title, report in cases():
        try:
            sections.append(section(title, report()))
        except (ValueError, TypeError) as error:
            sections.append(section(title, str(error)))
        print(title, flush=True)
    version = importlib.metadata.version(name)
    title = {"trl": "TRL", "verl": "verl"}[name]
    text = f"{MADE}\n# {title}, identified\n\n{title} {version}. {words}\n\n" + "\n".join(sections)
    (HERE / f"{name}.md").write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--of", choices=sorted(OTHERS))
    arguments = parser.parse_args()
    HERE.mkdir(exist_ok=True)
    if arguments.of:
        write_other(arguments.of)
        return 0
    reports = {name: read(name) for name in recipes.names()}
    page = index(reports)
    target = HERE / "index.md"
    if arguments.check:
        same = names(target.read_text(encoding="utf-8")) == names(page)
        print(
            "docs/identify/index.md is "
            + ("current" if same else "not what the recipes say: run docs/identify_pages.py")
        )
        return 0 if same else 1
    from geomalign import plotting

    for name in FIGURES:
        report = reports[name]
        assert isinstance(report, Identification)
        plotting.identification(report, HERE / "figures" / f"{name}.png", title=name)
    target.write_text(page, encoding="utf-8")
    body = "\n".join(section(name, report) for name, report in reports.items())
    (HERE / "reports.md").write_text(f"{MADE}\n# Reports\n\n{body}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
