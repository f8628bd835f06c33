"""Counts per file of a corpus: read, kept, skipped and why, with a few examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from r1_searcher.files.records import Record

SKIPPED_EMPTY, SKIPPED_REPEATED, SKIPPED_BAD = "empty_text", "repeated_passage", "bad_row"
EXAMPLES = 5  # a reason and file


@dataclass
class FileCount:
    """What became of a file's records: ``read`` = ``kept`` + the sum of ``skipped`` (by reason), counted in ``unit``.

    ``passages`` were made of the kept records. ``examples`` are the first records skipped for each reason, as "line 3:
    Title". ``layout`` and ``columns`` (our names → the file's): how the file was read.
    """

    file: str
    unit: str = "passage"
    read: int = 0
    kept: int = 0
    passages: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict, compare=False)
    layout: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def keep(self, passages: int = 1) -> None:
        """Count a kept unit and its passages."""
        self.kept += 1
        self.passages += passages

    def skip(self, reason: str, record: Record | None = None, title: str = "", path: Path | None = None) -> None:
        """Count a skipped unit; ``record`` is its place in the file ``path``."""
        place = "" if record is None else record.place if path is None else record.place.removeprefix(f"{path}, ")
        self.leave_out(reason, f"{place}: {title}" if title and place else place)

    def leave_out(self, reason: str, example: str) -> None:
        """Count a skipped unit with an example to show."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if example and len(shown) < EXAMPLES:
            shown.append(example)
