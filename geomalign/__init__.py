"""geomalign: LLM alignment objectives as geometry.

L(θ) = E_measure[ potential(u, drive) − drive · u ]: a sampling geometry makes the drive, an optimization geometry the
potential, and every published objective is a choice of the two, of a unit, a chart and a measure.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so that commands that do not
compute start without importing torch.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
