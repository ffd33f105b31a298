"""What a comparison needs to know: objectives, step sizes, seeds, and the settings that its runs share."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from geomalign._util.check import check, settle
from geomalign._util.words import named
from geomalign.tasks.config import STRICT
from geomalign.training.config.settings import NotEmpty, Positive, TrainConfig, Whole


@dataclass(frozen=True, config=STRICT)
class Choice:
    """One objective of a comparison; in files and on the command line a text alone is its name.

    Args:
        name: as `TrainConfig.objective`; `label=`, `tuning=` and `control=` may follow too.
        options: as `TrainConfig.options`.
        label: how the report calls it; the name when empty. Two settings of one recipe need different labels.
        tuning: free text on how the options were chosen; quoted in the report.
        control: as `TrainConfig.control`.

    >>> Choice("opo mu=10 label=stiff control='kl=0.02'")
    Choice(name='opo', options={'mu': 10}, label='stiff', tuning='', control='kl=0.02')
    """

    name: str = "opo"
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    tuning: str = ""
    control: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def __post_init__(self) -> None:
        name, given = named(self.name, where="an objective", example="opo mu=10 label=soft")
        more = {key: str(given.pop(key)) for key in ("label", "tuning", "control") if key in given}
        settle(self, name=name, options={**given, **self.options}, **more)

    @property
    def title(self) -> str:
        """The label, or else the name in a form that may name a directory."""
        return self.label or self.name.replace(":", ".")


@dataclass(frozen=True, config=STRICT)
class CompareConfig:
    """Objectives × step sizes × seeds, from one shared base.

    Args:
        objectives: what is compared; no two have the same title.
        rates: step sizes of AdamW, > 0, each once.
        seeds: one run each, for every objective and step size; each once.
        workers: processes that work at once, one run each; 0 is one per core (one per device on an accelerator).
        run: what all runs share; its objective, options, control, rate and seed are replaced.

    >>> len(CompareConfig(rates=(1e-4,), seeds=(0, 1)).runs())
    8
    """

    objectives: Annotated[tuple[Choice, ...], NotEmpty] = (
        Choice(
            "opo",
            {"alpha": 0.4, "mu": 10.0},
            tuning="mu = 10 from earlier runs of this task, kept after a sweep of 3, 10 and 30 on seed 0, which is "
            "also one of the seeds reported (14 of its 21 runs were finished)",
        ),
        Choice("gspo", tuning="the published clip range; epsilon = 0.2 was tried on this task and not taken"),
        Choice("grpo", tuning="the published clip range, without the KL penalty to a reference; none searched here"),
        Choice("dapo", tuning="the published clip range, without dynamic sampling; none searched here"),
    )
    rates: Annotated[tuple[Positive, ...], NotEmpty] = (5e-5, 2e-4)
    seeds: Annotated[tuple[int, ...], NotEmpty] = (0, 1, 2)
    workers: Whole = 0
    run: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        titles = [choice.title for choice in self.objectives]
        for name, values in (("objectives", titles), ("rates", self.rates), ("seeds", self.seeds)):
            doubles = sorted({str(value) for value in values if list(values).count(value) > 1})
            check(
                not doubles,
                f"{name} names {', '.join(doubles)} twice"
                + ("; give objectives of the same name different labels." if name == "objectives" else "."),
            )

    def runs(self) -> dict[str, TrainConfig]:
        """The configuration of every run by its name; the seeds outermost, so that an unfinished comparison is a
        balanced one.
        """
        return {
            f"{choice.title}-r{rate:g}-s{seed}": dataclasses.replace(
                self.run,
                objective=choice.name,
                options=dict(choice.options),
                control=choice.control,
                rate=rate,
                seed=seed,
            )
            for seed in self.seeds
            for rate in self.rates
            for choice in self.objectives
        }
