"""Errors for a learner: what was given, what is allowed, what to do."""

from __future__ import annotations

import math
import operator
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


def whole(name: str, value: Any, least: int | None = None) -> None:
    """Raise TypeError unless a value is a whole number, ValueError if it is below `least`."""
    try:
        number = operator.index(value)
        is_whole = not isinstance(value, bool) and getattr(value, "ndim", 0) == 0
    except TypeError:
        is_whole = False
    if not is_whole:
        raise TypeError(f"{name} must be a whole number, got {short(value)}")
    if least is not None and number < least:
        allowed = {0: "0 or more", 1: "positive"}.get(least, f"at least {least}")
        raise ValueError(f"{name} must be {allowed}, got {number}")


def number(name: str, value: Any) -> None:
    """Raise TypeError unless a value is a number, ValueError if it is not finite."""
    if isinstance(value, bool | str | bytes) or getattr(value, "ndim", 0) != 0:
        raise TypeError(f"{name} must be a number, got {short(value)}")
    try:
        finite = math.isfinite(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {short(value)}") from None
    if not finite:
        raise ValueError(f"{name} must be a finite number, got {value}")


def one_of(name: str, value: Any, allowed: Any) -> None:
    """Raise ValueError unless a value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, allowed))}, got {short(value)}"
        )
