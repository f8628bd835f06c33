"""Gold answers that a right answer can hardly match, found before training pays for them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from r1_searcher.rewards.metrics import compared_exactly
from r1_searcher.transcripts.grammar import has_cjk


def unscorable(splits: Mapping[str, pa.Table]) -> dict[str, dict[str, int]]:
    """Count, per split (QUESTIONS) that has any, the questions that hardly any answer can score on.

    ``empty``: all golds normalise to nothing and are compared exactly; ``cjk``: all golds contain Chinese
    characters, which the format rules of every reward set punish. Zeros are left out.
    """
    found = {}
    for name, table in splits.items():
        golds = table["answers"].to_pylist()
        counts = {
            "empty": sum(all(map(compared_exactly, one)) for one in golds),
            "cjk": sum(all(map(has_cjk, one)) for one in golds),
        }
        if any(counts.values()):
            found[name] = {kind: number for kind, number in counts.items() if number}
    return found


def notes(found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], reward_set: str) -> list[str]:
    """Describe ``unscorable`` in words; ``sizes``: the number of questions per split."""
    lines = []
    for name, counts in found.items():
        questions = f"of the {sizes[name]:,} questions of {name}"
        if number := counts.get("empty"):
            lines.append(
                f"{number:,} {questions} have only gold answers that normalise to nothing (such as 'The' "
                "or '...'): only exactly the same answer is right; give them another gold answer if that is not meant"
            )
        if number := counts.get("cjk"):
            lines.append(
                f"{number:,} {questions} have only gold answers in Chinese characters, and the format rule of "
                f"reward.set {reward_set} penalises answers with such characters: these questions cannot be learned"
            )
    return lines
