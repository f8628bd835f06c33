"""A Lucene index beside the BM25 one: taken over after it was compared with the corpus, and searched.

``<index>/lucene/`` holds links to its files, ``rows.npy`` (the passages' rows by their ids in order, for finding a
document's row) and ``meta.json``. Titles and texts come from the index folder.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files import passages as corpora
from r1_searcher.files.store import link_or_copy
from r1_searcher.retrieval import bm25
from r1_searcher.retrieval.build import META_FILE
from r1_searcher.retrieval.identity import PASSAGES_FILE
from r1_searcher.retrieval.lucene.java import LUCENE_SECTION, LuceneSearcher
from r1_searcher.retrieval.lucene.settings import LuceneSettings
from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.texts import parse_json
from r1_searcher.transcripts.documents import fold_space
from r1_searcher.types.protocols import Passage

_FOLDER, _ROWS_FILE = "lucene", "rows.npy"
_TAKE = "run `r1-searcher index takeover path/to/the/lucene/index`"


def is_lucene(folder: Path) -> bool:
    """Return whether a folder looks like a Lucene index."""
    return folder.is_dir() and any(folder.glob("segments_*"))


def take_over_lucene(source: Path, corpus: Path, settings: LuceneSettings, index: Path, *, rows: int) -> dict[str, Any]:
    """Write ``<index>/lucene`` around the Lucene index in ``source``, whole; return its meta.

    It must have as many documents as the corpus has passages, under their ids, and the texts of ``rows`` of them,
    evenly spaced. ``index`` must hold the BM25 index of ``corpus``. Raises ``PipelineError``.
    """
    base = bm25.read_meta(index)
    if base["corpus"] != corpora.fingerprint(corpus):
        raise PipelineError(
            "the index belongs to another corpus", where=str(index), fix="build it: `r1-searcher index`"
        )
    searcher, passages = LuceneSearcher(source, settings), PassageFile(index / PASSAGES_FILE)
    if searcher.count != len(passages):
        raise PipelineError(
            f"has {searcher.count:,} documents, and the corpus {len(passages):,} passages", where=str(source)
        )
    numbers = np.unique(np.linspace(0, len(passages) - 1, min(rows, len(passages))).round().astype(np.int64))
    for row in numbers:
        _check_document(searcher, passages.get(int(row), 0.0), source)
    with artefacts.atomic(index / _FOLDER, folder=True) as draft:
        for file in sorted(source.iterdir()):
            if file.is_file() and file.name != "write.lock":
                link_or_copy(file.resolve(), draft / file.name)
        ids = pa.concat_arrays([batch["passage_id"] for batch in corpora.batches(corpus, ["passage_id"])])
        np.save(draft / _ROWS_FILE, pc.sort_indices(ids).to_numpy().astype(np.uint32))
        content = {file.name: sums.sha256_file(file) for file in sorted(draft.iterdir())}
        meta = {
            "corpus": base["corpus"],
            "num_passages": len(passages),
            "rows_compared": len(numbers),
            "content": artefacts.fingerprint(content),
        }
        artefacts.write_json(draft / META_FILE, meta)
    sums.renew(index)
    return meta


def _check_document(searcher: LuceneSearcher, passage: Passage, source: Path) -> None:
    stored = searcher.text(passage.passage_id)
    if stored is None:
        raise PipelineError(
            f"has no document {passage.passage_id!r:.60}",
            where=str(source),
            fix="take an index of this corpus, under the same ids",
        )
    if not stored:
        raise PipelineError(
            "stores no texts, so it cannot be compared with the corpus",
            where=str(source),
            fix="take an index that stores contents or raw",
        )
    if fold_space(passage.text) not in fold_space(_contents(stored)):
        raise PipelineError(
            f"document {passage.passage_id!r:.60} has another text than its passage",
            where=str(source),
            fix="take an index of this corpus",
        )


def _contents(stored: str) -> str:
    """Return a document's text; its source may be JSON."""
    try:
        found = parse_json(stored)
    except ValueError:
        return stored
    return " ".join(str(value) for value in found.values()) if isinstance(found, dict) else stored


def read_lucene_meta(index: Path) -> dict[str, Any]:
    """Return the meta.json of the Lucene index of an index folder. Raises ``PipelineError``."""
    path = index / _FOLDER / META_FILE
    if not path.is_file():
        raise PipelineError("no Lucene index here", where=str(index), fix=_TAKE)
    meta = artefacts.read_json(path)
    if not isinstance(meta, dict) or not {"corpus", "num_passages", "content"} <= meta.keys():
        raise PipelineError("not the meta file of a Lucene index", where=str(path), fix=_TAKE)
    return meta


def lucene_fingerprint(meta: dict[str, Any], settings: LuceneSettings) -> str:
    """Return the fingerprint of a search: the index' files, BM25's parameters and the words of a query."""
    how = settings.model_dump(include={"k1", "b", "stemmer", "keep_stopwords"})
    return artefacts.fingerprint({"content": meta["content"], "corpus": meta["corpus"], "form": 1, **how})


def describe(settings: LuceneSettings) -> str:
    """Return the method and its settings, for people."""
    words = f"stemmer {settings.stemmer}, stop words {'kept' if settings.keep_stopwords else 'left out'}"
    return f"Lucene, b {settings.b}, k1 {settings.k1}, {words}"


def open_lucene(settings: LuceneSettings, index: Path, corpus: Path | None) -> LuceneRetriever:
    """Open the Lucene index of an index folder. Raises ``PipelineError``."""
    meta, base = read_lucene_meta(index), bm25.read_meta(index)
    wanted = base["corpus"] if corpus is None else corpora.fingerprint(corpus)
    if meta["corpus"] != wanted:
        raise PipelineError(
            f"the Lucene index belongs to corpus {meta['corpus'][:12]}, not to {wanted[:12]}",
            where=str(index / _FOLDER),
            fix=_TAKE,
        )
    sums.check(index / _FOLDER)
    passages = PassageFile(index / PASSAGES_FILE)
    rows = np.load(index / _FOLDER / _ROWS_FILE, mmap_mode="r")
    searcher = LuceneSearcher(index / _FOLDER, settings)
    return LuceneRetriever(searcher, passages, rows, lucene_fingerprint(meta, settings))


class LuceneRetriever:
    """The ``Retriever`` protocol over a Lucene index."""

    fingerprint: str

    def __init__(self, searcher: LuceneSearcher, passages: PassageFile, rows: np.ndarray, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._searcher, self._passages, self._rows = searcher, passages, rows

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """See ``Windows``."""
        return self._passages.around(passage.passage_id, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` passages per query, as Anserini ranks them."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not queries:
            return []
        return [[self._passage(*hit) for hit in found] for found in self._searcher.search(queries, k)]

    def _passage(self, name: str, score: float) -> Passage:
        key = name.encode()  # ids are in the order of their bytes
        place = bisect_left(range(len(self._rows)), key, key=lambda at: self._get(at, 0.0).passage_id.encode())
        found = self._get(min(place, len(self._rows) - 1), score)
        if found.passage_id != name:
            raise PipelineError(f"finds {name!r:.60}, which is not in the corpus", where=LUCENE_SECTION, fix=_TAKE)
        return found

    def _get(self, place: int, score: float) -> Passage:
        return self._passages.get(int(self._rows[place]), score)
