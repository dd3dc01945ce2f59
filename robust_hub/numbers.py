"""Numbers that a caller gives: taken where they are exactly the number that is meant, else one sentence.

A number of numpy, a tensor without dimensions or a whole float such as 1.0 is a number; a text or a truth value is
none, and nothing is rounded or cut to fit: seed 1.7 is not seed 1. The public doors go on with the plain int or float
that comes back, so that what they write is JSON and what they compute does not depend on who made the number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any

_SHOWN = 60


def whole_number(expected: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Take a whole number.

    Args:
        expected: What was expected, for the error, such as "n to be a whole number, at least 1".
        value: What was given.
        least: The smallest that is taken.
        most: The largest that is taken; None for any.

    Returns:
        The number, an int.

    Raises:
        ValueError: If it is no number, not whole, or outside the range.

    Example:
        >>> whole_number("epochs >= 1", 2.0)
        2
        >>> whole_number("epochs >= 1", 2.5)
        Traceback (most recent call last):
        ValueError: expected epochs >= 1, got 2.5
    """
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number) or int(number) < least:
        raise ValueError(f"expected {expected}, got {described(value)}")
    if most is not None and int(number) > most:
        raise ValueError(f"expected {expected}, got {described(value)}")
    return int(number)


def real_number(
    expected: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Take a finite number within a range.

    Args:
        expected: What was expected, for the error, such as "a finite sigma > 0".
        value: What was given.
        above: It must be larger than this.
        least: It must be at least this.
        below: It must be smaller than this.
        most: It must be at most this.

    Returns:
        The number, a float.

    Raises:
        ValueError: If it is no finite number, none that a float holds exactly, or outside the range.

    Example:
        >>> import numpy as np
        >>> real_number("a finite sigma > 0", np.float32(0.25), above=0)
        0.25
        >>> real_number("a finite sigma > 0", "0.25", above=0)
        Traceback (most recent call last):
        ValueError: expected a finite sigma > 0, got the str '0.25'
    """
    number = _number(value)
    within = number is not None and above < number < below and least <= number <= most
    if not within or not math.isfinite(number) or float(number) != number:
        raise ValueError(f"expected {expected}, got {described(value)}")
    return float(number)


def real_numbers(expected: str, values: object, **within: float) -> tuple[float, ...]:
    """Take a sequence of finite numbers within a range: a list, a tuple, an array or a tensor of one dimension.

    Args:
        expected: What was expected, for the error.
        values: What was given.
        **within: above, least, below and most, see `real_number`.

    Returns:
        The numbers, floats.

    Raises:
        ValueError: If it is no such sequence, or one of its values is no such number.

    Example:
        >>> real_numbers("radii >= 0", [0, 0.25], least=0)
        (0.0, 0.25)
        >>> real_numbers("radii >= 0", 0.25, least=0)
        Traceback (most recent call last):
        ValueError: expected radii >= 0, got 0.25, which is no sequence: write (0.25,)
    """
    if _number(values) is not None:
        raise ValueError(
            f"expected {expected}, got {described(values)}, which is no sequence: write ({described(values)},)"
        )
    if isinstance(values, (str, bytes, dict, set, frozenset)) or not isinstance(values, Iterable):
        raise ValueError(f"expected {expected}, got {described(values)}")
    try:
        items = list(values)
    except Exception as error:  # of whatever library the sequence is
        raise ValueError(f"expected {expected}, got {described(values)}, which can't be read ({error})") from None
    try:
        return tuple(real_number(expected, item, **within) for item in items)
    except ValueError as error:
        raise ValueError(f"{error} in {described(values)}") from None


def truth_value(name: str, value: object) -> bool:
    """Take a truth value of Python, numpy or torch; 1 and "yes" are none.

    Args:
        name: What is asked, for the error.
        value: What was given.

    Returns:
        The value, a bool.

    Raises:
        ValueError: If it is none.

    Example:
        >>> truth_value("augment", True)
        True
    """
    plain = _item(value)
    if not isinstance(plain, bool):
        raise ValueError(f"expected {name} to be True or False, got {described(value)}")
    return plain


def described(value: object) -> str:
    """Give a value for an error: a plain number or None as it is, anything else after the name of its type."""
    text = repr(value)
    text = " ".join(text.split())
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    plain = value is None or isinstance(value, (int, float, list, tuple))
    return text if plain else f"the {type(value).__name__} {text}"


def _number(value: object) -> Any:
    """Give an int or a float of the very same value; None if there is none."""
    if type(value) is int or type(value) is float:  # nearly all
        return value if isinstance(value, float) or abs(value) < 2**1023 else None
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**1023 else None
    try:
        near = float(value)
        return near if near == value or math.isnan(near) else None
    except (ValueError, OverflowError):
        return None


def _item(value: object) -> object:
    """Give the Python value of a scalar of numpy or torch; any other value as it is, None for one without data."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except Exception:  # such as of a tensor on the device "meta"
            return None
    return value
