"""The outage rule: a trajectory with a failed search (after its retries) counts as lost and nothing else.

Training leaves lost trajectories out, up to ``rollout.max_error_share``. Beyond that the iteration stops before any of
it is stored, so that the same command repeats it once the retriever answers. A measurement (evaluation, base metrics)
tolerates none, because its figures would be about other questions.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.transcripts import grammar


def outage_reasons(rollouts: pa.Table) -> list[str]:
    """Return one reason for each trajectory of ``rollouts`` (schema ROLLOUTS) that was lost to the retriever."""
    reasons = []
    for finish, turns in zip(rollouts["finish_reason"].to_pylist(), rollouts["turns"].to_pylist(), strict=True):
        errors = [turn["error"] for turn in turns if turn["error"] is not None]
        if errors or finish in grammar.LOST_FINISHES:
            reasons.append(errors[0] if errors else "it did not say why")
    return reasons


def check_lost(rollouts: pa.Table, allowed: float = 0.0) -> None:
    """Raise ``PipelineError`` with the commonest reason if all, or more than the share ``allowed``, of the trajectories
    were lost."""
    reasons = outage_reasons(rollouts)
    # With no trajectory left there is nothing to learn, whatever is allowed; a stored iteration would be reused.
    if not reasons or (len(reasons) <= allowed * rollouts.num_rows and len(reasons) < rollouts.num_rows):
        return
    [(reason, _)] = Counter(reasons).most_common(1)
    if allowed:
        bound = f" (allowed: {allowed:.0%})"
        fix = "mend the retriever and run the same command again; rollout.max_error_share is the bound"
    else:
        bound = ", which are neither right nor wrong"
        fix = "mend the retriever and run the same command again"
    raise PipelineError(
        f"the retriever failed on {len(reasons)} of {rollouts.num_rows} trajectories{bound}: {reason}", fix=fix
    )
