"""The index of all trajectories: their narrow columns and lower-case text in a DuckDB file, kept up with the folders.

Trajectories themselves stay in the Parquet files. A file whose size or time of change differs is indexed again, one
that is gone is removed, so the index may be kept or thrown away at will.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.browsing import columns
from r1_searcher.browsing.folders import DataFile, Folders, Source, sources
from r1_searcher.shown import visible

_MEMORY = "384MB"  # of DuckDB; the whole process stays below 1 GB
_VERSION = 2  # of the tables below and what is computed for them
_LONGEST_WORDS = 1_000_000  # characters of one trajectory that can be searched
# Figures, flags and names that every row has; what a reward set or a tool adds are further columns.
ROW_FIGURES: tuple[str, ...] = (
    *("reward", "retrieval", "format", "answer_reward", "em", "f1", "cover_em", "searches", "tokens"),
    *("policy_tokens", "advantage"),
)
_TABLES = """
CREATE TABLE IF NOT EXISTS sources (
  source INTEGER, key VARCHAR, state VARCHAR, name VARCHAR, path VARCHAR, kind VARCHAR, run VARCHAR, policy VARCHAR,
  iteration INTEGER, benchmark VARCHAR, rewards VARCHAR, advantages VARCHAR);
CREATE TABLE IF NOT EXISTS trajectories (
  id BIGINT, run VARCHAR, kind VARCHAR, policy VARCHAR, iteration INTEGER, benchmark VARCHAR,
  question_id VARCHAR, question_kind VARCHAR, sample INTEGER,
  reward DOUBLE, retrieval DOUBLE, format DOUBLE, answer_reward DOUBLE, em DOUBLE, f1 DOUBLE, cover_em DOUBLE,
  format_right BOOLEAN, counted BOOLEAN, violations VARCHAR[], finish_reason VARCHAR,
  searches INTEGER, tokens INTEGER, policy_tokens INTEGER, advantage DOUBLE,
  question VARCHAR, answer VARCHAR, golds VARCHAR[], words VARCHAR);
"""
_INSERT = """
INSERT INTO trajectories BY NAME SELECT
  ? + number AS id, ? AS run, ? AS kind, ? AS policy, ? AS iteration, ? AS benchmark,
  question_id, question_kind, sample, total AS reward, retrieval, format, answer_reward, em, f1, cover_em, format_right,
  counted, violations, finish_reason, num_searches AS searches, num_tokens AS tokens,
  num_policy_tokens AS policy_tokens, advantage, left(question, 2000) AS question, left(answer, 2000) AS answer,
  list_transform(golds[:20], lambda one: left(one, 500)) AS golds,
  lower(left(concat_ws(chr(10), question, text), ?)) AS words{added}
