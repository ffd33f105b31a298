"""What every member of a slot obeys, as executable laws, and a comparison of a loss with a recipe.

    ga.laws.check_geometry(MyGeometry(mu=0.5))
    ga.laws.compare_loss(my_loss, "grpo")

The members of this package are tested with the same laws. A law is tried on fixed cases and on cases that Hypothesis
draws; `LawViolation` names the smallest that breaks it. All is computed in float64, except where a law speaks of
another type.

Nothing is imported before it is used (`__init__.pyi` lists the names), so that pytest, which loads `pytest_plugin`
wherever the package is installed, starts without torch.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
