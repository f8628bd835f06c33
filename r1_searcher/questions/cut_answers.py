"""How many training questions lose their answer where passages are cut, before training pays for it.

A policy sees of a passage what ``rollout.max_passage_tokens`` and ``rollout.max_documents_tokens`` leave. Where the
answers stand behind the cut, searching is of no use, and training goes on without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from r1_searcher import params
from r1_searcher.questions.coverage import CLOSED_ANSWERS, spaced
from r1_searcher.rewards.metrics import normalise
from r1_searcher.rollout.blocks import Blocks
from r1_searcher.types.protocols import Engine, Passage, Retriever

AT_MOST = 200  # questions that are looked at: with dense search on a CPU each query takes up to a tenth of a second


def may_search(settings: params.RetrieverParams) -> bool:
    """Whether searches beside training cost nothing and leave no trace: no paid calls, no record, no replay."""
    from r1_searcher.retrieval.retrievers import is_lasting

    return settings.searches.mode in ("auto", "live") and is_lasting(settings)


def cut_answers(
    questions: pa.Table, retriever: Retriever, engine: Engine, rollout: params.Rollout, *, at_most: int = AT_MOST
) -> dict[str, int]:
    """Of at most ``at_most`` questions (QUESTIONS, evenly spaced) the numbers looked at, found, and lost.

    ``num_found``: a gold answer stands, as whole words after the metrics' normalisation, in what the top k passages for
    the question or for one of its supporting titles say before they are cut (a yes or no never counts).
    ``num_lost``: of these, the ones with no gold answer in what is shown. One call of the retriever.
    """
    rows = spaced(questions, at_most).select(["question", "answers", "supporting_titles"]).to_pylist()
    asked = [list(dict.fromkeys([row["question"], *row["supporting_titles"]])) for row in rows]
    queries = list(dict.fromkeys(query for one in asked for query in one))
    found = dict(zip(queries, retriever.search(queries, rollout.k), strict=True)) if queries else {}
    blocks = Blocks(engine, rollout)
    num_found = num_lost = 0
    for row, tried in zip(rows, asked, strict=True):
        golds = [gold for gold in map(normalise, row["answers"]) if gold and gold not in CLOSED_ANSWERS]
        searches = [list(found[query][: rollout.k]) for query in tried]
        if not any(_hold(_whole(passages, rollout), golds) for passages in searches):
            continue
        num_found += 1
        num_lost += not any(_hold(blocks.texts(passages), golds) for passages in searches)
    return {"num_questions": len(rows), "num_found": num_found, "num_lost": num_lost}


def _whole(passages: Iterable[Passage], rollout: params.Rollout) -> list[str]:
    """What would be shown of passages if nothing were cut."""
    return [one.text if rollout.passages == "text" else f"{one.title}: {one.text}" for one in passages]


def _hold(texts: Sequence[str], golds: Sequence[str]) -> bool:
    """Whether a gold answer stands in one of the texts."""
    read = [f" {normalise(text)} " for text in texts]
    return any(f" {gold} " in text for gold in golds for text in read)
