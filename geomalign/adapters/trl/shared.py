"""What the two TRL trainers share: the objective, the controller with its saved state, and the logged geometry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geomalign import distributed
from geomalign.control import Controller, controller_of
from geomalign.objective import BaseObjective, Outcome, TermDrives, WeightedSum, metrics

__all__ = ["GeometryTrainer", "kept_gradient"]

# Mixins of a trainer that is known when TRL is imported.
Host: Any = Any if TYPE_CHECKING else object

_STATE = "geometry.pt"


class GeometryTrainer(Host):
    """Mixin that holds the objective and the controller of a trainer; `GRPOGeometry` and `DPOGeometry` extend it.

    Args:
        objective: as the trainer was given it.
        controller: it, its description, or None.

    ```py
    class Mine(GeometryTrainer, trl.DPOTrainer): ...
    ```
    """

    objective: BaseObjective
    controller: Controller | None = None

    def _hold(self, objective: BaseObjective, controller: Controller | str | None) -> None:
        self.objective = objective
        self.controller = controller_of(controller) if isinstance(controller, str) else controller
        # As a sum, an objective of one term too has its drive in `TermDrives`.
        self._geometry_sum = WeightedSum(objective.terms)

    def _stiffened(self, drives: TermDrives) -> TermDrives:
        return drives if self.controller is None else self.controller.stiffen(self._geometry_sum, drives)

    def _geometry_outcome(self, batch: Any, drives: TermDrives, counts: Any) -> Outcome:
        """The objective's evaluation, shown to the controller where it is trained on, and logged."""
        outcome = self._geometry_sum(batch, drives, counts)
        if self.controller is not None and self.model.training:
            self.controller.observe(outcome)
        self._geometry_log(outcome)
        return outcome

    def _geometry_log(self, outcome: Outcome) -> None:
        """Our metrics beside TRL's, under `geom/`: one transfer, and over processes the mean (or the extreme)."""
        values = {name: value for name, value in metrics(outcome).items() if name != "loss"}
        if self.controller is not None:
            # The readings are of the last rollout, but μ is logged while it is used.
            readings = self.controller.readings() | {"stiffness": self.controller.stiffness}
            values |= {f"controller/{name}": value for name, value in readings.items()}
        stacked = torch.stack([value.to(outcome.loss) for value in values.values()])
        table = self.accelerator.gather(stacked[None]).T.tolist()
        mode = "train" if self.model.training else "eval"
        for name, row in zip(values, table, strict=True):
            finite = [x for x in row if math.isfinite(x)]
            if finite:
                extreme = {"min": min, "max": max}.get(name.rsplit("_", 1)[-1])
                value = extreme(finite) if extreme else sum(finite) / len(finite)
                self._metrics[mode][f"geom/{name}"].append(value)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.controller is None:
            return
        # A rollout ends when the next one begins, so every process still holds what it alone has observed of this one.
        states = distributed.everyone(self.controller.state_dict())
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial), f"checkpoint-{self.state.global_step}")
            torch.save(states, folder / _STATE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(checkpoint, _STATE)
        if self.controller is None:
            if path.exists():
                raise ValueError(
                    f"{checkpoint} holds the state of a controller, and this trainer has none, so that its stiffness "
                    "would fall back to where the run began. Pass the controller again, or start a new run from the "
                    "checkpoint's model."
                )
            return
        if not path.exists():
            raise ValueError(
                f"{checkpoint} has no {_STATE}: it was saved without a controller. Resume without one, or "
                "start a new run from the checkpoint's model."
            )
        states = torch.load(path, weights_only=True)
        # With another number of processes some observations of one rollout count twice or not at all.
        self.controller.load_state_dict(states[distributed.rank() % len(states)])


def kept_gradient(theirs: Tensor) -> Tensor | float:
    """Zero, with the gradient of what TRL adds to its loss besides the policy's term.

    >>> import torch
    >>> bonus = torch.tensor(3.0, requires_grad=True)
    >>> kept = kept_gradient(2 * bonus)
    >>> kept.item(), torch.autograd.grad(kept, bonus)
    (0.0, (tensor(2.),))
    """
    return theirs - theirs.detach() if theirs.requires_grad else 0.0
