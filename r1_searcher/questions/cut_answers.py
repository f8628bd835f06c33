"""How many training questions lose their answer because passages are cut, found before training pays for it.

A policy sees what ``rollout.max_passage_tokens`` and ``rollout.max_documents_tokens`` leave of a passage. If the
answers are beyond the cut, searching is useless, and training goes on silently.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from r1_searcher import params
from r1_searcher.questions.answer_search import Gold, SearchedText, golds_of
from r1_searcher.questions.coverage import evenly_spaced
from r1_searcher.questions.shown_passages import whole_texts
from r1_searcher.rollout.blocks import Blocks
from r1_searcher.types.protocols import Engine, Retriever

AT_MOST = 200  # questions to check: with dense search on a CPU each query takes up to 0.1 s


def may_search(settings: params.RetrieverParams) -> bool:
    """Return whether extra searches cost nothing and leave no trace: no paid calls, no record, no replay."""
    from r1_searcher.retrieval.retrievers import is_lasting

    return settings.searches.mode in ("auto", "live") and is_lasting(settings)


def cut_answers(
    questions: pa.Table, retriever: Retriever, engine: Engine, rollout: params.Rollout, *, at_most: int = AT_MOST
) -> dict[str, int]:
    """Return how many of at most ``at_most`` questions (QUESTIONS, evenly spaced) were checked, found, and lost.

    ``num_found``: a gold answer occurs (``SearchedText``) in the uncut top k passages for the question or one of its
    supporting titles; yes and no never count. ``num_lost``: of these, those without a
    gold answer in what is shown. Calls the retriever once.
    """
    rows = evenly_spaced(questions, at_most).select(["question", "answers", "supporting_titles"]).to_pylist()
    asked = [list(dict.fromkeys([row["question"], *row["supporting_titles"]])) for row in rows]
    queries = list(dict.fromkeys(query for one in asked for query in one))
    found = dict(zip(queries, retriever.search(queries, rollout.k), strict=True)) if queries else {}
    blocks = Blocks(engine, rollout)
    num_found = num_lost = 0
    for row, tried in zip(rows, asked, strict=True):
        golds = golds_of(row["answers"])
        searches = [list(found[query][: rollout.k]) for query in tried]
        if not any(_hold(whole_texts(passages, rollout), golds) for passages in searches):
            continue
        num_found += 1
        num_lost += not any(_hold(blocks.texts(passages), golds) for passages in searches)
    return {"num_questions": len(rows), "num_found": num_found, "num_lost": num_lost}


def _hold(texts: Sequence[str], golds: Sequence[Gold]) -> bool:
    """Return whether a gold answer occurs in one of the texts."""
    return any(SearchedText(text).holds(golds) for text in texts)
