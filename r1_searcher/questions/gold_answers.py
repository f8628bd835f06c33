"""Questions that a right answer can hardly score on, found before training pays for them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from r1_searcher.rewards.metrics import compared_exactly
from r1_searcher.transcripts.scripts import PAPER, Scripts, in_words, script_violations


def unscorable(splits: Mapping[str, pa.Table], scripts: Scripts = PAPER) -> dict[str, dict[str, int]]:
    """Count, per split (QUESTIONS) that has any, the questions that hardly any answer can score on.

    ``empty``: all golds normalise to nothing and are compared exactly; ``script``: all golds are in a script that the
    format rule (``scripts``, of ``reward.scripts``) forbids; ``asked``: the question itself is. Zeros are left out.
    """
    found = {}
    for name, table in splits.items():
        golds = table["answers"].to_pylist()
        counts = {
            "empty": sum(all(map(compared_exactly, one)) for one in golds),
            "script": sum(all(script_violations(gold, scripts) for gold in one) for one in golds),
            "asked": sum(bool(script_violations(text, scripts)) for text in table["question"].to_pylist()),
        }
        if any(counts.values()):
            found[name] = {kind: number for kind, number in counts.items() if number}
    return found


def notes(found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int]) -> list[str]:
    """Describe the ``empty`` of ``unscorable`` in words; ``sizes``: the number of questions per split."""
    return [
        f"{counts['empty']:,} of the {sizes[name]:,} questions of {name} have only gold answers that normalise to "
        "nothing (such as 'The' or '...'): only exactly the same answer is right; give them another gold answer if "
        "that is not meant"
        for name, counts in found.items()
        if "empty" in counts
    ]


def script_warnings(found: Mapping[str, Mapping[str, int]], sizes: Mapping[str, int], scripts: Scripts) -> list[str]:
    """Describe the questions of ``unscorable`` that break the rule on scripts, one line per split that has any."""
    lines = []
    for name, counts in found.items():
        size, rule = f"{sizes[name]:,} questions of {name}", f"reward.scripts {in_words(scripts)}"
        if number := counts.get("script"):
            what = f"{number:,} of the {size} have only gold answers in a script that {rule} forbids"
            why = "a right answer breaks the format, so these questions cannot be learned"
        elif number := counts.get("asked"):
            what = f"{number:,} of the {size} are asked in a script that {rule} forbids"
            why = "thoughts or queries in their words break the format"
        else:
            continue
        lines.append(f"{what}: {why}; name the scripts in reward.scripts, such as [Latin, Han], or set it to any")
    return lines
