"""What a page asks of the index: rows, counts, facets, one question's trajectories. Values are bound, never put into
SQL; names of columns come from fixed lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb

from r1_searcher.browsing.index import ROW_FIGURES, ROWS_BITS

FACETS = ("kind", "run", "policy", "benchmark", "question_kind", "finish_reason", "format_right")
SORTED = (*ROW_FIGURES, "iteration", "policy", "question_id", "question", "finish_reason", "answer", "sample")
_SHOWN = (
    *("id", "run", "kind", "policy", "iteration", "benchmark", "question_id", "question_kind", "sample", *ROW_FIGURES),
    *("format_right", "counted", "violations", "finish_reason"),
)
_CELL = 240  # characters of a text that a table shows
_MOST_VALUES = 200  # of a facet
_AROUND = (40, 130)  # characters before a word that was searched for, and in all
MOST_ROWS = 200  # per page
MOST_OF_QUESTION = 2000

Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class Filters:
    """``equal``: a facet → its allowed values ("" is: unknown); ``least``, ``most``: a figure → its bounds."""

    text: str = ""
    equal: Mapping[str, Sequence[str]] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    violations: Sequence[str] = ()
    question: str = ""

    def sql(self, added: Sequence[str] = ()) -> tuple[str, list[Any]]:
        """Return a WHERE clause and its values. ``added``: further columns that may be bounded."""
        parts: list[str] = []
        values: list[Any] = []
        for name, allowed in self.equal.items():
            if name in FACETS and allowed:
                parts.append(f"coalesce(CAST({name} AS VARCHAR), '') IN ({', '.join('?' * len(allowed))})")
                values += allowed
        for bounds, sign in ((self.least, ">="), (self.most, "<=")):
            for name, bound in bounds.items():
                if name in (*ROW_FIGURES, "iteration", *added):
                    parts.append(f'"{name}" {sign} ?')
                    values.append(bound)
        for rule in self.violations:
            parts.append("list_contains(violations, ?)" if rule else "len(violations) = 0")
            values += [rule] if rule else []
        if self.question:
            parts.append("question_id = ?")
            values.append(self.question)
        for word in _words(self.text):
            parts.append("contains(words, ?)")
            values.append(word)
        return (" WHERE " + " AND ".join(parts) if parts else ""), values


def _words(text: str) -> list[str]:
    """Return what must occur: the words of a search, and phrases in quotes as they are."""
    found = []
    for place, part in enumerate(text.lower().split('"')):
        found += [part] if place % 2 else part.split()
    return sorted({word for word in found if word}, key=len, reverse=True)  # the longest is the rarest


def rows(
    at: duckdb.DuckDBPyConnection,
    filters: Filters,
    *,
    sort: str = "",
    order: Order = "asc",
    offset: int = 0,
    limit: int = 50,
    added: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return a page of trajectories. Without ``sort`` in the order of training."""
    clause, values = filters.sql(added)
    by = f'"{sort}" {"DESC" if order == "desc" else "ASC"} NULLS LAST, id' if sort in (*SORTED, *added) else "id"
    # The ids first: only their rows are then read. What stands around a word comes along, since its text was just read.
    words, around, shown = _words(filters.text), "", []
    if words:
        around, shown = ", substr(words, greatest(1, position(? IN words) - ?), ?)", [words[0], *_AROUND]
    inner = f"SELECT id{', words' if words else ''} FROM trajectories{clause} ORDER BY {by} LIMIT ? OFFSET ?"
    found = at.execute(f"SELECT id{around} FROM ({inner})", [*shown, *values, min(limit, MOST_ROWS), offset]).fetchall()
    texts = {one[0]: one[1] for one in found} if words else {}
    return _of_ids(at, [one[0] for one in found], texts, added)


def _of_ids(
    at: duckdb.DuckDBPyConnection, ids: Sequence[int], around: Mapping[int, str], added: Sequence[str]
) -> list[dict[str, Any]]:
    """Return rows in the order of ``ids``; ``around``: what stands around the word that was searched for."""
    if not ids:
        return []
    names = ", ".join((*_SHOWN, *(f'"{name}"' for name in added)))
    asked = f"""SELECT {names}, left(question, {_CELL}) AS question, left(answer, {_CELL}) AS answer,
      list_transform(golds[:5], lambda one: left(one, 80)) AS golds
      FROM trajectories WHERE id IN ({", ".join("?" * len(ids))})"""
    rows = {row["id"]: row for row in _dicts(at.execute(asked, list(ids)))}
    keys = dict(at.execute("SELECT source, key FROM sources").fetchall())
    out = []
    for one in ids:
        if (row := rows.get(one)) is not None and one >> ROWS_BITS in keys:
            name = f"{keys[one >> ROWS_BITS]}-{one & ((1 << ROWS_BITS) - 1)}"
            out.append({**row, "id": name, "around": around.get(one, "")})
    return out


