"""HotpotQA's Wikipedia abstracts (Yang et al., 2018), one passage per article.

| file | what it holds |
|---|---|
| .tar.bz2 | the original: folders of .bz2 files with JSON lines (id, title, text as a list of sentences) |
| .jsonl, or a .bz2 file out of the archive | such lines |
| .tsv | the release of R1-Searcher: an id, and "Title: … Text: …", with a byte-order mark and CSV quoting |

Runs of white space become one space: sentences are joined by two in the TSV, by none in the original.
"""

from __future__ import annotations

import bz2
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from r1_searcher.corpus.counts import SKIPPED_EMPTY, FileCount
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import streams
from r1_searcher.files.records import Record, identifier, json_lines, read_json_lines, read_records, text_field

SKIPPED_ARTICLE, SKIPPED_MEMBER = "repeated_article", "not_a_bz2_member"
_TSV_COLUMNS = ("id", "contents")
_CONTENTS = re.compile(r"Title:\s*(.*?)\s*\bText:(.*)", re.DOTALL)


def read_abstracts(
    paths: Sequence[Path], counts: list[FileCount], on_bytes: streams.OnBytes | None = None
) -> Iterator[dict[str, str]]:
    """Yield the abstracts of ``paths`` as rows of PASSAGES, in order, under their own ids.

    Repeated articles, and those without text, are skipped and counted. Appends a ``FileCount`` per file to ``counts``
    and keeps it up to date. Streams: of the articles read, only ``SeenIds`` is kept. Raises ``PipelineError`` with file
    and line for another layout, and for a file without an abstract.
    """
    seen = SeenIds()
    for path in paths:
        count = FileCount(path.name, unit="article")
        counts.append(count)
        for record in _records(path, count, on_bytes):
            count.read += 1
            identity, title, text = _article(record)
            if not text:
                count.skip(SKIPPED_EMPTY, record, title, path)
            elif not seen.add(identity):
                count.skip(SKIPPED_ARTICLE, record, title, path)
            else:
                count.keep()
                yield {"passage_id": identity, "title": title, "text": text, "source": path.name}
        if not count.kept:
            raise PipelineError("no abstract in this file", where=str(path), fix="see corpus.files in params.yaml")


def _records(path: Path, count: FileCount, on_bytes: streams.OnBytes | None) -> Iterator[Record]:
    match streams.kind(path):
        case ".tsv":
            yield from read_records(path, _TSV_COLUMNS, _TSV_COLUMNS, on_bytes=on_bytes)
        case ".tar":
            yield from _archive(path, count, on_bytes)
        case ".jsonl" | ".json" | "":
            yield from read_json_lines(path, on_bytes)
        case other:
            raise PipelineError(
                f"unknown kind of file {other!r}", where=str(path), fix="known: .tar.bz2, .bz2, .jsonl, .tsv"
            )


def _archive(path: Path, count: FileCount, on_bytes: streams.OnBytes | None) -> Iterator[Record]:
    """Yield all lines of the archive's .bz2 members in order, without unpacking to disk."""
    with streams.opened(path, on_bytes) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            packed = archive.extractfile(member) if member.isfile() else None
            if packed is None:
                continue
            place = f"{path}, {member.name}"
            if not member.name.endswith(".bz2"):
                count.read += 1
                count.skip(SKIPPED_MEMBER, Record(place, 0, {}), path=path)
                continue
            with bz2.BZ2File(packed) as lines:
                yield from json_lines(lines, place)


def _article(record: Record) -> tuple[str, str, str]:
    """Return id, title and text."""
    given = identifier(record, ("id",))
    if given is None:
        raise PipelineError("no 'id'", where=record.place)
    if record.textual:
        match = _CONTENTS.fullmatch(text_field(record, "contents"))
        if match is None:
            raise PipelineError("not of the form 'Title: … Text: …'", where=record.place)
        title, text = match.groups()
    else:
        title, text = text_field(record, "title"), _joined(record)
    return given[1], " ".join(title.split()), " ".join(text.split())


def _joined(record: Record) -> str:
    value = record.fields.get("text")
    sentences = [value] if isinstance(value, str) else value
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise PipelineError("'text' must be a list of sentences", where=record.place)
    return " ".join(sentences)
