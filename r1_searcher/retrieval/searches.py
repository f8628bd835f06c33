"""Recorded searches: every (retriever, query, k) → passages, and a retriever that serves from the record only.

One SQLite file with SQLite's rollback journal: a killed run loses at most the searches that it was waiting for, several
runs may write at once, and between two writes it is one plain file, which can be copied, committed or versioned by DVC.
(SQLite's locks need a file system that supports them: a local disk, not every network share.) A passage is stored once,
under the sha256 of its content.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.files.sums import REPAIR
from r1_searcher.texts import parse_json
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, whole, windows_of

SEARCHES_FILE = "searches.sqlite"
_FORM = 1
_WINDOW = 0  # stands for k if a window is recorded: no search has this k
_BUSY_SECONDS = 60.0  # how long to wait for another writer
_TABLES = """
create table if not exists retrievers (
    fingerprint text primary key, kind text not null, corpus text not null, description text not null,
    calls integer not null default 0);
create table if not exists searches (
    key text primary key, retriever text not null, query text not null, k integer not null, found text not null);
create table if not exists passages (
    sha256 text primary key, passage_id text not null, title text not null, text text not null);
"""
# Added after the first form: older records lack it, because runs were not told apart.
_RUNS = """
create table if not exists runs (
    retriever text not null, run text not null, calls integer not null, primary key (retriever, run))"""
T = TypeVar("T")


@dataclass(frozen=True)
class RecordedRetriever:
    """A retriever with recorded searches. ``calls``: paid calls of all runs; ``searches``: number of records."""

    fingerprint: str
    kind: str
    corpus: str
    description: str
    calls: int = 0
    searches: int = 0


class SearchRecord:
    """The record in a folder. Safe for several threads and processes."""

    def __init__(self, folder: Path | str, *, replay: bool = False) -> None:
        """Open or create the record; ``replay``: it must exist, and is only read."""
        self.path = Path(folder) / SEARCHES_FILE
        if replay and not self.path.is_file():
            raise PipelineError(
                "no recorded searches here",
                where=str(self.path),
                fix="record them with retriever.searches.mode: record, or name their folder in retriever.searches",
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        address = f"{self.path.resolve().as_uri()}?mode={'ro' if replay else 'rwc'}"
        self._database = self._guarded(
            lambda: sqlite3.connect(
                address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        )
        self._guarded(lambda: self._prepare(replay))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prepare(self, replay: bool) -> None:
        (form,) = self._database.execute("pragma user_version").fetchone()
        if form not in (0, _FORM):
            raise PipelineError(f"a record of form {form}, not {_FORM}", where=str(self.path))
        if not replay and form == 0:
            self._database.execute("begin immediate")
            for statement in filter(str.strip, _TABLES.split(";")):
                self._database.execute(statement)
            self._database.execute(f"pragma user_version = {_FORM}")
            self._database.execute("commit")
        if not replay and not self._tells_runs_apart():
            self._database.execute(_RUNS)

    def _tells_runs_apart(self) -> bool:
        sql = "select 1 from sqlite_master where type = 'table' and name = 'runs'"
        return self._database.execute(sql).fetchone() is not None

    def _guarded(self, work: Callable[[], T]) -> T:
        """Turn SQLite's errors (not a database, locked, disk full) into one line."""
        try:
            return work()
        except sqlite3.Error as error:
            # Only an error of the file itself means damage, not a lock or a full disk.
            broken = type(error) is sqlite3.DatabaseError
            fix = f"`{REPAIR}` moves it aside; searches are then made and recorded again" if broken else None
            raise PipelineError(f"the record cannot be used: {error}", where=str(self.path), fix=fix) from None

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one transaction: whole or not at all."""

        def transaction() -> T:
            with self._lock:
                self._database.execute("begin immediate")
                try:
                    done = work(self._database)
                except BaseException:
                    self._database.execute("rollback")
                    raise
                self._database.execute("commit")
                return done

        return self._guarded(transaction)

    def introduce(self, retriever: RecordedRetriever) -> None:
        """Record a retriever whose searches are about to be recorded."""
        row = (retriever.fingerprint, retriever.kind, retriever.corpus, retriever.description)
        self._write(
            lambda database: database.execute(
                "insert or ignore into retrievers (fingerprint, kind, corpus, description) values (?, ?, ?, ?)", row
            )
        )

    def retrievers(self) -> list[RecordedRetriever]:
        """Return the recorded retrievers."""
        sql = """
            select fingerprint, kind, corpus, description, calls,
            (select count(*) from searches where retriever = fingerprint)
            from retrievers order by kind, fingerprint"""
        with self._lock:
            return [RecordedRetriever(*row) for row in self._guarded(lambda: self._database.execute(sql).fetchall())]

    def runs(self, retriever: str) -> dict[str, int]:
        """Return a retriever's paid calls by run."""

        def read() -> dict[str, int]:
            if not self._tells_runs_apart():
                return {}
            sql = "select run, calls from runs where retriever = ? order by run"
            return dict(self._database.execute(sql, (retriever,)).fetchall())

        with self._lock:
            return self._guarded(read)

    def take(self, retriever: str, run: str, limit: int) -> bool:
        """Book one paid call of a retriever for a run; return false, booking nothing, if the run has ``limit``."""

        def book(database: sqlite3.Connection) -> bool:
            database.execute("insert or ignore into runs values (?, ?, 0)", (retriever, run))
            sql = "update runs set calls = calls + 1 where retriever = ? and run = ? and calls < ?"
            booked = database.execute(sql, (retriever, run, limit)).rowcount == 1
            if booked:
                database.execute("update retrievers set calls = calls + 1 where fingerprint = ?", (retriever,))
            return booked

        return self._write(book)

    def put(self, retriever: str, k: int, found: Mapping[str, Sequence[Passage]]) -> None:
        """Record the passages of queries. Existing records are kept."""

        def keep(database: sqlite3.Connection) -> None:
            for query, passages in found.items():
                rows = [(_address(passage), passage) for passage in passages]
                database.executemany(
                    "insert or ignore into passages values (?, ?, ?, ?)",
                    [(sha256, passage.passage_id, passage.title, passage.text) for sha256, passage in rows],
                )
                listed = json.dumps([[sha256, passage.score] for sha256, passage in rows], allow_nan=False)
                row = (_key(retriever, query, k), retriever, query, k, listed)
                database.execute("insert or ignore into searches values (?, ?, ?, ?, ?)", row)

        if found:
            self._write(keep)

    def get(self, retriever: str, queries: Iterable[str], k: int) -> dict[str, list[Passage]]:
        """Return the recorded passages of those queries that have any."""
        found: dict[str, list[Passage]] = {}
        with self._lock:
            for query in dict.fromkeys(queries):
                passages = self._guarded(lambda query=query: self._recorded(retriever, query, k))  # type: ignore[misc]
                if passages is not None:
                    found[query] = passages
        return found

    def _recorded(self, retriever: str, query: str, k: int) -> list[Passage] | None:
        row = self._database.execute(
            "select found from searches where key = ?", (_key(retriever, query, k),)
        ).fetchone()
        return None if row is None else [self._passage(sha256, score) for sha256, score in parse_json(row[0])]

    def _passage(self, sha256: str, score: float) -> Passage:
        row: tuple[str, str, str] | None = self._database.execute(
            "select passage_id, title, text from passages where sha256 = ?", (sha256,)
        ).fetchone()
        passage = Passage(*row, score) if row is not None else None
        if passage is None or _address(passage) != sha256:
            raise PipelineError(f"passage {sha256[:12]} is missing or changed", where=str(self.path))
        return passage


