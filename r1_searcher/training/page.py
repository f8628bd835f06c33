"""Curves as the table of a page, while training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from r1_searcher.training.figures import zero_advantage_share

# Of a table on a page, which shows its first columns without scrolling: how it goes, and then why.
FIRST_ON_A_PAGE = ("iteration", "reward", "search_rate", "format_rate", "f1", "zero_advantage_share", "cover_em")


def page_rows(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one segment's curves for a page: what is looked at comes first, figures have three digits.

    ``zero_advantage_share``: the share of questions whose samples all had the same reward. Stage and segment are the
    same in each row, and left out.
    """
    rows = [{**row, "zero_advantage_share": zero_advantage_share(row)} for row in curves]
    others = sorted({name for row in rows for name in row} - {*FIRST_ON_A_PAGE, "stage", "segment"})
    return [{name: shown(row.get(name, "")) for name in (*FIRST_ON_A_PAGE, *others)} for row in rows]


def shown(value: Any) -> Any:
    """A figure with three digits: 0.0333, 22.1, 1412, 1e-06; what is no number stays, and NaN is its name."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    return round(value) if value.is_integer() or abs(value) >= 100 else float(f"{value:.3g}")
