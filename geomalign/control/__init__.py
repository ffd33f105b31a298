"""Controllers set the stiffness of a run, from a schedule or from what was measured, as torch's schedulers set a rate.

An objective is pure; a controller remembers, and stands outside of it. The training loop asks the controller for the
drive of a rollout and shows it every evaluation that a gradient is computed on:

```python
controller = ga.AdaptiveStiffness(target=0.02)
for rollout in rollouts:
    drive = controller.stiffen(objective, objective.drive(rollout))
    for rows in minibatches:
        outcome = objective(score(rows), drive[rows], counts)
        controller.observe(outcome)
        outcome.loss.backward()
        ...
    controller.step()
```
"""

from geomalign.control.adaptive import AdaptiveStiffness as AdaptiveStiffness
from geomalign.control.base import Controller as Controller
from geomalign.control.schedule import Annealed as Annealed
from geomalign.control.schedule import Geometric as Geometric
from geomalign.control.text import controller_of as controller_of
