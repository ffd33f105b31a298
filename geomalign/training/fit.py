"""Whether an objective can learn anything from what a run gives it: refused, or said, before the run begins."""

from __future__ import annotations

import dataclasses

import torch

from geomalign import distributed, recipes
from geomalign._util.types import Locality
from geomalign.batch import Batch
from geomalign.objective import BaseObjective
from geomalign.sampling import Advantage, SamplingGeometry
from geomalign.training.config.presets import PRESETS, train_preset
from geomalign.training.config.settings import TrainConfig


def refuse_unfit(config: TrainConfig, objective: BaseObjective) -> None:
    """Raise a ValueError where the rewards, or the labels of pairs, cannot have an influence on this objective.

    >>> import geomalign as ga
    >>> refuse_unfit(TrainConfig("generalized_jsd"), ga.recipes.generalized_jsd())
    Traceback (most recent call last):
    ValueError: generalized_jsd is driven neither by rewards nor by labels of pairs: ...
    """
    offline = config.trains_offline(objective)
    if objective.needs_observations:
        raise ValueError(
            f"{config.objective} predicts what an environment answers, and the responses of a run are the policy's "
            "alone. Use it in a loop of your own, on a Batch with `observation_mask`."
        )
    samples = config.rl.samples
    try:
        reads = objective.paired or (objective.driven and _reads_rewards(objective, max(samples, 8)))
        learns = offline or not reads or _reads_rewards(objective, samples)
    except ValueError as error:
        raise ValueError(f"{config.objective} cannot be trained on rewards here: {error}") from error
    if not reads:
        drawn, given = "learns every response alike, in a run the policy's own", "responses as the batch"
        if objective.needs_reference:
            drawn = "draws the policy to its reference, which in a run is the model that the run starts from"
            given = "log-probabilities as `reference`"
        raise ValueError(
            f"{config.objective} is driven neither by rewards nor by labels of pairs: it {drawn}, so there is nothing "
            f"to learn. Use it in a loop of your own, with a teacher's {given}, or add it to an objective that is "
            "driven."
        )
    if not learns:
        raise ValueError(
            f"rl.samples is {samples}, and with so few responses to a prompt the drive of {config.objective} is the "
            "same for all rewards: it compares the responses to one prompt with each other. Raise rl.samples, or take "
            "an objective with another baseline, such as reinforce_plus_plus."
        )


def _reads_rewards(objective: BaseObjective, samples: int) -> bool:
    """Whether the drive differs between rewards, of any size or of 0 and 1, with so many `samples` of a prompt.

    >>> import geomalign as ga
    >>> [_reads_rewards(ga.recipes.get(name), 1) for name in ("grpo", "reinforce")]
    [False, True]
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(4, 4 * samples, generator=generator, dtype=torch.float64)
    rewards = [*noise[:2], *(noise[2:] > 0.5).double()]
    first, second, third, fourth = (_drive(objective, reward, samples) for reward in rewards)
    return not (torch.equal(first, second) and torch.equal(third, fourth))


def _drive(objective: BaseObjective, reward: torch.Tensor, samples: int) -> torch.Tensor:
    """The drives of rows that differ in their rewards alone, one after another, as a rollout of a run gives them."""
    unmoved = torch.full((len(reward), 3), -1.0, dtype=torch.float64)
    group = torch.arange(len(reward)) // samples
    batch = Batch(unmoved, unmoved, reward=reward, reference=unmoved, group=group, behavior=unmoved)
    terms = (term.drive(batch) for term in objective.driven_terms)
    return torch.cat([drive.detach().flatten() for drive in terms])


def refuse_one_sample(config: TrainConfig) -> None:
    """`refuse_unfit` for a configuration whose objective is not built yet; a name that is none is refused elsewhere."""
    try:
        objective = recipes.get(config.objective, **config.options)
    except ValueError:
        return
    if not objective.paired:
        refuse_unfit(config, objective)


def unfit(config: TrainConfig, objective: BaseObjective) -> dict[str, str]:
    """What this objective takes for something else, and settings without effect, as sentences by kind.

    >>> import geomalign as ga
    >>> unfit(TrainConfig("grpo"), ga.recipes.grpo())
    {}
    >>> unfit(TrainConfig("ppo"), ga.recipes.ppo())["advantage"][:38]
    'ppo reads advantages, and this run has'
    """
    offline, found = config.trains_offline(objective), {}
    name = config.objective
    if offline and not objective.paired and not objective.needs_reference:
        found["pairs"] = (
            f"{name} reads the rewards of sampled responses, and this run has pairs: each becomes a group of two, with "
            "the rewards +1 and −1, and the reference stands for the policy that sampled them. Objectives for pairs "
            "are dpo, ipo or simpo, and for single labelled responses kto."
        )
    if not offline and takes_rewards_for_advantages(objective):
        found["advantage"] = (
            f"{name} reads advantages, and this run has rewards alone: they are taken as they are, without a value "
            "function, a greedy response or any other baseline, as in REINFORCE. Objectives that make advantages from "
            "rewards are grpo, rloo or reinforce_plus_plus."
        )
    if offline and objective.locality >= Locality.BATCH and (config.offline.accumulation > 1 or _processes() > 1):
        found["parts"] = (
            f"{name} sorts the pairs of a step, and here every part of a step is sorted by itself: there are "
            f"{config.offline.accumulation} micro-batches (offline.accumulation) and {_processes()} processes. One of "
            "each gives the loss of the whole step."
        )
    idle = idle_settings(config, offline)
    if idle:
        used = "offline" if offline else "rl"
        found["idle"] = (
            f"{', '.join(idle)}: without effect, as {name} trains on {'pairs' if offline else 'rewards'} here and "
            f"reads the settings of `{used}`, such as {'offline.epochs' if offline else 'rl.iterations'}."
        )
    return found


def takes_rewards_for_advantages(objective: BaseObjective) -> bool:
    """Whether a term reads `advantage`, and of a batch that has none the rewards; where it measures from a reference,
    rewards are what it is meant to read.

    >>> import geomalign as ga
    >>> [takes_rewards_for_advantages(ga.recipes.get(name)) for name in ("ppo", "grpo", "kto")]
    [True, False, False]
    """
    for _, term in objective.terms:
        sampling: object = term.sampling if term.anchor != "reference" else None
        while isinstance(sampling, SamplingGeometry):
            if isinstance(sampling, Advantage):
                return True
            sampling = getattr(sampling, "of", None)
    return False


def idle_settings(config: TrainConfig, offline: bool) -> list[str]:
    """The settings of the loop that the run does not go through, where they are neither the defaults nor a preset's
    and those of its own loop are: a configuration that has set both serves objectives of both kinds.

    >>> from geomalign.training import RLConfig
    >>> idle_settings(TrainConfig("dpo", rl=RLConfig(iterations=3)), offline=True)
    ['rl.iterations']
    """
    table, used = ("rl", "offline") if offline else ("offline", "rl")
    presets = [TrainConfig(), *map(train_preset, PRESETS)]
    here, usual = getattr(config, table), [getattr(preset, table) for preset in presets]
    if here in usual or getattr(config, used) not in [getattr(preset, used) for preset in presets]:
        return []
    names = (f.name for f in dataclasses.fields(here) if f.name not in ("reward_timeout", "long_prompts"))
    return [f"{table}.{name}" for name in names if all(getattr(here, name) != getattr(other, name) for other in usual)]


def _processes() -> int:
    return max(distributed.world_size(), distributed.launched()[1])
