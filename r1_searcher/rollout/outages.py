"""The outage rule: a trajectory with a failed call (after its retries) counts as lost and nothing else.

Training leaves lost trajectories out, up to ``rollout.max_error_share``. Beyond that the iteration stops before any of
it is stored, so that the same command repeats it once the retriever or the tool answers. A measurement (evaluation,
base metrics) tolerates none, because its figures would be about other questions.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.tools.protocol import SEARCH
from r1_searcher.transcripts import grammar


def outage_reasons(rollouts: pa.Table) -> list[str]:
    """Return one reason for each trajectory of ``rollouts`` (schema ROLLOUTS) that was lost to the retriever or a
    tool."""
    return [reason for _, reason in _failures(rollouts)]


def _failures(rollouts: pa.Table) -> list[tuple[str, str]]:
    """Return what failed, and why, for each lost trajectory."""
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
    failures = _failures(rollouts)
    # With no trajectory left there is nothing to learn, whatever is allowed; a stored iteration would be reused.
    if not failures or (len(failures) <= allowed * rollouts.num_rows and len(failures) < rollouts.num_rows):
        return
    [((_, reason), _)] = Counter(failures).most_common(1)
    who = " and ".join(dict.fromkeys(who for who, _ in failures))
    fix = f"mend {who} and run the same command again"
    if allowed:
        bound = f" (allowed: {allowed:.0%})"
        fix = f"{fix}; rollout.max_error_share is the bound"
    else:
        bound = ", which are neither right nor wrong"
    raise PipelineError(
        f"{who} failed on {len(failures)} of {rollouts.num_rows} trajectories{bound}: {reason}", fix=fix
    )
