"""The outage rule: a trajectory with a failed call (after its retries) counts as lost and nothing else.

Training leaves lost trajectories out, up to ``rollout.max_error_share``. Beyond that the iteration stops before any of
it is stored, so that the same command repeats it once the retriever or the tool answers. A measurement (evaluation,
base metrics) counts them as wrong, up to ``evaluate.max_error_share``, and says so (r1_searcher/evaluation/lost.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.tools.protocol import SEARCH
from r1_searcher.transcripts import grammar


def outage_reasons(rollouts: pa.Table) -> list[str]:
    """Return one reason for each trajectory of ``rollouts`` (schema ROLLOUTS) that was lost to the retriever or a
    tool."""
    return [reason for _, reason in failures(rollouts)]


def failures(rollouts: pa.Table) -> list[tuple[str, str]]:
    """Return what failed, and why, for each lost trajectory of ``rollouts`` (ROLLOUTS)."""
    found = []
    for finish, turns in zip(rollouts["finish_reason"].to_pylist(), rollouts["turns"].to_pylist(), strict=True):
        failed = [turn for turn in turns if turn["error"] is not None]
        if failed or finish in grammar.LOST_FINISHES:
            tool = failed[0].get("tool") if failed else None
            who = "the retriever" if tool in (None, SEARCH) else f"the tool {tool}"
            found.append((who, failed[0]["error"] if failed else "it did not say why"))
    return found


def check_lost(rollouts: pa.Table, allowed: float = 0.0) -> None:
    """Raise ``PipelineError`` with the commonest reason if all, or more than the share ``allowed``, of the trajectories
    were lost."""
    lost = failures(rollouts)
    # With no trajectory left there is nothing to learn, whatever is allowed; a stored iteration would be reused.
    if not lost or (len(lost) <= allowed * rollouts.num_rows and len(lost) < rollouts.num_rows):
        return
    who, reason = commonest(lost)
    fix = f"repair {who} and run the same command again"
    if allowed:
        bound = f" (allowed: {allowed:.0%})"
        fix = f"{fix}; rollout.max_error_share is the bound"
    else:
        bound = ", which are neither right nor wrong"
    raise PipelineError(f"{who} failed on {len(lost)} of {rollouts.num_rows} trajectories{bound}: {reason}", fix=fix)


def commonest(lost: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return everything that failed, and the commonest reason, of ``failures``."""
    [((_, reason), _)] = Counter(lost).most_common(1)
    return " and ".join(dict.fromkeys(who for who, _ in lost)), reason
