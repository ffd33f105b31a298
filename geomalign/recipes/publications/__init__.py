"""The publications of the recipes: one table of data per file of recipes, together by the name of the recipe."""

from __future__ import annotations

from geomalign.recipes.publications import distillation
from geomalign.recipes.publications.preferences import dpo as preferences_dpo
from geomalign.recipes.publications.preferences import likelihood as preferences_likelihood
from geomalign.recipes.publications.preferences import links as preferences_links
from geomalign.recipes.publications.preferences import regression as preferences_regression
from geomalign.recipes.publications.preferences import transport as preferences_transport
from geomalign.recipes.publications.preferences import unpaired as preferences_unpaired
from geomalign.recipes.publications.rewards import discrimination as rewards_discrimination
from geomalign.recipes.publications.rewards import groups as rewards_groups
from geomalign.recipes.publications.rewards import importance as rewards_importance
from geomalign.recipes.publications.rewards import lengths as rewards_lengths
from geomalign.recipes.publications.rewards import masked as rewards_masked
from geomalign.recipes.publications.rewards import opo as rewards_opo
from geomalign.recipes.publications.rewards import ppo as rewards_ppo
from geomalign.recipes.publications.rewards import regression as rewards_regression
from geomalign.recipes.publications.rewards import reinforce as rewards_reinforce
from geomalign.recipes.publications.rewards import surrogates as rewards_surrogates
from geomalign.recipes.publications.rewards import weighted as rewards_weighted
from geomalign.recipes.reference import Reference

__all__ = ["PUBLICATIONS"]

_TABLES = (
    distillation.PUBLICATIONS,
    preferences_dpo.PUBLICATIONS,
    preferences_likelihood.PUBLICATIONS,
    preferences_links.PUBLICATIONS,
    preferences_regression.PUBLICATIONS,
    preferences_transport.PUBLICATIONS,
    preferences_unpaired.PUBLICATIONS,
    rewards_discrimination.PUBLICATIONS,
    rewards_groups.PUBLICATIONS,
    rewards_importance.PUBLICATIONS,
    rewards_lengths.PUBLICATIONS,
    rewards_masked.PUBLICATIONS,
    rewards_opo.PUBLICATIONS,
    rewards_ppo.PUBLICATIONS,
    rewards_regression.PUBLICATIONS,
    rewards_reinforce.PUBLICATIONS,
    rewards_surrogates.PUBLICATIONS,
    rewards_weighted.PUBLICATIONS,
)

PUBLICATIONS: dict[str, Reference] = dict(sorted(entry for table in _TABLES for entry in table.items()))
"""Every recipe has its entry."""
