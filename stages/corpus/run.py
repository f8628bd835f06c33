"""Make the corpus folder: passages.parquet, facts.parquet, report.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.contract import artefacts, params, schemas

PASSAGES_FILE, FACTS_FILE, REPORT_FILE = "passages.parquet", "facts.parquet", "report.json"


def run(corpus: params.Corpus, seed: int, folder: Path) -> dict[str, Any]:
    """Write the corpus that ``corpus.source`` names into ``folder``, which is replaced whole; returns the report.

    ``facts.parquet`` has no rows when the passages are the user's own: what they say is not known.
    """
    with artefacts.atomic(folder, folder=True) as draft:
        report = _from_world(corpus, seed, draft) if corpus.source == "world" else _from_files(corpus, draft)
        artefacts.write_json(draft / REPORT_FILE, report)
    return report


def _from_world(corpus: params.Corpus, seed: int, folder: Path) -> dict[str, Any]:
    from stages.corpus.world import make_world

    world = make_world(corpus.world, seed)
    passages, facts = world.passages(), world.facts()
    metadata = {"source": "world", "world": corpus.world.model_dump(), "seed": seed}
    artefacts.write_table(folder / PASSAGES_FILE, passages, metadata)
    artefacts.write_table(folder / FACTS_FILE, facts, metadata)
    counts = {"read": passages.num_rows, "kept": passages.num_rows, "skipped": {}}
    return {"source": "world", **counts, "facts": facts.num_rows, "files": []}


def _from_files(corpus: params.Corpus, folder: Path) -> dict[str, Any]:
    from stages.corpus.files import write_passages

    counts = write_passages(folder / PASSAGES_FILE, [Path(name) for name in corpus.files])
    artefacts.write_table(folder / FACTS_FILE, schemas.FACTS.empty_table())
    skipped: dict[str, int] = {}
    for count in counts:
        for reason, number in count.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + number
    return {
        "source": "files",
        "read": sum(count.read for count in counts),
        "kept": sum(count.kept for count in counts),
        "skipped": skipped,
        "facts": 0,
        "files": [asdict(count) for count in counts],
    }
