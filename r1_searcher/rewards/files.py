"""Score transcript files, as `python -m stages.reward score` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.rewards.case import Score
from r1_searcher.rewards.released import names_of, read_transcripts
from r1_searcher.rewards.rules import Rules, check_same_components, rules_of
from r1_searcher.shown import printable
from r1_searcher.transcripts.scripts import PAPER, Scripts


def score_files(
    paths: Sequence[Path | str],
    reward_set: str,
    stage: int,
    answer_metric: str,
    *,
    extensions: Sequence[str] = (),
    own: Mapping[str, Any] | None = None,
    scripts: Scripts = PAPER,
) -> dict[str, list[dict[str, Any]]]:
    """Return ``{file name: [{reward, components, violations}, …]}``, rows in each file's order.

    ``extensions``: the user's files; ``own``: parameters of their sets or metrics, by name; ``scripts``: those that
    transcripts may be written in. Raises ``PipelineError``.
    """
    rules = rules_of(reward_set, answer_metric, extensions=extensions, own=own, scripts=scripts)
    rules.check_stage(stage)  # so that an unknown stage is reported before the files are read
    return {
        name: [_score_row(one) for one in _scored(path, rules, stage)]
        for name, path in zip(names_of(paths), paths, strict=True)
    }


def _scored(path: Path | str, rules: Rules, stage: int) -> list[Score]:
    scores: list[Score] = []
    for row in read_transcripts(path):
        scores.append(rules.score(row.transcript, row.golds, stage, question=row.question, row=row.place))
        check_same_components(rules, scores[0], scores[-1], row.place)
    return scores


def summary(scored: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the same for a reader: mean reward per file, and how often each rule is broken."""
    lines: list[str] = []
    for name, rows in scored.items():
        mean = sum(row["reward"] for row in rows) / len(rows)
        clean = sum(not row["violations"] for row in rows)
        lines.append(f"{printable(name)}: {len(rows)} transcripts, mean reward {mean:.4f}, {clean} without a violation")
        broken = Counter(rule for row in rows for rule in row["violations"])
        lines += [f"  {rule}: {count}" for rule, count in sorted(broken.items(), key=lambda pair: (-pair[1], pair[0]))]
    return "\n".join(lines)


def _score_row(scored: Score) -> dict[str, Any]:
    return {
        "reward": scored.total,
        "components": dict(scored.components),
        "violations": list(scored.violations),
    }
