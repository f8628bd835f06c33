"""Rewards of transcript files: what `python -m stages.reward score` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1_searcher.rewards.metrics import AnswerMetric
from r1_searcher.rewards.released import names_of, read_transcripts
from r1_searcher.rewards.sets import RewardSet, Score, rules_of, score
from r1_searcher.shown import printable


def score_files(
    paths: Sequence[Path | str], reward_set: RewardSet, stage: int, answer_metric: AnswerMetric
) -> dict[str, list[dict[str, Any]]]:
    """``{file name: [{reward, components, violations}, …]}``, rows in the order of each file."""
    rules_of(reward_set, stage)  # an unknown stage shows before the files are read
    return {
        name: [
            _printed(score(row.transcript, row.golds, reward_set, stage, answer_metric))
            for row in read_transcripts(path)
        ]
        for name, path in zip(names_of(paths), paths, strict=True)
    }


def summary(scored: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The same for a reader: the mean reward a file, and how often each rule is broken."""
    lines: list[str] = []
    for name, rows in scored.items():
        mean = sum(row["reward"] for row in rows) / len(rows)
        clean = sum(not row["violations"] for row in rows)
        lines.append(f"{printable(name)}: {len(rows)} transcripts, mean reward {mean:.4f}, {clean} without a violation")
        broken = Counter(rule for row in rows for rule in row["violations"])
        lines += [f"  {rule}: {count}" for rule, count in sorted(broken.items(), key=lambda pair: (-pair[1], pair[0]))]
    return "\n".join(lines)


def _printed(scored: Score) -> dict[str, Any]:
    return {
        "reward": scored.total,
        "components": asdict(scored.components),
        "violations": list(scored.violations),
    }
