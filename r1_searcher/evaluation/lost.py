"""Questions of a measurement that were lost to a search or a tool: how many may be, and what they cost.

Such a question counts as wrong, and the summary says between which bounds each metric lies, whatever the answers would
have been. Beyond ``evaluate.max_error_share`` the measurement stops.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.outages import commonest, failures
from r1_searcher.transcripts import grammar

LOST_BOUNDS = "_bounds"  # ending of a metric's key in a summary: [all lost questions wrong, all right]


class LostQuestions:
    """Counts lost questions against the ``share`` that may be lost: at least one, unless the share is 0, and never
    all of them. ``unit``: what is counted, if several trajectories answer a question."""

    def __init__(self, number: int, share: float, unit: str = "questions") -> None:
        self._number, self._unit = number, unit
        self._allowed = min(max(1, int(share * number)), number - 1) if share else 0
        self._failures: list[tuple[str, str]] = []

    def count(self, rollouts: pa.Table) -> int:
        """Add the lost trajectories of ``rollouts`` (ROLLOUTS) and return how many they are. Raises ``PipelineError``
        if there are too many in all."""
        found = failures(rollouts)
        self._failures += found
        if len(self._failures) > self._allowed:
            who, reason = commonest(self._failures)
            raise PipelineError(
                f"{who} failed on {len(self._failures)} of {self._number} {self._unit} "
                f"(allowed: {self._allowed}): {reason}",
                fix=f"repair {who} and run the same command again; evaluate.max_error_share sets the limit",
            )
        return len(found)


def lost_rows(table: pa.Table) -> np.ndarray:
    """Return which rows (N,) of an evaluation (EVALUATION) were lost."""
    return np.array([reason in grammar.LOST_FINISHES for reason in table["finish_reason"].to_pylist()], dtype=bool)


def lost_line(where: str, figures: dict[str, object]) -> str:
    """Return what the summary ``figures`` of ``where`` say about lost questions in one line; empty if none was."""
    if "lost" not in figures:
        return ""
    bounds = {key: ends for key, ends in figures.items() if key.endswith(LOST_BOUNDS) and isinstance(ends, list)}
    told = ", ".join(f"{key.removesuffix(LOST_BOUNDS)} {low:.3f} to {high:.3f}" for key, (low, high) in bounds.items())
    return f"{where}: {figures['lost']} of {figures['n']} questions lost, counted as wrong; if all were right: {told}"
