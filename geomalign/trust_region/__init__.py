r"""Solved instead of tuned: the stiffness from a trust region, α from an effective sample size, either held over a run.

`TrustRegion` and `EscortESS` are sampling geometries: pure, once a rollout, exact. They fix how far the *target* of a
step is. `Controlled` closes the loop: it measures how far the policy really moved and adapts the stiffness.
"""

from geomalign.trust_region.control import Annealed, Controlled, Controller, DualAscent
from geomalign.trust_region.effective import EscortESS
from geomalign.trust_region.region import TrustRegion, chi_square_stiffness, trust_region_target
from geomalign.trust_region.schedule import CosineSchedule, GeometricSchedule, LinearSchedule, Schedule

__all__ = [
    "Annealed",
    "Controlled",
    "Controller",
    "CosineSchedule",
    "DualAscent",
    "EscortESS",
    "GeometricSchedule",
    "LinearSchedule",
    "Schedule",
    "TrustRegion",
    "chi_square_stiffness",
    "trust_region_target",
]
