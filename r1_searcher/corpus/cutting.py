"""Long passages cut into several (``corpus.words``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from r1_searcher import scripts
from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError


def cut_passages(
    rows: Iterator[dict[str, str]], words: int, counts: Sequence[FileCount], seen: SeenIds
) -> Iterator[dict[str, str]]:
    """Yield ``rows`` (of PASSAGES), those of more than ``words`` words in pieces; 0: as they are.

    A piece keeps its passage's title; its id is the passage's and a number, from 0. The pieces are added to the last of
    ``counts``, and their ids to ``seen``. Raises ``PipelineError`` for a piece with the id of another passage.
    """
    for row in rows:
        pieces = scripts.cut(row["text"], words) if words else [row["text"]]
        if len(pieces) == 1:
            yield row
            continue
        counts[-1].passages += len(pieces) - 1
        for number, text in enumerate(pieces):
            name = f"{row['passage_id']}-{number}"
            if not seen.add(name):
                raise PipelineError(
                    f"a piece of passage {row['passage_id']!r} would have the id {name!r} of another passage",
                    where=row["source"],
                    fix="rename one of them, or set corpus.words to 0",
                )
            yield {**row, "passage_id": name, "text": text}
