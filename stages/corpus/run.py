"""Write the corpus folder: the passages (one file, or parts), facts.parquet, report.json."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.cutting import cut_passages
from r1_searcher.corpus.lengths import passage_lengths
from r1_searcher.corpus.resume import Parts
from r1_searcher.corpus.source import CorpusRequest, Drawn
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import shipped, wrap_user_errors
from r1_searcher.files import artefacts, passages
from r1_searcher.files.named import files_of
from r1_searcher.files.store import Store
from r1_searcher.points import CORPUS_SOURCES
from r1_searcher.progress import Paced
from r1_searcher.shown import show
from r1_searcher.types import schemas

FACTS_FILE, _REPORT_FILE = "facts.parquet", "report.json"
ROWS_A_NOTE = 1000


def run(corpus: params.Corpus, seed: int, folder: Path) -> dict[str, Any]:
    """Write the corpus that ``corpus.source`` names into ``folder``, which is replaced whole; returns the report.

    Until the end everything is in a draft beside ``folder``: a killed run leaves the old corpus, and the next one
    removes the draft and resumes after the last full part (``r1_searcher/corpus/resume.py``). ``facts.parquet`` has no
    rows for the user's own passages, whose facts are unknown.
    """
    for draft in artefacts.remove_orphans(folder):
        show(f"corpus: removed {draft}, left by a killed run", file=sys.stderr)
    parts = Parts(corpus, _files(corpus), Store())
    with artefacts.atomic(folder, folder=True) as draft:
        report = _write(corpus, seed, parts, draft)
        artefacts.write_json(draft / _REPORT_FILE, report)
    parts.forget()
    return report


def _files(corpus: params.Corpus) -> list[Path]:
    return files_of(corpus.files, where="params.yaml, corpus.files")


def _write(corpus: params.Corpus, seed: int, parts: Parts, folder: Path) -> dict[str, Any]:
    paths = _files(corpus)
    kept = list(parts.kept())
    if kept:
        number = sum(entry["rows"] for _, entry in kept)
        show(f"corpus: {number:,} passages in {len(kept)} parts were kept by a killed run", file=sys.stderr)
    total = sum(path.stat().st_size for path in paths if path.is_file())
    with Paced("corpus", unit="bytes", total=total) as paced:
        request = CorpusRequest(corpus, seed, paths, parts.counts, parts.position, parts.seen, on_bytes=paced.add)
        made = _made(corpus, request)
        if isinstance(made, Drawn):
            return _write_drawn(corpus, made, folder)
        made = cut_passages(made, corpus.words, parts.counts, parts.seen)
        number = passages.write(folder, counted(made, paced), corpus.rows_a_part, first=kept, on_part=parts.keep)
    return _report(corpus, number, parts.counts, folder)


def counted(rows: Iterator[dict[str, str]], paced: Paced) -> Iterator[dict[str, str]]:
    """Yield the same rows, recording their number from time to time."""
    for number, row in enumerate(rows, start=1):
        if number % ROWS_A_NOTE == 0:
            paced.add(0, f"{number:,} passages")
        yield row


def _made(corpus: params.Corpus, request: CorpusRequest) -> Drawn | Iterator[dict[str, str]]:
    """Return what the source named by ``corpus.source`` makes; only that source is imported."""
    found = CORPUS_SOURCES.find(corpus.source, corpus.extensions)
    if shipped(found.file):
        made: Drawn | Iterator[dict[str, str]] = found.value(request, None)
        return made
    from r1_searcher.corpus.own_source import checked_passages

    with wrap_user_errors(found.file, f"the corpus source {corpus.source!r}"):
        given = found.value(request, corpus.parameters_of("source"))
    return checked_passages(found, given, request.counts, request.seen)


def _write_drawn(corpus: params.Corpus, made: Drawn, folder: Path) -> dict[str, Any]:
    artefacts.write_table(folder / passages.SINGLE_FILE, made.passages, made.metadata)
    artefacts.write_table(folder / FACTS_FILE, made.facts, made.metadata)
    number = made.passages.num_rows
    counts = {"read": number, "kept": number, "skipped": {}, "lengths": passage_lengths(folder)}
    return {"source": corpus.source, **counts, "facts": made.facts.num_rows, "files": []}


def _report(corpus: params.Corpus, number: int, counts: list[FileCount], folder: Path) -> dict[str, Any]:
    if not number:
        path = CORPUS_SOURCES.file(corpus.source, corpus.extensions)
        raise PipelineError("the corpus is empty", where="params.yaml, corpus.files" if shipped(path) else str(path))
    artefacts.write_table(folder / FACTS_FILE, schemas.FACTS.empty_table())
    skipped: dict[str, int] = {}
    for count in counts:
        for reason, many in count.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + many
    return {
        "source": corpus.source,
        "passages": number,
        "read": sum(count.read for count in counts),
        "kept": sum(count.kept for count in counts),
        "skipped": skipped,
        "lengths": passage_lengths(folder),
        "facts": 0,
        "files": [asdict(count) for count in counts],
    }
