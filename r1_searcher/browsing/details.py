"""One trajectory as the page shows it: its segments and tokens with their figures, searches, and the reward's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.browsing.columns import measured, valid_text
from r1_searcher.browsing.tokens import Tokenizers, pieces
from r1_searcher.errors import PipelineError
from r1_searcher.report.trajectories import offered, spans
from r1_searcher.transcripts.grammar import DOCUMENT, DOCUMENTS, END_DOCUMENTS, FORCED, POLICY, PROMPT, Tags

_SOURCES = {PROMPT: "prompt", POLICY: "policy", DOCUMENT: "document", FORCED: "forced"}
MOST_TOKENS = 20_000
MOST_LETTERS = 200_000  # of one segment
_BATCH = 256
_RULES = {
    "think_tag_written": "the policy wrote <think>, which is already in the prompt",
    "end_think_count": "</think> must occur exactly once",
    "begin_answer_count": "<answer> must occur exactly once",
    "end_answer_count": "</answer> must occur exactly once",
    "tag_order": "</think>, <answer> and </answer> must come in this order",
    "text_after_answer": "nothing may follow </answer>",
    "query_not_closed": "every query needs its begin tag and its end tag",
    "tag_counts_differ": "the tags of queries and documents must occur equally often",
    "document_tag_written": "the policy wrote a document tag itself",
    "tag_in_answer": "a tag inside the answer",
    "cjk": "Chinese characters outside of documents",
    "assistant_written": "the policy wrote the name of a role",
    "answer_too_long": "the answer is too long",
    "no_search": "no search was made",
}


def read_row(path: Path, row: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a row of a Parquet file; only a small part of the file is in memory at once.

    Raises ``PipelineError`` if there is no such row, or the file is damaged.
    """
    try:
        with pq.ParquetFile(path, buffer_size=1 << 18, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if row < size:
                    for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=columns):
                        if row < batch.num_rows:
                            return _values(pa.Table.from_batches([batch.slice(row, 1)]))
                        row -= batch.num_rows
                row -= size
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PipelineError(f"cannot be read: {' '.join(str(error).split())[:200]}", where=str(path)) from None
    raise PipelineError("has no such row any more", where=str(path), fix="reload the page")


def find_row(path: Path | None, trajectory: str, near: int) -> dict[str, Any] | None:
    """Return the row of a trajectory in rewards or advantages, looked for at row ``near`` first; None if missing."""
    if path is None:
        return None
    try:
        if (row := read_row(path, near)).get("trajectory_id") == trajectory:
            return row
    except PipelineError:
        pass  # a shorter file: look through all of it
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            place = 0
            for batch in file.iter_batches(columns=["trajectory_id"]):
                ids = valid_text(pa.Table.from_batches([batch]))["trajectory_id"].to_pylist()
                if trajectory in ids:
                    return read_row(path, place + ids.index(trajectory))
                place += len(ids)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PipelineError(f"cannot be read: {' '.join(str(error).split())[:200]}", where=str(path)) from None
    return None


def _values(table: pa.Table) -> dict[str, Any]:
    try:
        row: dict[str, Any] = valid_text(table).to_pylist()[0]
        return row
    except (pa.ArrowInvalid, UnicodeDecodeError):  # not UTF-8 inside of a list
        found: dict[str, Any] = {}
        for name in table.column_names:
            try:
                found[name] = table[name].to_pylist()[0]
            except UnicodeDecodeError:
                found[name] = None
        return found


def trajectory(
    row: Mapping[str, Any],
    rewards: Mapping[str, Any] | None,
    advantages: Mapping[str, Any] | None,
    tokenizers: Tokenizers,
    path: Path,
) -> dict[str, Any]:
    """Return everything about a trajectory: ``row`` of rollouts or of an evaluation with those of its other files."""
    golds = [gold for gold in row.get("answers") or [] if gold]
    segments = row.get("segments") or [{"source": "policy", "text": row.get("text") or ""}]
    turns = list(row.get("turns") or [])
    tools = _tools(row)
    tokens, note = _tokens(row, advantages, tokenizers, path, tools)
    figures = rewards or (row if "em" in row else {**measured(row), "num_tokens": len(row.get("token_ids") or [])})
    return {
        "question": row.get("question"),
        "golds": golds,
        "prompt": _cut(row.get("prompt") or "", MOST_LETTERS),
        "answer": row.get("answer", row.get("prediction")),
        "finish_reason": row.get("finish_reason"),
        "trajectory_id": row.get("trajectory_id"),
        "parts": _parts(segments, turns, golds, tools),
        "tokens": tokens,
        "tokens_note": note,
        "reward": _reward(rewards),
        "metrics": {
            name: figures.get(name)
            for name in ("em", "f1", "cover_em", "cover_em_contiguous", "format_right", "num_searches", "num_tokens")
            if figures.get(name) is not None
        },
        "rules": [{"rule": rule, "says": _RULES.get(rule, "")} for rule in figures.get("violations") or []],
        "scored": figures.get("violations") is not None,
        "counted": (rewards or {}).get("counted"),
    }