def _key(retriever: str, query: str, k: int) -> str:
    return fingerprint([retriever, query, k])


def _window(passage: Passage, before: int, after: int) -> str:
    """Return the pseudo-query of a recorded window."""
    return json.dumps([passage.passage_id, passage.title, before, after], ensure_ascii=False)


def _address(passage: Passage) -> str:
    return fingerprint([passage.passage_id, passage.title, passage.text])


class RecordingRetriever:
    """Another retriever whose every search is recorded; recorded searches are not repeated.

    So a stopped run never pays for a search twice, and equal queries in training and evaluation get equal passages.
    Failed searches are not recorded.
    """

    fingerprint: str

    def __init__(self, retriever: Retriever, record: SearchRecord) -> None:
        self._retriever, self._record = retriever, record
        self.fingerprint = retriever.fingerprint

    @property
    def opens(self) -> bool:
        """See ``Windows``."""
        return windows_of(self._retriever) is not None

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return the other retriever's window and record it like a search; a recorded one is not read again."""
        asked = _window(passage, before, after)
        known = self._record.get(self.fingerprint, [asked], _WINDOW)
        if asked not in known:
            windows = windows_of(self._retriever)
            assert windows is not None, "the other retriever has no windows"
            known = {asked: windows.around(passage, before, after)}
            self._record.put(self.fingerprint, _WINDOW, known)
        return known[asked]

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Search like the other retriever; results are recorded even if some queries failed."""
        known: dict[str, list[Passage] | RetrieverError] = {**self._record.get(self.fingerprint, queries, k)}
        missing = [query for query in dict.fromkeys(queries) if query not in known]
        if missing:
            found: Sequence[list[Passage] | RetrieverError] = []
            try:
                found = search_each(self._retriever, missing, k)
            except PipelineError as error:  # the run ends here, but keeps what it has paid for
                found = getattr(error, "found", [])
                raise
            finally:
                pairs = list(zip(missing, found, strict=False))
                self._record.put(
                    self.fingerprint, k, {query: entry for query, entry in pairs if isinstance(entry, list)}
                )
            known.update(pairs)
        return whole([known[query] for query in queries])


class ReplayRetriever:
    """Serves only recorded searches of one retriever: needs neither index nor network nor key."""

    fingerprint: str

    def __init__(self, retriever: str, record: SearchRecord) -> None:
        self.fingerprint = retriever
        self._record = record

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return the recorded window. Raises ``PipelineError`` that names a passage without a record of it."""
        asked = _window(passage, before, after)
        found = self._record.get(self.fingerprint, [asked], _WINDOW)
        if asked not in found:
            raise PipelineError(
                f"no recorded window of {passage.passage_id!r}, {before} passages before and {after} after, by "
                f"retriever {self.fingerprint[:12]}",
                where=str(self._record.path),
                fix="record it: run the same command with retriever.searches.mode: record",
            )
        return found[asked]

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the recorded passages. Raises ``PipelineError`` that names a search without a record."""
        found = self._record.get(self.fingerprint, queries, k)
        for query in queries:
            if query not in found:
                raise PipelineError(
                    f"no recorded search for {query!r} with k = {k} by retriever {self.fingerprint[:12]}",
                    where=str(self._record.path),
                    fix="record it: run the same command with retriever.searches.mode: record",
                )
        return [found[query] for query in queries]
