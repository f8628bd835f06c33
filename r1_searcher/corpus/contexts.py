"""Context paragraphs of multi-hop questions, as a corpus: HotpotQA, 2WikiMultiHopQA, MuSiQue, IRCoT's samples.

| where | column | layout |
|---|---|---|
| HotpotQA, 2Wiki | context | [[title, [sentence, …]], …], supporting_facts: [[title, sentence number], …] |
| their hub copies | context | {"title": […], "sentences": [[…], …]}, supporting_facts: {"title": […], …} |
| MuSiQue | paragraphs | [{"title", "paragraph_text", "is_supporting"}, …] |
| IRCoT's samples | contexts | the same |
| HippoRAG's corpora | (a .json file that is one object) | {title: [sentence, …], …} |

A value that is a string is taken for JSON (some Parquet copies keep it so). Whoever needs the paragraphs
of one question (``paragraphs``), or the corpus that they make up (``read_contexts``), reads them here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher.corpus.counts import SKIPPED_EMPTY, SKIPPED_REPEATED, FileCount
from r1_searcher.corpus.files import passage_id
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import streams
from r1_searcher.files.records import Record, read_records
from r1_searcher.texts import parse_json

CONTEXT_NAMES = ("context", "contexts", "paragraphs")
FACTS_NAME = "supporting_facts"
CONTEXT_COLUMNS = (*CONTEXT_NAMES, FACTS_NAME)
_MAPPING = ("title", "sentences")


@dataclass(frozen=True)
class Paragraph:
    """A context paragraph. ``supporting``: whether the question needs it; None if the data does not say."""

    title: str
    text: str
    supporting: bool | None

    @property
    def passage_id(self) -> str:
        """The paragraph's id in the corpus of contexts: a hash of title and text."""
        return passage_id(self.title, self.text)


def paragraphs(record: Record) -> list[Paragraph]:
    """Return the context paragraphs of one question, in order; runs of white space become one space.

    A paragraph's text may be empty. Raises ``PipelineError`` without such a column, and for any other layout than
    above.
    """
    if _MAPPING[1] in record.fields:
        return [_titled(record)]
    name = next((name for name in CONTEXT_NAMES if record.fields.get(name) not in (None, "")), None)
    if name is None:
        found = ", ".join(record.fields) or "none"
        raise PipelineError(
            "no context paragraphs", where=record.place, fix=f"a column {', '.join(CONTEXT_NAMES)}; found: {found}"
        )
    try:
        value = _parsed(record.fields[name])
        gold = _supporting_titles(_parsed(record.fields.get(FACTS_NAME)))
        return [
            Paragraph(
                _clean(title), _clean(text), title in gold if supporting is None and gold is not None else supporting
            )
            for title, text, supporting in _triples(value)
        ]
    except (TypeError, KeyError, ValueError):
        raise PipelineError(f"{name!r} is not laid out as its dataset has it", where=record.place) from None


def _titled(record: Record) -> Paragraph:
    """Return an entry of a corpus that is one object."""
    title, sentences = (record.fields[name] for name in _MAPPING)
    try:
        return Paragraph(_clean(title), _clean(_joined(sentences)), None)
    except TypeError:
        raise PipelineError("a title's value must be a list of sentences", where=record.place) from None


def read_contexts(
    paths: Sequence[Path], counts: list[FileCount], on_bytes: streams.OnBytes | None = None
) -> Iterator[dict[str, str]]:
    """Yield each distinct context paragraph of ``paths`` once, as a row of PASSAGES, in order of first occurrence.

    ``source`` is the file's name. Appends a ``FileCount`` per file to ``counts`` (counting paragraphs) and keeps it up
    to date. Streams: only ``SeenIds`` is kept. Raises ``PipelineError`` as ``paragraphs``, and for a file without any.
    """
    seen = SeenIds()
    for path in paths:
        count = FileCount(path.name, unit="paragraph")
        counts.append(count)
        for record in read_records(path, CONTEXT_COLUMNS, mapping=_MAPPING, on_bytes=on_bytes):
            for paragraph in paragraphs(record):
                count.read += 1
                if not paragraph.text:
                    count.skip(SKIPPED_EMPTY, record, paragraph.title, path)
                    continue
                identity = paragraph.passage_id
                if not seen.add(identity):
                    count.skip(SKIPPED_REPEATED, record, paragraph.title, path)
                    continue
                count.keep()
                yield {
                    "passage_id": identity,
                    "title": paragraph.title,
                    "text": paragraph.text,
                    "source": path.name,
                }
        if not count.read:
            raise PipelineError("no context paragraph in this file", where=str(path), fix="see corpus.files")


def _parsed(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value


def _triples(value: Any) -> Iterator[tuple[str, str, bool | None]]:
    """Yield title, text, and whether it is marked as supporting (None: unmarked)."""
    if isinstance(value, dict):  # the hub's columns
        for title, sentences in zip(value["title"], value["sentences"], strict=True):
            yield title, _joined(sentences), None
        return
    for item in value:
        if isinstance(item, dict):
            supporting = item.get("is_supporting")
            if not isinstance(supporting, bool | None):
                raise ValueError
            yield item["title"], item["paragraph_text"], supporting
        else:
            title, sentences = item
            yield title, _joined(sentences), None


def _joined(sentences: Any) -> str:
    """Join sentences: HotpotQA's begin with a space, 2Wiki's do not; ``_clean`` makes it one space."""
    if isinstance(sentences, str):
        return sentences
    return " ".join(sentences)


def _supporting_titles(facts: Any) -> set[str] | None:
    if facts is None:
        return None
    return set(facts["title"]) if isinstance(facts, dict) else {title for title, _ in facts}


def _clean(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError
    return " ".join(text.split())
