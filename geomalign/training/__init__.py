"""Train a transformer on a task with a verifiable reward, with any objective, and compare objectives.

The public names are listed in `__init__.pyi`, and each is imported when it is first used: configurations load neither
torch nor transformers, and what shows a help text loads neither them nor pydantic.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
