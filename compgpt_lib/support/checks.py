"""Errors for a learner: what was given, what is allowed, what to do."""

from __future__ import annotations

import math
import numbers
from typing import Any


def short(value: Any) -> str:
    """Return what a value is in a few words: small ones as they are, large ones by their type."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    said = repr(value)
    return said if len(said) <= 60 else f"{type(value).__name__} {said[:50]}..."


def of_kind(name: str, value: Any, kinds: type | tuple[type, ...], allowed: str) -> None:
    """Raise TypeError unless a value is of one of the kinds; `allowed` says them in words."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {allowed}, got {short(value)}")


def _plain(value: Any) -> Any:
    """Return the Python number that a scalar of numpy or torch holds; anything else as it is."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (RuntimeError, ValueError):  # on the meta device there is nothing to hold
        return value


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number as an int, be it Python's, numpy's or torch's.

    Raises TypeError for anything else, ValueError for one below `least` or above `most`.
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {short(value)}")
    number = int(plain)
    if least is not None and number < least:
        allowed = {0: "0 or more", 1: "positive"}.get(least, f"at least {least}")
        raise ValueError(f"{name} must be {allowed}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def seed(value: Any, name: str = "seed") -> int:
    """Return the seed of a random generator, 0 to 2^64 - 1; raises as `whole` does."""
    return whole(name, value, least=0, most=2**64 - 1)


def number(name: str, value: Any) -> float:
    """Return a number as a float, be it Python's, numpy's or torch's.

    Raises TypeError for anything else, ValueError for one that is not finite.
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        raise TypeError(f"{name} must be a number, got {short(value)}")
    try:
        found = float(plain)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} must be a finite number, got {value}")
    return found


def truth(name: str, value: Any) -> bool:
    """Return True or False, be it Python's, numpy's or torch's; raises TypeError for any other."""
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name} must be True or False, got {short(value)}")
    return plain


def one_of(name: str, value: Any, allowed: Any) -> None:
    """Raise ValueError unless a value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, allowed))}, got {short(value)}"
        )
