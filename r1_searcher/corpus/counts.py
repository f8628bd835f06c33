"""Counts per file of a corpus: read, kept, skipped and why, with a few examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from r1_searcher.files.records import Record

SKIPPED_EMPTY, SKIPPED_REPEATED = "empty_text", "repeated_passage"
EXAMPLES = 5  # per reason and file


@dataclass
class FileCount:
    """``read`` = ``kept`` + the sum of ``skipped`` (by reason), counted in ``unit``, the kind of thing in the file.

    ``passages``: made from what was kept. ``examples``: the first ones skipped per reason, as "line 3: Title".
    """

    file: str
    unit: str = "passage"
    read: int = 0
    kept: int = 0
    passages: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict, compare=False)

    def keep(self, passages: int = 1) -> None:
        """Count a kept unit and its passages."""
        self.kept += 1
        self.passages += passages

    def skip(self, reason: str, record: Record | None = None, title: str = "", path: Path | None = None) -> None:
        """Count a skipped unit; ``record`` is its position in the file ``path``."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if record is not None and len(shown) < EXAMPLES:
            place = record.place if path is None else record.place.removeprefix(f"{path}, ")
            shown.append(f"{place}: {title}" if title else place)
