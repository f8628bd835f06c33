"""The share of questions that search can answer at all: the upper limit of what training can teach.

A question is answerable if the top k passages contain a gold answer, or are all of its supporting passages. Two kinds
of search are tried: the question itself, and an oracle's sub-queries, the titles of its supporting passages (in a
synthetic world the chain of facts that it was composed from). What counts is what the policy sees of a passage: an
answer that only its cut part contains is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from r1_searcher.questions.answer_search import Gold, SearchedText, golds_of
from r1_searcher.questions.overlap import normalised
from r1_searcher.questions.shown_passages import ShownPassages
from r1_searcher.types.protocols import Passage, Retriever

Figures = dict[str, Any]


def evenly_spaced(table: pa.Table, number: int) -> pa.Table:
    """Return at most ``number`` rows, evenly spaced: a file's beginning may differ from its end."""
    if table.num_rows <= number:
        return table
    return table.take([place * table.num_rows // number for place in range(number)])


def coverage(
    splits: Mapping[str, pa.Table], ks: Mapping[str, int], retriever: Retriever, shown: ShownPassages | None = None
) -> dict[str, Figures]:
    """Return the shares of each split's questions (QUESTIONS) that searches answer, with ``ks[split]`` passages per
    search.

    Per split: ``num_questions``, ``k``, and under ``question`` (its own words as the query) the shares whose passages
    contain a gold answer (``answer``), all supporting titles (``titles``; of those with known titles), and either
    (``answerable``). ``oracle`` has the same for the passages that the question and its titles find together, over the
    ``num_questions`` with known titles, if any. ``shown`` cuts the passages; None: nothing is cut. If any is cut,
    ``lost`` is the share whose answer is in the passages, but in nothing that is shown of them. Calls the retriever
    once.
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
    shelf = _Shelf(shown)
    figures = {name: _figures(asked, ks[name], found, shelf) for name, asked in rows.items()}
    if not shelf.cuts:
        for split in figures.values():
            for figure in (split["question"], split.get("oracle", {})):
                figure.pop("lost", None)
    return figures


class _Shelf:
    """Titles and texts of the found passages, made ready for comparison once. ``cuts``: whether any is cut."""

    def __init__(self, shown: ShownPassages | None) -> None:
        self._shown, self.cuts = shown, False
        self._titles: dict[str, str] = {}
        self._texts: dict[str, SearchedText] = {}

    def title(self, passage: Passage) -> str:
        """Return a passage's title, normalised."""
        if passage.passage_id not in self._titles:
            self._titles[passage.passage_id] = normalised(passage.title)
        return self._titles[passage.passage_id]

    def hold(self, searches: Sequence[Sequence[Passage]], golds: Sequence[Gold]) -> tuple[bool, bool]:
        """Return whether a gold answer is in what is shown of the searches' passages, and whether in them at all."""
        visible = False
        for passages in searches:
            if self._shown is None:
                texts = [f"{passage.title} {passage.text}" for passage in passages]
            else:
                texts = self._shown.texts(passages)
            if self._shown is not None:
                whole = self._shown.whole(passages)
                self.cuts |= any(len(text) < len(all_of_it) for text, all_of_it in zip(texts, whole, strict=True))
            visible = visible or any(self._read(text).holds(golds) for text in texts)
        if visible or self._shown is None:
            return visible, visible
        uncut = (text for passages in searches for text in self._shown.whole(passages))
        return False, any(self._read(text).holds(golds) for text in uncut)

    def _read(self, text: str) -> SearchedText:
        if text not in self._texts:
            self._texts[text] = SearchedText(text)
        return self._texts[text]


def _figures(rows: Sequence[dict[str, Any]], k: int, found: Mapping[str, list[Passage]], shelf: _Shelf) -> Figures:
    alone = [_contents(row, [found[row["question"]][:k]], shelf) for row in rows]
    figures: Figures = {"num_questions": len(rows), "k": k, "question": _shares(alone)}
    known = [row for row in rows if row["supporting_titles"]]
    if known:
        queries = [(row["question"], *row["supporting_titles"]) for row in known]
        seen = [[found[query][:k] for query in tried] for tried in queries]
        together = [_contents(row, searches, shelf) for row, searches in zip(known, seen, strict=True)]
        figures["oracle"] = {"num_questions": len(known), **_shares(together)}
    return figures


class _Contents(NamedTuple):
    """``answer``: shown; ``titles``: all supporting titles found (None if none are known); ``lost``: the answer is
    found, but not shown."""

    answer: bool
    titles: bool | None
    lost: bool


def _contents(row: dict[str, Any], searches: Sequence[Sequence[Passage]], shelf: _Shelf) -> _Contents:
    shown, found = shelf.hold(searches, golds_of(row["answers"]))
    wanted = {normalised(title) for title in row["supporting_titles"]}
    titles = {shelf.title(passage) for passages in searches for passage in passages}
    return _Contents(shown, wanted <= titles if wanted else None, found and not shown)


def _shares(looks: Sequence[_Contents]) -> dict[str, float]:
    titles = [one.titles for one in looks if one.titles is not None]
    shares = {"answer": _mean([one.answer for one in looks])}
    if titles:
        shares["titles"] = _mean(titles)
    shares["answerable"] = _mean([one.answer or (bool(one.titles) and not one.lost) for one in looks])
    return shares | {"lost": _mean([one.lost for one in looks])}


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