def _reward(rewards: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return total and components."""
    if rewards is None:
        return None
    parts = {name: rewards.get(name) for name in ("retrieval", "format", "answer")}
    further = {name.removeprefix("component_"): one for name, one in rewards.items() if name.startswith("component_")}
    return {"total": rewards.get("total"), "components": {**parts, **further}}


def _tools(row: Mapping[str, Any]) -> list[Tags]:
    try:
        return offered(row)
    except TypeError:  # tools of another version
        return []


def _parts(
    segments: Sequence[Mapping[str, Any]], turns: Sequence[Any], golds: Sequence[str], tools: Sequence[Tags]
) -> list[dict[str, Any]]:
    """Return the segments; that of a search has its query and its passages with their scores."""
    out: list[dict[str, Any]] = []
    coming = iter(turns)
    for segment in segments:
        text, source = _cut(segment.get("text") or "", MOST_LETTERS), segment.get("source") or ""
        if source == "document":
            turn = next(coming, None) or {}
            part: dict[str, Any] = {"source": source, "tool": turn.get("tool") or "search", "query": turn.get("query")}
            part |= {"error": turn.get("error"), "passages": _passages(text, turn, golds)}
            out.append({**part, "pieces": [] if part["passages"] else marked(text, golds)})
        else:
            kinds = [(one.text, one.kind) for one in spans(text, tools)]
            pieces = [piece for text, kind in kinds for piece in marked(text, golds, "" if kind == "text" else kind)]
            out.append({"source": source, "pieces": pieces})
    for turn in coming:  # a failed search inserts nothing
        out.append(
            {
                "source": "search",
                "pieces": [],
                "tool": turn.get("tool") or "search",
                "query": turn.get("query"),
                "error": turn.get("error"),
                "passages": [],
            }
        )
    return out


def _passages(text: str, turn: Mapping[str, Any], golds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the passages of a document block, as the policy read them; ids and scores by their order."""
    ids, scores = list(turn.get("passage_ids") or []), list(turn.get("scores") or [])
    out = []
    for place, one in enumerate(split_documents(text)):
        pieces = marked(_cut(one, MOST_LETTERS), golds)
        out.append(
            {
                "id": ids[place] if place < len(ids) else None,
                "score": scores[place] if place < len(scores) else None,
                "pieces": pieces,
                "gold": any("gold" in kind for _, kind in pieces),
            }
        )
    return out


def split_documents(text: str) -> list[str]:
    """Return the passages of a document block: what follows (1), (2), … at the beginning of a line, in this order."""
    inside = text.partition(DOCUMENTS)[2].rpartition(END_DOCUMENTS)[0] or text
    out: list[str] = []
    number = 1
    place = re.match(r"\s*\(1\) ", inside)
    if place is None:
        return [inside.strip()] if inside.strip() else []
    begin = place.end()
    while True:
        number += 1
        following = inside.find(f"\n({number}) ", begin)
        if following < 0:
            return [*out, inside[begin:].rstrip("\n")]
        out.append(inside[begin:following])
        begin = following + len(f"\n({number}) ")


def marked(text: str, golds: Sequence[str], kind: str = "") -> list[tuple[str, str]]:
    """Split a text of one ``kind`` at the gold answers that stand in it as whole words, in any case.

    Returns (text, its kind, with "gold" if it is a gold answer).
    """
    wanted = sorted({gold.strip() for gold in golds if gold.strip()}, key=len, reverse=True)[:50]
    if not wanted or not text:
        return [(text, kind)] if text else []
    pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, wanted))})(?!\w)", re.IGNORECASE)
    kinds = (kind, f"{kind} gold".strip())
    return [(piece, kinds[place % 2]) for place, piece in enumerate(pattern.split(text)) if piece]


def _tokens(
    row: Mapping[str, Any],
    advantages: Mapping[str, Any] | None,
    tokenizers: Tokenizers,
    path: Path,
    tools: Sequence[Tags],
) -> tuple[list[dict[str, Any]] | None, str]:
    """Return runs of tokens with one source: each token's text, log-probability and advantage; or why there are
    none."""
    ids, sources = row.get("token_ids"), row.get("token_source")
    if not ids or not sources or len(ids) != len(sources):
        return None, "This file holds no tokens, only text."
    logprobs = list(row.get("policy_logprobs") or [])
    gains = list((advantages or {}).get("advantages") or [])
    references = list((advantages or {}).get("ref_logprobs") or [])
    num_policy = sum(one == POLICY for one in sources)
    transcript = [one for one, source in zip(ids, sources, strict=True) if source != PROMPT]
    found = tokenizers.spelling(path, transcript, row.get("text") or "") if transcript else None
    if found is None:
        return None, (
            "Single tokens are not shown: no tokenizer.json in these folders spells this transcript "
            "(r1-searcher browse --tokenizer FILE)."
        )
    note = "" if len(ids) <= MOST_TOKENS else f"The first {MOST_TOKENS:,} of {len(ids):,} tokens."
    ids, sources = ids[:MOST_TOKENS], sources[:MOST_TOKENS]
    texts, place, policy, runs = pieces(found[1], ids), 0, 0, []
    for source, run in groupby(sources):
        length = len(list(run))
        one: dict[str, Any] = {"source": _SOURCES.get(source, "?"), "texts": texts[place : place + length]}
        one["ids"] = ids[place : place + length]
        if source == POLICY:
            one["kinds"] = _kinds(one["texts"], tools)
            for name, values in (("logprobs", logprobs), ("advantages", gains), ("references", references)):
                if len(values) == num_policy:
                    one[name] = values[policy : policy + length]
            policy += length
        runs.append(one)
        place += length
    return runs, note


def _kinds(texts: Sequence[str], tools: Sequence[Tags]) -> list[str]:
    """Return what each token of a policy's segment belongs to: tag, query, answer, or "" for other text."""
    letters = [one.kind for one in spans("".join(texts), tools) for _ in one.text]
    out: list[str] = []
    place = 0
    for text in texts:
        kind = letters[place] if place < len(letters) else "text"
        out.append("" if kind == "text" else kind)
        place += len(text)
    return out


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … [{len(text) - most:,} more characters]"
