"""What follows from four methods, or from a plain function: conjugate, equilibrium and domain against closed forms."""

import math
from collections.abc import Callable
from typing import NamedTuple

import members
import pytest
import torch
from torch import Tensor

import geomalign as ga

softplus = torch.nn.functional.softplus


def sech2(u: Tensor) -> Tensor:
    e = torch.exp(-2 * u.abs())
    return 4 * e / (1 + e) ** 2


def clamped(u: Tensor) -> Tensor:
    return u.clamp(-1, 1)


class Known(NamedTuple):
    """A potential, its two derivatives, and what must follow from them."""

    value: Callable[[Tensor], Tensor]
    mirror: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]
    equilibrium: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    drives: tuple[float, float]


def entropy(p: Tensor) -> Tensor:
    return (torch.special.xlogy(1 + p, 1 + p) + torch.special.xlogy(1 - p, 1 - p)) / 2


KNOWN: dict[str, Known] = {
    "log cosh": Known(
        lambda u: u.abs() + softplus(-2 * u.abs()) - math.log(2), torch.tanh, sech2, torch.atanh, entropy, (-1, 1)
    ),
    "Huber": Known(
        lambda u: torch.where(u.abs() < 1, u**2 / 2, u.abs() - 0.5),
        clamped,
        lambda u: (u.abs() < 1).to(u.dtype),
        clamped,
        lambda g: g**2 / 2,
        (-1, 1),
    ),
    "pseudo-Huber": Known(
        lambda u: 0.7 * (torch.sqrt(1 + u**2) - 1),
        lambda u: 0.7 * u / torch.sqrt(1 + u**2),
        lambda u: 0.7 * (1 + u**2) ** -1.5,
        lambda g: g / torch.sqrt(0.49 - g**2),
        lambda g: 0.7 - torch.sqrt((0.49 - g**2).clamp(min=0)),
        (-0.7, 0.7),
    ),
    "softplus": Known(
        softplus,
        torch.sigmoid,
        lambda u: torch.sigmoid(u) * torch.sigmoid(-u),
        torch.logit,
        lambda g: torch.special.xlogy(g, g) + torch.special.xlogy(1 - g, 1 - g),
        (0, 1),
    ),
    "quartic": Known(
        lambda u: u**4 / 4,
        lambda u: u**3,
        lambda u: 3 * u**2,
        lambda g: torch.sign(g) * g.abs() ** (1 / 3),
        lambda g: 3 / 4 * g.abs() ** (4 / 3),
        (-math.inf, math.inf),
    ),
    "cosh": Known(
        lambda u: 4 * (torch.cosh(u) - 1),
        lambda u: 4 * torch.sinh(u),
        lambda u: 4 * torch.cosh(u),
        lambda g: torch.asinh(g / 4),
        lambda g: g * torch.asinh(g / 4) - 4 * (torch.sqrt(1 + g**2 / 16) - 1),
        (-math.inf, math.inf),
    ),
    "linear": Known(
        lambda u: 2 * u,
        lambda u: torch.full_like(u, 2),
        torch.zeros_like,
        torch.zeros_like,
        torch.zeros_like,
        (2, 2),
    ),
    "logarithmic": Known(
        lambda u: u * torch.asinh(u) - torch.sqrt(1 + u**2) + 1,
        torch.asinh,
        lambda u: (1 + u**2) ** -0.5,
        torch.sinh,
        lambda g: torch.cosh(g) - 1,
        (-math.inf, math.inf),
    ),
}


