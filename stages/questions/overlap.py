"""What training questions share with the others: the same question, or a question about the same things."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

TRAIN = "train"


def normalised(question: str) -> str:
    """A question's words: case, punctuation and white space do not make two questions different."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", question).casefold()))


def overlap(splits: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """Overlap of ``train`` with each other split (QUESTIONS tables).

    ``same_question``: questions of the split that training asks too. ``same_title``: those with a
    supporting title that a training question has as well; null where either side knows no titles.
    """
    asked = _asked(splits[TRAIN])
    titles = _titles(splits[TRAIN])
    found: dict[str, dict[str, Any]] = {}
    for name, table in splits.items():
        if name == TRAIN:
            continue
        rows = table["supporting_titles"].to_pylist()
        known = bool(titles) and any(rows)
        found[name] = {
            "num_questions": table.num_rows,
            "same_question": sum(normalised(question) in asked for question in table["question"].to_pylist()),
            "same_title": sum(not titles.isdisjoint(row) for row in rows) if known else None,
        }
    return found


def _asked(table: pa.Table) -> set[str]:
    return {normalised(question) for question in table["question"].to_pylist()}


def _titles(table: pa.Table) -> set[str]:
    return {title for row in table["supporting_titles"].to_pylist() for title in row}
