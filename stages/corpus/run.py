"""Make the corpus folder: the passages (one file, or parts), facts.parquet, report.json."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.corpus.resume import Parts
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages, streams
from r1_searcher.files.store import Store
from r1_searcher.shown import show
from r1_searcher.types import schemas

FACTS_FILE, REPORT_FILE = "facts.parquet", "report.json"


def run(corpus: params.Corpus, seed: int, folder: Path) -> dict[str, Any]:
    """Write the corpus that ``corpus.source`` names into ``folder``, which is replaced whole; returns the report.

    Until the last moment everything stands in a draft beside ``folder``: a run that is killed leaves the old
    corpus, and the next run removes the draft and goes on behind the last full part (``r1_searcher/corpus/resume.py``).
    ``facts.parquet`` has no rows when the passages are the user's own: what they say is not known.
    """
    for draft in artefacts.remove_orphans(folder):
        show(f"corpus: removed {draft}, which a killed run had left", file=sys.stderr)
    parts = None if corpus.source == "world" else Parts(corpus, [Path(name) for name in corpus.files], Store())
    with artefacts.atomic(folder, folder=True) as draft:
        report = _from_world(corpus, seed, draft) if parts is None else _from_files(corpus, parts, draft)
        artefacts.write_json(draft / REPORT_FILE, report)
    if parts is not None:
        parts.forget()
    return report


def _from_world(corpus: params.Corpus, seed: int, folder: Path) -> dict[str, Any]:
    from r1_searcher.corpus.world import make_world

    world = make_world(corpus.world, seed)
    table, facts = world.passages(), world.facts()
    metadata = {"source": "world", "world": corpus.world.model_dump(), "seed": seed}
    artefacts.write_table(folder / passages.FILE, table, metadata)
    artefacts.write_table(folder / FACTS_FILE, facts, metadata)
    counts = {"read": table.num_rows, "kept": table.num_rows, "skipped": {}}
    return {"source": "world", **counts, "facts": facts.num_rows, "files": []}


def _from_files(corpus: params.Corpus, parts: Parts, folder: Path) -> dict[str, Any]:
    from r1_searcher.corpus.progress import Progress

    paths = [Path(name) for name in corpus.files]
    kept = list(parts.kept())
    if kept:
        number = sum(entry["rows"] for _, entry in kept)
        show(f"corpus: {number:,} passages in {len(kept)} parts were kept by a killed run", file=sys.stderr)
    counts = parts.counts
    total = sum(path.stat().st_size for path in paths if path.is_file())
    with Progress(total) as progress:
        rows = progress.watch(_rows(corpus, paths, parts, progress.add_bytes))
        number = passages.write(folder, rows, corpus.rows_a_part, first=kept, on_part=parts.keep)
    if not number:
        raise PipelineError("the corpus is empty", where="params.yaml, corpus.files")
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
        "facts": 0,
        "files": [asdict(count) for count in counts],
    }


def _rows(
    corpus: params.Corpus, paths: list[Path], parts: Parts, on_bytes: streams.OnBytes
) -> Iterator[dict[str, str]]:
    """The reader that ``corpus.source`` names. Each is imported only when it is asked for."""
    counts = parts.counts
    match corpus.source:
        case "kilt":
            from r1_searcher.corpus.kilt import read_kilt

            return read_kilt(paths, counts, corpus.kilt.words, on_bytes, at=parts.position, seen=parts.seen)
        case "hotpotqa_abstracts":
            from r1_searcher.corpus.abstracts import read_abstracts

            return read_abstracts(paths, counts, on_bytes)
        case "contexts":
            from r1_searcher.corpus.contexts import read_contexts

            return read_contexts(paths, counts, on_bytes)
        case _:
            from r1_searcher.corpus.files import read_passages

            return read_passages(paths, counts, on_bytes, at=parts.position, seen=parts.seen)