FROM batch
"""
_STAGES = (48, 600, None)  # files that are opened at once
_MOST_FILES, _MOST_ROWS = 64, 16_384  # of one transaction
ROWS_BITS = 32  # an id is source << 32 | row


class TrajectoryIndex:
    """An index over ``folders``. ``keep``: a folder where it stays for the next time; else it is thrown away at the
    end."""

    def __init__(self, folders: Folders, keep: Path | None = None) -> None:
        self.folders = folders
        self._temporary = None if keep else Path(tempfile.mkdtemp(prefix="r1-searcher-browse-"))
        self._changing = threading.Lock()
        self.version = 0  # rises with every change
        self.done, self.todo = 0, 1  # files
        self._failed: dict[str, tuple[str, str, str]] = {}  # a source's key → its state, its name, why
        self.looked = False  # whether the folders were looked at once
        folder = keep or self._temporary
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        roots = hashlib.sha256(repr([_VERSION, [str(root.resolve()) for root in folders.roots]]).encode()).hexdigest()
        self._connection = _connected(folder / f"{roots[:16]}.duckdb")
        for statement in _TABLES.split(";"):
            if statement.strip():
                self._connection.execute(statement)
        self.added = self._added()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection for one request."""
        return self._connection.cursor()

    def close(self) -> None:
        """Let go of the file."""
        with self._changing:
            self._connection.close()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def problems(self) -> dict[str, str]:
        """Return the files that are not shown and why."""
        return {**self.folders.problems, **{name: line for _, name, line in list(self._failed.values())}}

    def refresh(self, stop: threading.Event | None = None) -> bool:
        """Look at the folders and index what is new or changed, until ``stop``; returns whether something was.

        The first files are indexed before the others are opened, so that a page soon has something to show.
        """
        changed = False
        with self._changing:
            for most in _STAGES:
                files = self.folders.scan(most)
                changed |= self._take(files, stop)
                if self.folders.complete or (stop is not None and stop.is_set()):
                    break
            self.looked = True
        return changed

    def _take(self, files: Sequence[DataFile], stop: threading.Event | None) -> bool:
        wanted = {source.key: source for source in sources(files)}
        asked = "SELECT source, key, state FROM sources"
        have = {key: (number, state) for number, key, state in self._connection.execute(asked).fetchall()}
        gone = [key for key, (_, state) in have.items() if key not in wanted or wanted[key].state != state]
        if not self.folders.complete:
            gone = [key for key in gone if key in wanted]
        new = [source for key, source in wanted.items() if key not in have or have[key][1] != source.state]
        self._failed = {key: one for key, one in self._failed.items() if key in wanted}
        new = [one for one in new if self._failed.get(one.key, ("",))[0] != one.state]  # else it fails again
        self.done, self.todo = 0, len(new)
        for key in gone:
            self._remove(have[key][0])
        self.version += bool(gone)
        kinds = _Kinds(files)
        for group in _groups(new):
            if stop is not None and stop.is_set():
                break
            self._add(group, kinds)
            self.done += len(group)
            self.version += 1
        return bool(gone or new)

    def _remove(self, source: int) -> None:
        low = source << ROWS_BITS
        self._connection.execute("DELETE FROM trajectories WHERE id BETWEEN ? AND ?", [low, low + (1 << ROWS_BITS) - 1])
        self._connection.execute("DELETE FROM sources WHERE source = ?", [source])

    def _add(self, group: list[Source], kinds: _Kinds) -> None:
        """Index files in one transaction, since each one waits for the disk; a file that fails is left out."""
        while group:
            self._connection.execute("BEGIN")
            source = group[0]
            try:
                for number, source in enumerate(group, self._next_source()):
                    self._add_one(source, number, kinds)
                self._connection.execute("COMMIT")
            except (pa.ArrowException, OSError, ValueError, duckdb.Error) as error:
                self._connection.execute("ROLLBACK")
                self.added = self._added()
                line = f"cannot be read: {' '.join(str(error).split())[:200]}"
                self._failed[source.key] = (source.state, source.file.name, line)
                group = [one for one in group if one is not source]
            else:
                for one in group:
                    self._failed.pop(one.key, None)
                return

    def _add_one(self, source: Source, number: int, kinds: _Kinds) -> None:
        row = 0
        for batch in columns.batches(source):
            self._insert(batch, number, row, source, kinds)
            row += batch.num_rows
        self._connection.execute(
            "INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *(number, source.key, source.state, source.file.name, str(source.file.path), source.kind),
                *(source.file.run, source.policy, source.iteration, source.benchmark),
                *(str(one.path) if one else None for one in (source.rewards, source.advantages)),
            ],
        )

    def _insert(self, batch: pa.Table, number: int, row: int, source: Source, kinds: _Kinds) -> None:
        more = columns.added_columns(batch.column_names)
        for name in more:
            if name not in self.added:
                self._connection.execute(f'ALTER TABLE trajectories ADD COLUMN IF NOT EXISTS "{name}" DOUBLE')
                self.added = [*self.added, name]
        batch = batch.append_column("number", pa.array(range(row, row + batch.num_rows), pa.int64()))
        batch = batch.append_column("question_kind", kinds.of(source, batch["question_id"]))
        added = "".join(f', "{name}"' for name in more)
        names = [visible(source.file.run), source.kind, visible(source.policy)]
        place = [number << ROWS_BITS, *names, source.iteration, source.benchmark and visible(source.benchmark)]
        self._connection.register("batch", batch)
        self._connection.execute(_INSERT.format(added=added), [*place, _LONGEST_WORDS])
        self._connection.unregister("batch")

    def _next_source(self) -> int:
        [[number]] = self._connection.execute("SELECT coalesce(max(source), 0) + 1 FROM sources").fetchall()
        return int(number)

    def _added(self) -> list[str]:
        found = self._connection.execute("DESCRIBE trajectories").fetchall()
        return columns.added_columns([str(row[0]) for row in found])


def _groups(new: Sequence[Source]) -> Iterator[list[Source]]:
    """Yield sources, as many at once as one transaction should have: few at first, so that a page soon has rows."""
    group: list[Source] = []
    most = 1
    for source in new:
        group.append(source)
        if len(group) == most or sum(one.file.rows for one in group) >= _MOST_ROWS:
            yield group
            group, most = [], min(2 * most, _MOST_FILES)
    if group:
        yield group


def _connected(path: Path) -> duckdb.DuckDBPyConnection:
    """Open or make an index; one that cannot be opened is made anew."""
    settings: dict[str, Any] = {
        "memory_limit": _MEMORY,
        "threads": 2,
        "temp_directory": f"{path}.tmp",
        "storage_compatibility_version": "latest",
        "preserve_insertion_order": True,
    }
    try:
        connection = duckdb.connect(str(path), config=settings)
    except duckdb.Error:
        path.unlink(missing_ok=True)
        Path(f"{path}.wal").unlink(missing_ok=True)
        connection = duckdb.connect(str(path), config=settings)
    # From here on SQL can open no file and no address, and no statement can change that.
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


class _Kinds:
    """The kind of each question, from the files of questions of the same run."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = [file for file in files if file.kind == "questions"]
        self._tables: dict[str, pa.Table] = {}

    def of(self, source: Source, ids: pa.ChunkedArray) -> pa.Array:
        """Return the kind of each question id; null if unknown."""
        run = source.file.run
        if run not in self._tables:
            self._tables[run] = self._read(run)
        table = self._tables[run]
        return table["kind"].take(pc.index_in(ids, value_set=table["question_id"]))

    def _read(self, run: str) -> pa.Table:
        tables = []
        for file in self._files:
            if file.run == run:
                with suppress(pa.ArrowException, OSError), columns.open_parquet(file) as opened:
                    table = columns.valid_text(opened.read(["question_id", "kind"]))
                    tables.append(table.cast(pa.schema([("question_id", pa.string()), ("kind", pa.string())])))
        empty = pa.table({"question_id": pa.array([], pa.string()), "kind": pa.array([], pa.string())})
        return pa.concat_tables([empty, *tables]).combine_chunks()
