"""What training questions share with others: the same question, most of its words in a row, or its subjects."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from r1_searcher.types.splits import is_training

Grams = set[tuple[str, ...]]


def normalised(question: str) -> str:
    """Return a question's words, without case, punctuation and white space, for comparison."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", question).casefold()))


def overlap(splits: Mapping[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """Return the overlap of all training splits together with each other split (QUESTIONS tables).

    ``same_question``: questions of the split that training asks too. ``same_title``: those with a supporting title that
    a training question also has; null if either side has no titles.
    """
    training, others = _split(splits)
    asked = {normalised(question) for question in _column(training, "question")}
    titles = {title for row in _column(training, "supporting_titles") for title in row}
    found: dict[str, dict[str, Any]] = {}
    for name, table in others.items():
        rows = table["supporting_titles"].to_pylist()
        known = bool(titles) and any(rows)
        found[name] = {
            "num_questions": table.num_rows,
            "same_question": sum(normalised(question) in asked for question in table["question"].to_pylist()),
            "same_title": sum(not titles.isdisjoint(row) for row in rows) if known else None,
        }
    return found


def leakage(splits: Mapping[str, pa.Table], *, ngram: int, ngram_share: float) -> dict[str, dict[str, int]]:
    """Count questions of each split that training asks too, by three measures, each including the one before.

    ``exact``: the same string. ``normalised``: the same words. ``ngram``: at least ``ngram_share`` of the question's
    runs of ``ngram`` words occur in training questions, not necessarily in one (PaLM's measure of contamination, arXiv
    2204.02311, section 8; questions from templates share much by their form alone). A question of fewer words is one
    run. ``same_title`` as in ``overlap``, absent if no titles are known.
    """
    training, others = _split(splits)
    questions = list(_column(training, "question"))
    exact = set(questions)
    asked = [normalised(question) for question in questions]
    words = set(asked)
    known: Grams = {gram for question in asked for gram in grams(question, ngram)}
    titles = {name: shared["same_title"] for name, shared in overlap(splits).items()}
    found: dict[str, dict[str, int]] = {}
    for name, table in others.items():
        texts = table["question"].to_pylist()
        forms = [normalised(question) for question in texts]
        found[name] = {
            "num_questions": table.num_rows,
            "exact": sum(question in exact for question in texts),
            "normalised": sum(form in words for form in forms),
            "ngram": sum(form in words or _share(grams(form, ngram), known) >= ngram_share for form in forms),
        } | ({} if titles[name] is None else {"same_title": titles[name]})
    return found


def grams(question: str, length: int) -> list[tuple[str, ...]]:
    """Return the runs of ``length`` words of a normalised question; the whole question if it is shorter."""
    words = question.split()
    return [tuple(words[start : start + length]) for start in range(max(1, len(words) - length + 1))]


def _share(found: list[tuple[str, ...]], known: Grams) -> float:
    return sum(gram in known for gram in found) / len(found)


def _split(splits: Mapping[str, pa.Table]) -> tuple[list[pa.Table], dict[str, pa.Table]]:
    training = [table for name, table in splits.items() if is_training(name)]
    return training, {name: table for name, table in splits.items() if not is_training(name)}


def _column(tables: Iterable[pa.Table], name: str) -> Iterable[Any]:
    return (value for table in tables for value in table[name].to_pylist())
