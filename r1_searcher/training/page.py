"""Curves as the table of a page while training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from r1_searcher.training.figures import zero_advantage_share

# First the columns that show how training goes, then those that show why: a page shows only the first without
# scrolling.
FIRST_ON_A_PAGE = ("iteration", "reward", "search_rate", "format_rate", "f1", "zero_advantage_share", "cover_em")


def page_rows(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of one segment's curves for a page: the most important columns first, figures with three digits.

    ``zero_advantage_share``: the share of questions in zero-advantage groups. Stage and segment, equal in every row,
    are left out.
    """
    rows = [{**row, "zero_advantage_share": zero_advantage_share(row)} for row in curves]
    others = sorted({name for row in rows for name in row} - {*FIRST_ON_A_PAGE, "stage", "segment"})
    return [{name: shown(row.get(name, "")) for name in (*FIRST_ON_A_PAGE, *others)} for row in rows]


def shown(value: Any) -> Any:
    """Round a figure to three digits: 0.0333, 22.1, 1412, 1e-06. Other values are unchanged; NaN becomes text."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return str(value)
    return round(value) if value.is_integer() or abs(value) >= 100 else float(f"{value:.3g}")