class FourMethods(ga.BregmanGeometry):
    def __init__(self, name: str):
        self.known = KNOWN[name]

    def value(self, u: Tensor) -> Tensor:
        return self.known.value(u)

    def mirror(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.known.mirror(u)

    def curvature(self, u: Tensor, drive: Tensor | None = None) -> Tensor:
        return self.known.curvature(u)

    def latex(self, u: str, drive: str) -> str:
        return "\\varphi"


def made(name: str, how: str) -> ga.BregmanGeometry:
    return FourMethods(name) if how == "four methods" else ga.ConvexPotential(KNOWN[name].value)


WAYS = pytest.mark.parametrize("how", ["four methods", "a function"])


@WAYS
@pytest.mark.parametrize("name", KNOWN)
def test_conjugate_equilibrium_and_domain_follow(name: str, how: str) -> None:
    geometry, known = made(name, how), KNOWN[name]
    low, high = known.drives
    assert geometry.conjugate_domain.low == pytest.approx(low, rel=1e-12, abs=1e-12)
    assert geometry.conjugate_domain.high == pytest.approx(high, rel=1e-12, abs=1e-12)
    drive = torch.linspace(max(low, -3), min(high, 3), 13)
    torch.testing.assert_close(geometry.conjugate(drive), known.conjugate(drive), rtol=1e-7, atol=1e-7)
    inside = drive[1:-1]
    torch.testing.assert_close(geometry.equilibrium(inside), known.equilibrium(inside), rtol=1e-9, atol=1e-9)
    ends = drive[[0, -1]]
    assert torch.isfinite(geometry.equilibrium(ends)).all(), "an end is reached in floats"
    assert (geometry.force(geometry.equilibrium(ends), ends).abs() < 1e-13).all()
    outside = torch.tensor([x for x in (low - 0.1, high + 0.1, low - 1e3, high + 1e3) if math.isfinite(x)])
    assert (geometry.conjugate(outside) == math.inf).all()
    assert (geometry.equilibrium(outside) == torch.sign(outside - low) * math.inf).all()


@WAYS
@pytest.mark.parametrize("name", KNOWN)
def test_the_laws_hold(name: str, how: str) -> None:
    ga.laws.check_geometry(made(name, how), 1)


@WAYS
@pytest.mark.parametrize("name", KNOWN)
def test_in_float32_too(name: str, how: str) -> None:
    geometry, known = made(name, how), KNOWN[name]
    low, high = known.drives
    drive = torch.linspace(max(low, -3), min(high, 3), 13, dtype=torch.float32)
    found, exact = geometry.conjugate(drive), known.conjugate(drive.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1:-1].double(), exact[1:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KNOWN)
def test_the_derivative_of_the_conjugate_is_the_equilibrium(name: str) -> None:
    geometry = FourMethods(name)
    low, high = KNOWN[name].drives
    drive = torch.tensor([max(low, -2) - 1.5, (max(low, -2) + min(high, 2)) / 2 + 0.05 * (low < high)])
    drive.requires_grad_()
    (gradient,) = torch.autograd.grad(geometry.conjugate(drive)[1], drive)
    torch.testing.assert_close(gradient, torch.stack([torch.zeros(()), geometry.equilibrium(drive.detach())[1]]))


def test_a_formula_that_overflows_is_read_where_it_does_not() -> None:
    naive = ga.ConvexPotential(lambda u: torch.log(torch.cosh(u)))  # NaN from u = 711 on
    drive = torch.tensor([-1.5, -1.0, 0.5])
    torch.testing.assert_close(
        naive.conjugate(drive), torch.tensor([math.inf, math.log(2), float(entropy(torch.tensor(0.5)))])
    )


def test_a_wide_potential_is_told_from_one_that_grows() -> None:
    """A Huber loss whose bend lies at 1e5, and one that is as stiff as 1e-9."""
    wide = ga.ConvexPotential(lambda u: torch.where(u.abs() < 1e5, u**2 / 2, 1e5 * u.abs() - 5e9))
    assert wide.conjugate_domain.high == pytest.approx(1e5)
    soft = ga.ConvexPotential(lambda u: 1e-9 * u**2)
    assert soft.conjugate_domain == ga.Interval()


def test_sums_of_what_grows_like_a_logarithm_balance_far_out() -> None:
    """KL(0.01) + KL(0.02): u* = e^{g/0.03} − 1 = 3e14 for g = 1."""
    both = ga.KL(0.01) + ga.KL(0.02)
    drive = torch.tensor([-0.1, 1.0])
    torch.testing.assert_close(both.equilibrium(drive), torch.expm1(drive / 0.03), rtol=1e-9, atol=0)


def test_a_domain_bounds_the_root_and_not_the_drives() -> None:
    entropy = ga.ConvexPotential(lambda u: torch.xlogy(u, u) + torch.xlogy(1 - u, 1 - u), 0.0, 1.0)
    assert entropy.conjugate_domain == ga.Interval()
    drive = torch.tensor([-3.0, 0.0, 2.0])
    torch.testing.assert_close(entropy.equilibrium(drive), torch.sigmoid(drive))


def test_a_sum_with_a_clip_is_solved_in_the_same_way() -> None:
    bounded = ga.Clip() + ga.ConvexPotential(KNOWN["pseudo-Huber"].value)
    drive = torch.tensor([-2.0, 0.1, 2.0])
    torch.testing.assert_close(bounded.equilibrium(drive)[[0, 2]], torch.tensor([-0.2, 0.2]))
    assert bounded.force(bounded.equilibrium(drive), drive)[1].abs() < 1e-12


def test_the_three_spellings_of_kl_are_one_potential() -> None:
    u, drive = torch.linspace(-0.99, 5, 30), torch.linspace(-2, 2, 9)
    kl = ga.KL(0.3)
    for other in (ga.AlphaDivergence(1.0, 0.3), ga.FDivergence(ga.KullbackLeibler(), 0.3)):
        for name in ("value", "mirror", "curvature"):
            torch.testing.assert_close(getattr(other, name)(u), getattr(kl, name)(u), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(other.conjugate(drive), kl.conjugate(drive), rtol=1e-10, atol=1e-12)


WALLED = [
    (member, end, side)
    for member in (*members.BREGMAN, *members.LATER_OPTIMIZATION)
    if isinstance(member, ga.BregmanGeometry)
    for end, side in ((member.domain.low, -1.0), (member.domain.high, 1.0))
    if math.isfinite(end)
]


@pytest.mark.parametrize("member, end, side", WALLED, ids=str)
def test_beyond_its_domain_a_potential_goes_on_as_its_derivatives_say(
    member: ga.BregmanGeometry, end: float, side: float
) -> None:
    """Rounding may put a coordinate there; value, mirror and curvature still belong together by central differences."""
    u, h = end + side * torch.tensor([0.05, 0.5, 3.0]), 1e-3
    for function, derivative in ((member.value, member.mirror), (member.mirror, member.curvature)):
        difference = (function(u + h) - function(u - h)) / (2 * h)
        torch.testing.assert_close(derivative(u), difference, rtol=1e-5, atol=1e-8 * float(function(u).abs().max() + 1))


def test_the_curvature_of_plackett_luce_is_never_negative() -> None:
    """Where one response has all the probability, p − p² is rounding of either sign."""
    u, drive = 12 * torch.randn(2000, 4), torch.randn(2000, 4)
    assert bool((ga.optimization.PlackettLuce().curvature(u, drive) >= 0).all())


SCALED = (ga.Logistic(0.5), ga.Logistic(1.5), ga.Hinge(2.0), ga.ReverseKL(0.5), ga.ReverseKL(2.0), ga.KL(0.5))


@pytest.mark.parametrize(
    "member", [*members.OPTIMIZATION, *members.LATER_OPTIMIZATION, *map(ga.AdvantageScaled, SCALED)], ids=members.ident
)
def test_a_conjugate_is_finite_where_its_domain_says(member: ga.OptimizationGeometry) -> None:
    """Of |g|·φ with drives of ±1, say, that is where φ* is finite at ±1."""
    size = torch.tensor([0.01, 0.05, 0.3, 0.6, 0.9, 1.1, 1.5, 3.0, 50.0, 1e4])
    drive, domain = torch.cat([-size, torch.zeros(1), size]), member.conjugate_domain
    inside = (drive >= domain.low) & (drive <= domain.high)
    assert torch.equal(torch.isfinite(member.conjugate(drive)), inside)
