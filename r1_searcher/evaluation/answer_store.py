"""Answered batches of a benchmark in the store.

A killed evaluation continues, and one with unchanged policy, questions and protocol answers nothing twice.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.evaluation.table import columns_of
from r1_searcher.files.artefacts import code_fingerprint, fingerprint, read_metadata, read_table, write_table
from r1_searcher.files.code import chosen_code, named_files
from r1_searcher.files.store import Store
from r1_searcher.params import Params, Rollout
from r1_searcher.points import ENGINES
from r1_searcher.protocol_card import questions_fingerprint
from r1_searcher.transcripts.grammar import Mode

_KIND = "answers"  # in the store
_FILE = "answers.parquet"
# The index' code is not included: the retriever's fingerprint identifies what it makes.
_CODE = (
    "rollout",
    "model_folders.py",
    *(f"rewards/{name}.py" for name in ("case", "columns", "metrics", "rules", "scoring")),
    "evaluation/run.py",
    "evaluation/table.py",
    "transcripts/documents.py",
    "transcripts/grammar.py",
    "transcripts/scripts.py",
    "types/protocols.py",
)
_PACKAGES = ("torch", "transformers", "numpy", "bm25s")  # another version may answer differently


class AnswerStore:
    """Batches that one policy answered under one protocol."""

    def __init__(
        self, store: Store, *, identity: dict[str, Any], mode: Mode, rollout: Rollout, retriever: str, params: Params
    ) -> None:
        """``identity``: the policy's; ``rollout``: the parameters in force; ``retriever``: its fingerprint."""
        from r1_searcher.rollout.prompt import prompt_of
        from r1_searcher.rollout.rows import chosen_parts

        self._store = store
        self._protocol = fingerprint(
            {
                "policy": identity["policy_sha256"],
                "mode": mode,
                "rollout": rollout.model_dump(mode="json"),
                "prompt": prompt_of(rollout).hash,  # its text: the parameter is only a name
                "retriever": retriever,
                "reward": params.reward.model_dump(mode="json"),
                "seed": params.seed,
                "threads": params.threads,
                "packages": {name: version(name) for name in _PACKAGES},
                "code": [
                    code_fingerprint(*_CODE, without=named_files(ENGINES)),
                    chosen_code(params.reward.chosen_files(), room="rewards"),
                    *chosen_parts(rollout),
                ],
            }
        )

    def get(self, questions: pa.Table) -> tuple[pa.Table, str] | None:
        """Return a stored batch's rows (``columns_of``) and its prompt's sha256; None if it is not stored."""
        place = self._store.get(_KIND, self._key(questions))
        if place is None:
            return None
        rows = read_table(place / _FILE)
        schema = columns_of(rows.column_names)
        # The cast restores the names of lists' items, which Parquet changes: else a resumed evaluation has other bytes.
        rows = rows.select(schema.names).cast(schema).replace_schema_metadata(None)
        return rows, read_metadata(place / _FILE)["prompt"]

    def put(self, questions: pa.Table, rows: pa.Table, prompt: str) -> None:
        """Store a batch."""
        with self._store.put(_KIND, self._key(questions)) as draft:
            write_table(Path(draft) / _FILE, rows, {"prompt": prompt})

    def _key(self, questions: pa.Table) -> str:
        return fingerprint([self._protocol, questions_fingerprint(questions)])
