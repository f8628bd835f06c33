"""Trajectories for a page: who wrote what, with queries and answers marked, and the advantage per policy segment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from r1_searcher.report.inputs import Moment, TableRow
from r1_searcher.rewards.columns import CALLS, PREFIX, calls_in, further
from r1_searcher.transcripts.grammar import (
    ANSWER,
    DOCUMENTS,
    END_ANSWER,
    END_DOCUMENTS,
    END_QUERY,
    POLICY,
    QUERY,
    TAGS,
    Tags,
    tags_of,
)

_SEARCH = Tags("search", QUERY, END_QUERY)
_STRONG_ADVANTAGE = 1.5  # from here on the tint is strongest


@dataclass(frozen=True)
class Span:
    """A run of text with one style: ``kind`` is text, tag, query (a call of any tool) or answer."""

    kind: str
    text: str


@dataclass(frozen=True)
class Part:
    """One author's segment. ``advantage``: mean over the segment's policy tokens, None if unknown. ``tool``: the one
    called before a document block."""

    source: str
    spans: list[Span]
    advantage: float | None = None
    tool: str = _SEARCH.name

    @property
    def who(self) -> str:
        """Return the author's display name."""
        return "policy" if self.source != "document" else f"{self.tool} results"

    @property
    def tint(self) -> str:
        """CSS class of the advantage: its sign and, in two steps, its size."""
        if self.advantage is None or self.advantage == 0:
            return ""
        sign = "up" if self.advantage > 0 else "down"
        return f"{sign} strong" if abs(self.advantage) >= _STRONG_ADVANTAGE / 2 else sign


def spans(text: str, tools: Sequence[Tags] = ()) -> list[Span]:
    """Split a policy's text at its tags, those of further ``tools`` included; text in a closed pair of call tags is a
    query, in answer tags an answer."""
    closes = {ANSWER: END_ANSWER, **{tool.begin: tool.end for tool in (_SEARCH, *tools)}}
    out: list[Span] = []
    position = 0
    opened: str | None = None
    for match in re.finditer("|".join(map(re.escape, (*TAGS, *tags_of(tools)))), text):
        before = text[position : match.start()]
        if before:
            closed = opened is not None and match[0] == closes[opened]
            out.append(Span("text" if not closed else "answer" if opened == ANSWER else "query", before))
        out.append(Span("tag", match[0]))
        opened = match[0] if match[0] in closes else None
        position = match.end()
    if text[position:]:
        out.append(Span("text", text[position:]))
    return out


def _document_spans(text: str) -> list[Span]:
    """Split a document block at its own two tags; anything tag-like inside is a passage's text."""
    if not (text.startswith(DOCUMENTS) and text.endswith(END_DOCUMENTS)):
        return [Span("text", text)]
    inside = text.removeprefix(DOCUMENTS).removesuffix(END_DOCUMENTS)
    return [Span("tag", DOCUMENTS), Span("text", inside), Span("tag", END_DOCUMENTS)]


def segment_advantages(token_source: Sequence[int], advantages: Sequence[float]) -> list[float]:
    """Return the mean advantage of each run of policy tokens. ``token_source`` (T,), ``advantages`` (P,)."""
    means, position = [], 0
    for source, run in groupby(token_source):
        if source == POLICY:
            length = len(list(run))
            means.append(sum(advantages[position : position + length]) / length)
            position += length
    return means


def parts(
    segments: Sequence[TableRow], advantages: Sequence[float] | None = None, tools: Sequence[Tags] = ()
) -> list[Part]:
    """Return the parts of a transcript. ``advantages`` needs one figure per policy segment, else it is not shown.
    ``tools``: those beside search that the policy could call."""
    policies = sum(segment["source"] == "policy" for segment in segments)
    each = iter(advantages) if advantages is not None and len(advantages) == policies else None
    out = []
    called = _SEARCH.name
    for segment in segments:
        if segment["source"] == "policy":
            out.append(Part("policy", spans(segment["text"], tools), next(each) if each else None))
            called = _called_tool(segment["text"], tools)
        else:
            out.append(Part("document", _document_spans(segment["text"].strip("\n")), tool=called))
    return out


def _called_tool(text: str, tools: Sequence[Tags]) -> str:
    """Return the tool whose end tag is the last in a turn."""
    return max((_SEARCH, *tools), key=lambda tool: text.rfind(tool.end)).name


def offered(row: Mapping[str, Any]) -> list[Tags]:
    """Return the tools beside search of a row of rollouts or an evaluation."""
    return [Tags(**one) for one in row.get("tools") or ()]


def calls(figures: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return further tools with their successful calls, of a row of rewards or an evaluation."""
    return [(name.removeprefix(CALLS), figures[name]) for name in calls_in(figures)]


def evaluation_card(row: TableRow) -> dict[str, Any]:
    """Return a row of an evaluation file as a card; without provenance columns its text is one piece."""
    segments = row.get("segments") or [{"source": "policy", "text": row["text"]}]
    shown = parts(segments, tools=offered(row))
    return {**row, "parts": shown, "calls": calls(row), "violations": row.get("violations") or []}


def choose_questions(
    before: Sequence[TableRow], after: Sequence[TableRow], number: int, *, metric: str = "cover_em"
) -> tuple[list[str], dict[str, int]]:
    """Return the ids of ``number`` questions in file order, two thirds of which became right while the rest stayed
    wrong.

    Also returns the size of each group, so that the page can name the population.
    """
    was = {row["question_id"]: row[metric] for row in before}
    shared = [row for row in after if row["question_id"] in was]
    turned = [row["question_id"] for row in shared if row[metric] >= 1 > was[row["question_id"]]]
    wrong = [row["question_id"] for row in shared if row[metric] < 1]
    other = [row["question_id"] for row in shared if row["question_id"] not in {*turned, *wrong}]
    num_wrong = min(len(wrong), max(number - len(turned), number // 3))
    chosen = [*turned[: number - num_wrong], *wrong[:num_wrong]]
    chosen += other[: number - len(chosen)]
    return chosen, {"n": len(shared), "turned": len(turned), "wrong": len(wrong)}


def best_and_worst(moment: Moment, groups: int) -> list[dict[str, Any]]:
    """Return the ``groups`` questions with the most unequal rewards: each one's best and worst sample."""
    by_question: dict[str, list[TableRow]] = {}
    for row in moment.rows:
        by_question.setdefault(row["question_id"], []).append(row)

    def reward(row: TableRow) -> float:
        return float(row["reward"]["total"])

    def spread(rows: list[TableRow]) -> float:
        return max(map(reward, rows)) - min(map(reward, rows))

    widest = sorted(by_question.values(), key=spread, reverse=True)[:groups]
    cards = []
    for rows in widest:
        best, worst = max(rows, key=reward), min(rows, key=reward)
        cards.append(_sample_card(best, "best", len(rows)))
        if worst is not best:
            cards.append(_sample_card(worst, "worst", len(rows)))
    return cards


def _sample_card(row: TableRow, rank: str, size: int) -> dict[str, Any]:
    known = row["advantages"]
    means = segment_advantages(row["token_source"], known) if known else None
    return {
        **row,
        "rank": f"{rank} of {size} samples",
        "components": [(name.removeprefix(PREFIX), row["reward"][name]) for name in further(row["reward"])],
        "calls": calls(row["reward"]),
        "parts": parts(row["segments"], means, offered(row)),
        "advantage": sum(known) / len(known) if known else None,
    }
