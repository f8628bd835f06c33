"""Finished parts of a large corpus, stored until the corpus is whole, so that a killed run continues.

A part is stored with the reader's position after its last passage and the counts so far. So the next run continues from
that line, in the same state, and writes the same bytes. The key includes the files by path, size and time of change,
the settings and the code: any change starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from r1_searcher import params
from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.layouts import KILT_PAGES
from r1_searcher.corpus.own_files import layout_of
from r1_searcher.corpus.position import Position
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.files import artefacts, streams
from r1_searcher.files.store import Store, link_or_copy
from r1_searcher.types import schemas

_KIND = "corpus_parts"  # in the store
_PART, _STATE = "part.parquet", "state.json"
_CODE = (
    "corpus",
    *(f"files/{name}.py" for name in ("columns", "delimited", "json_stream", "passages", "records", "streams")),
)


class Parts:
    """The stored parts of one corpus."""

    def __init__(self, corpus: params.Corpus, paths: list[Path], store: Store) -> None:
        self._store = store
        self._kilt = corpus.source == "kilt"
        self.position, self.counts, self.seen = Position(), list[FileCount](), SeenIds()
        self._identity: list[Any] | None = None
        if _resumable(corpus, paths):
            about = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
            settings = corpus.model_dump(mode="json", exclude={"world"})
            self._identity = [about, settings, schemas.PASSAGES.to_string(), pa.__version__]
            self._identity.append(artefacts.code_fingerprint(*_CODE))
        self._number = 0

    def kept(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the parts that a killed run left, in order, each with its manifest entry; afterwards ``position``,
        ``counts`` and ``seen`` are those after the last one."""
        state = None
        while (place := self._place()) is not None:
            state = artefacts.read_json(place / _STATE)
            self._add_ids(place / _PART)
            self._number += 1
            yield place / _PART, state["entry"]
        if state is not None:
            self.position = Position(**state["position"])
            self.counts[:] = [FileCount(**count) for count in state["counts"]]

    def keep(self, part: Path, entry: dict[str, Any]) -> None:
        """Store the next part. (As a link if the file system allows it, which takes no disk.)"""
        if self._identity is not None:
            with self._store.put(_KIND, self._key(self._number)) as draft:
                link_or_copy(part, draft / _PART)
                counts = [asdict(count) for count in self.counts]
                state = {"entry": entry, "position": asdict(self.position), "counts": counts}
                artefacts.write_json(draft / _STATE, state)
        self._number += 1

    def forget(self) -> None:
        """Remove the stored parts: the corpus is whole."""
        if self._identity is not None:
            for number in range(self._number):
                self._store.remove(_KIND, self._key(number))

    def _place(self) -> Path | None:
        return None if self._identity is None else self._store.get(_KIND, self._key(self._number))

    def _key(self, number: int) -> str:
        return artefacts.fingerprint([self._identity, number])

    def _add_ids(self, part: Path) -> None:
        """Add the ids of a part's passages to ``seen``; for KILT the ids of its pages, before "-0"."""
        for batch in pq.ParquetFile(part).iter_batches(columns=["passage_id"]):
            ids = batch["passage_id"]
            if self._kilt:
                ids = pc.utf8_slice_codeunits(ids.filter(pc.ends_with(ids, "-0")), 0, -2)
            for identity in ids.to_pylist():
                self.seen.add(identity)


def _resumable(corpus: params.Corpus, paths: list[Path]) -> bool:
    """Return whether a reader can resume at a record: passages in any layout can; of pages, only KILT's."""
    if corpus.words or not all(path.is_file() for path in paths):
        return False  # a part may end between two pieces of a record
    if corpus.source == "kilt":
        return all(streams.kind(path) != ".tsv" for path in paths)
    return corpus.source == "files" and all(layout_of(path, corpus.mapping).name != KILT_PAGES for path in paths)
