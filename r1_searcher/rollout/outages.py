"""The outage rule: a trajectory whose search failed, its retries included, counts as lost and as nothing else.

Training leaves it out and goes on, up to ``rollout.max_error_share``; beyond that the iteration stops
before anything of it is stored, so that the same command makes it anew once the retriever answers. A
measurement (evaluation, base metrics) tolerates none: its figures would be of other questions.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.transcripts import grammar


def outage_reasons(rollouts: pa.Table) -> list[str]:
    """Why trajectories of ``rollouts`` (schema ROLLOUTS) were lost to the retriever, a reason each."""
    reasons = []
    for finish, turns in zip(rollouts["finish_reason"].to_pylist(), rollouts["turns"].to_pylist(), strict=True):
        errors = [turn["error"] for turn in turns if turn["error"] is not None]
        if errors or finish in grammar.LOST:
            reasons.append(errors[0] if errors else "it did not say why")
    return reasons


def check_lost(rollouts: pa.Table, allowed: float = 0.0) -> None:
    """Stop where more than the share ``allowed`` of the trajectories was lost, or all, with the commonest reason."""
    reasons = outage_reasons(rollouts)
    # Of none left nothing can be learnt, whatever is allowed; stored, it would be found again.
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
