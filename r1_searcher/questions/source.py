"""The arguments and the result of a question source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.params import Questions

NEEDED_SPLITS = ("train", "validation", "held_out")


@dataclass(frozen=True)
class QuestionRequest:
    """The first argument of a source; the second is its own parameters (None if it takes none).

    A user's source returns a mapping from a split's name to its questions, each a mapping with the columns of a
    question file (r1_searcher/questions/files.py), at least ``question`` and ``answer``.

    Attributes:
        settings: the section ``questions`` of params.yaml.
        seed: of the run.
        corpus: folder of the corpus; a world's contains facts.parquet.
    """

    settings: Questions
    seed: int
    corpus: Path


@dataclass(frozen=True)
class Splits:
    """Questions by split, as tables of schema QUESTIONS. ``metadata``: their origin, written into the files. ``files``:
    by split, what became of each file's rows, for the report."""

    tables: Mapping[str, pa.Table]
    metadata: Mapping[str, Any]
    files: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


def check_splits(given: Collection[str], *, where: str, what: str) -> None:
    """Raise ``PipelineError`` if a split that training and evaluation need is missing; ``what`` names the missing
    thing."""
    missing = [split for split in NEEDED_SPLITS if split not in given]
    if missing:
        raise PipelineError(
            f"no {what} for {', '.join(missing)}",
            where=where,
            fix=f"needed: {', '.join(NEEDED_SPLITS)}; train_… is one more training set, any other a benchmark",
        )
