"""The share of questions that search can answer at all: the upper limit of what training can teach.

A question is answerable if the top k passages contain a gold answer, or are all of its supporting passages. Two kinds
of search are tried: the question itself, and an oracle's sub-queries, the titles of its supporting passages (in a
synthetic world the chain of facts that it was composed from).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from r1_searcher.questions.overlap import normalised
from r1_searcher.rewards.metrics import normalise
from r1_searcher.types.protocols import Passage, Retriever

CLOSED_ANSWERS = ("yes", "no", "noanswer")  # as words they occur in every other passage and answer nothing

Figures = dict[str, Any]


def evenly_spaced(table: pa.Table, number: int) -> pa.Table:
    """Return at most ``number`` rows, evenly spaced: a file's beginning may differ from its end."""
    if table.num_rows <= number:
        return table
    return table.take([place * table.num_rows // number for place in range(number)])


def coverage(splits: Mapping[str, pa.Table], ks: Mapping[str, int], retriever: Retriever) -> dict[str, Figures]:
    """Return the shares of each split's questions (QUESTIONS) that searches answer, with ``ks[split]`` passages per
    search.

    Per split: ``num_questions``, ``k``, and under ``question`` (its own words as the query) the shares whose passages
    contain a gold answer (``answer``), all supporting titles (``titles``; of those with known titles), and either
    (``answerable``). ``oracle`` has the same for the passages that the question and its titles find together, over the
    ``num_questions`` with known titles, if any. Calls the retriever once.
    """
    rows = {
        name: table.select(["question", "answers", "supporting_titles"]).to_pylist() for name, table in splits.items()
    }
    queries: dict[str, int] = {}  # query → the most passages that any split wants
    for name, asked in rows.items():
        for row in asked:
            for query in (row["question"], *row["supporting_titles"]):
                queries[query] = max(queries.get(query, 0), ks[name])
    most = max(queries.values(), default=1)
    found = dict(zip(queries, retriever.search(list(queries), most), strict=True))
    shelf = _Shelf()
    return {name: _figures(asked, ks[name], found, shelf) for name, asked in rows.items()}


class _Shelf:
    """Normalised titles and texts of the found passages, each computed once."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, str]] = {}

    def read(self, passage: Passage) -> tuple[str, str]:
        """Return a passage's title, and its title and text, normalised and between spaces."""
        if passage.passage_id not in self._made:
            whole = f" {normalise(f'{passage.title} {passage.text}')} "
            self._made[passage.passage_id] = normalised(passage.title), whole
        return self._made[passage.passage_id]


def _figures(rows: Sequence[dict[str, Any]], k: int, found: Mapping[str, list[Passage]], shelf: _Shelf) -> Figures:
    alone = [_contents(row, found[row["question"]][:k], shelf) for row in rows]
    figures: Figures = {"num_questions": len(rows), "k": k, "question": _shares(alone)}
    known = [row for row in rows if row["supporting_titles"]]
    if known:
        queries = [(row["question"], *row["supporting_titles"]) for row in known]
        seen = [[passage for query in tried for passage in found[query][:k]] for tried in queries]
        together = [_contents(row, passages, shelf) for row, passages in zip(known, seen, strict=True)]
        figures["oracle"] = {"num_questions": len(known), **_shares(together)}
    return figures


def _contents(row: dict[str, Any], passages: Iterable[Passage], shelf: _Shelf) -> tuple[bool, bool | None]:
    """Return whether the passages contain a gold answer, and all supporting titles (None if none are known)."""
    read = [shelf.read(passage) for passage in passages]
    golds = [normalise(answer) for answer in row["answers"]]
    answer = any(f" {gold} " in whole for gold in golds if gold and gold not in CLOSED_ANSWERS for _, whole in read)
    wanted = {normalised(title) for title in row["supporting_titles"]}
    return answer, wanted <= {title for title, _ in read} if wanted else None


def _shares(looks: Sequence[tuple[bool, bool | None]]) -> dict[str, float]:
    titles = [title for _, title in looks if title is not None]
    shares = {"answer": _mean([answer for answer, _ in looks])}
    if titles:
        shares["titles"] = _mean(titles)
    return shares | {"answerable": _mean([answer or bool(title) for answer, title in looks])}


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
