"""The frozen reference policy of the KL term, kept warm beside the trainer. Independent of processes and the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.training.engine_worker import set_threads
from r1_searcher.training.workers import WorkerSettings
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import ROLLOUTS

if TYPE_CHECKING:
    from r1_searcher.update.reference import FrozenPolicy

_SCHEMA = pa.schema({"trajectory_id": pa.string(), "ref_logprobs": pa.list_(pa.float32())})


class ReferenceWorker:
    """``References`` in this process."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Loads nothing yet."""
        self.settings = settings
        self._policy: FrozenPolicy | None = None

    def logprobs(self, rollouts: Path, file: Path) -> None:
        """See ``workers.References``."""
        table = read_table(rollouts, ROLLOUTS)
        kept = [row for row, values in enumerate(table["policy_logprobs"].to_pylist()) if values]
        table = table.take(kept)
        masks = [[source == grammar.POLICY for source in row] for row in table["token_source"].to_pylist()]
        found = self._frozen().logprobs(table["token_ids"].to_pylist(), masks)
        rows = {"trajectory_id": table["trajectory_id"], "ref_logprobs": found}
        write_table(file, pa.Table.from_pydict(rows, schema=_SCHEMA))

    def _frozen(self) -> FrozenPolicy:
        if self._policy is None:
            from r1_searcher.update.reference import FrozenPolicy

            params = self.settings.params
            set_threads(params)
            self._policy = FrozenPolicy(self.settings.start, params.update, temperature=params.rollout.temperature)
        return self._policy


def read_reference(file: Path) -> dict[str, list[float]]:
    """Read what ``logprobs`` wrote: trajectory_id → (P_b,)."""
    table = read_table(file, _SCHEMA)
    return dict(zip(table["trajectory_id"].to_pylist(), table["ref_logprobs"].to_pylist(), strict=True))
