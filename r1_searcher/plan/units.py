"""Format seconds and bytes for readers, in the largest sensible unit."""

from __future__ import annotations

DURATIONS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001}
SIZES = {"GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0}
ENOUGH = 0.1  # of a GiB: 0.3 GiB reads more easily than 307.2 MiB


def duration(seconds: float) -> str:
    """Format hours, minutes, seconds or milliseconds, in the largest unit with a value of at least 1; a decimal below
    10."""
    return _of(seconds, DURATIONS, 1, None)


def size(number: float, decimals: int = 1) -> str:
    """Format bytes in the largest unit with a value of at least 0.1."""
    return _of(number, SIZES, ENOUGH, decimals)


def _of(value: float, units: dict[str, float], enough: float, decimals: int | None) -> str:
    unit, one = next((pair for pair in units.items() if value >= enough * pair[1]), list(units.items())[-1])
    number = value / one
    if decimals is None:
        decimals = 1 if 0 < number < 9.95 or unit in ("h", "min") else 0
    return f"{number:,.{0 if unit == 'B' or not value else decimals}f} {unit}"
