"""Checks of single values of a config, with one line for each that cannot be."""

import math
from collections.abc import Collection
from typing import Any

from vssflow_jax.utils.errors import UserError


def check_within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Checks that a number is within bounds, both included.

    Raises:
      UserError: it lies outside, or is no number.
    """
    if not low <= value <= high:
        allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise UserError(f"{name} is {value}; it must be {allowed}")


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Checks that a value is one of some.

    Raises:
      UserError: it is another one.
    """
    if value not in choices:
        raise UserError(f"{name} is '{value}'; choose one of: {', '.join(map(str, choices))}")
