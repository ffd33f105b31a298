"""What every constructor checks its arguments with."""

from __future__ import annotations

from typing import Any


def check(condition: bool, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def settle(config: Any, **values: Any) -> None:
    """Give a frozen configuration the values that were left to it."""
    for name, value in values.items():
        object.__setattr__(config, name, value)
