"""A folder that `datasets.load_dataset` opens, and that is ready for a hub: Parquet files and a card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from r1_searcher.files.artefacts import atomic, write_table, write_text
from r1_searcher.files.sums import check_replaceable

_ABOUT = {
    "questions": "Questions with gold answers for training a policy that searches.",
    "rollouts": "Trajectories of a policy that searches: prompt, tokens with their sources and log-probabilities, "
    "searches, answer.",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write(folder: Path, what: str, split: str, tables: Sequence[tuple[str, pa.Table, Mapping[str, Any]]]) -> None:
    """Write tables as ``data/SPLIT-NAME.parquet`` with their metadata, and the card as ``README.md``.

    An earlier export is replaced whole: none of its files stays. Raises ``PipelineError`` for a folder with others.
    """
    check_replaceable(folder)
    rows = sum(int(table.num_rows) for _, table, _ in tables)
    with atomic(folder, folder=True) as draft:
        for name, table, metadata in tables:
            write_table(draft / "data" / f"{split}-{name}.parquet", table, metadata or None)
        _, first, metadata = tables[0]
        write_text(draft / "README.md", card(what, split, rows, first.schema, metadata))


def card(what: str, split: str, rows: int, schema: pa.Schema, facts: Mapping[str, Any]) -> str:
    """Return the dataset card: its YAML header says which files are which split."""
    header = {
        "pretty_name": f"R1-Searcher {what}",
        "tags": ["r1-searcher", "search", "reinforcement-learning"],
        "task_categories": ["question-answering"],
        "size_categories": [next((size for limit, size in _SIZES if rows < limit), "n>1M")],
        "configs": [
            {"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*.parquet"}]},
        ],
    }
    columns = "\n".join(f"| `{field.name}` | `{field.type}` |" for field in schema)
    told = json.dumps(facts, indent=2, ensure_ascii=False, sort_keys=True)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", told)), default=0))
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n"
        f"# R1-Searcher {what}\n\n{_ABOUT[what]} {rows:,} rows in the split `{split}`.\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        f'load_dataset("path/to/this/folder", split="{split}")\n```\n\n'
        f"| column | type |\n|---|---|\n{columns}\n\n## What it depends on\n\n{fence}json\n{told}\n{fence}\n"
    )