def count(at: duckdb.DuckDBPyConnection, filters: Filters, added: Sequence[str] = ()) -> dict[str, Any]:
    """Return how many trajectories there are, and the means of their figures."""
    clause, values = filters.sql(added)
    means = ", ".join(f'avg("{name}") FILTER (isfinite("{name}")) AS "{name}"' for name in ("reward", "f1", "cover_em"))
    asked = f"SELECT count(*) AS rows, avg(searches) AS searches, {means} FROM trajectories{clause}"
    return _dicts(at.execute(asked, values))[0]


def facets(at: duckdb.DuckDBPyConnection, filters: Filters, added: Sequence[str] = ()) -> dict[str, list[list[Any]]]:
    """Return each facet's values with how many trajectories have them, the most frequent first.

    The choices within a facet do not narrow this facet itself. One scan serves all facets without a choice.
    """
    chosen = [name for name in FACETS if filters.equal.get(name)]
    found = _grouped(at, filters, [name for name in FACETS if name not in chosen], added)
    for name in chosen:
        others = {one: values for one, values in filters.equal.items() if one != name}
        found |= {name: _grouped(at, replace(filters, equal=others), [name], added)[name]}
    clause, values = (replace(filters, violations=()) if "" in filters.violations else filters).sql(added)
    asked = (
        f"SELECT unnest(violations) AS rule, count(*) FROM trajectories{clause} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 200"
    )
    found["violations"] = [list(row) for row in at.execute(asked, values).fetchall()]
    return found


def _grouped(
    at: duckdb.DuckDBPyConnection, filters: Filters, names: Sequence[str], added: Sequence[str]
) -> dict[str, list[list[Any]]]:
    found: dict[str, list[list[Any]]] = {name: [] for name in names}
    if names:
        clause, values = filters.sql(added)
        sets = ", ".join(f"({name})" for name in names)
        columns = ", ".join(f"coalesce(CAST({name} AS VARCHAR), '')" for name in names)
        asked = f"SELECT GROUPING({', '.join(names)}), count(*), {columns} FROM trajectories{clause}"
        rows = at.execute(f"{asked} GROUP BY GROUPING SETS ({sets})", values).fetchall()
        for mask, number, *row in rows:
            place = next(place for place in range(len(names)) if not mask >> (len(names) - 1 - place) & 1)
            found[names[place]].append([row[place], number])
    return {name: sorted(rows, key=lambda row: (-row[1], row[0]))[:_MOST_VALUES] for name, rows in found.items()}


def bounds(at: duckdb.DuckDBPyConnection, added: Sequence[str] = ()) -> dict[str, list[float]]:
    """Return the least and the largest value of each figure that is known at all."""
    names = [*ROW_FIGURES, "iteration", *added]
    asked = ", ".join(f'min("{name}"), max("{name}")' for name in names)
    [row] = at.execute(f"SELECT {asked} FROM trajectories").fetchall()
    pairs = zip(names, row[::2], row[1::2], strict=True)
    return {name: [least, most] for name, least, most in pairs if least is not None}


def of_question(
    at: duckdb.DuckDBPyConnection, number: int, place: int, added: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return all trajectories of the question of row ``place`` of source ``number``, in the order of training."""
    asked = f"""SELECT id FROM trajectories WHERE (run, question_id) IN
      (SELECT (run, question_id) FROM trajectories WHERE id = ?)
      ORDER BY iteration NULLS LAST, kind = 'training' DESC, kind DESC, policy, sample, id
      LIMIT {MOST_OF_QUESTION}"""
    return _of_ids(at, [row[0] for row in at.execute(asked, [number << ROWS_BITS | place]).fetchall()], {}, added)


def source(at: duckdb.DuckDBPyConnection, key: str) -> dict[str, Any] | None:
    """Return the source of a link's trajectory."""
    found = _dicts(at.execute("SELECT * FROM sources WHERE key = ?", [key]))
    return found[0] if found else None


def row(at: duckdb.DuckDBPyConnection, number: int, place: int, added: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the row of one trajectory."""
    found = _of_ids(at, [number << ROWS_BITS | place], {}, added)
    return found[0] if found else None


def _dicts(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [str(one[0]) for one in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
