"""IRCoT's sample of HotpotQA, with its paragraphs."""

from __future__ import annotations

from r1_searcher.benchmarks.releases import Release
from r1_searcher.extend import benchmark

_IRCOT = (
    "https://raw.githubusercontent.com/xindili-cmu/anlp-project-multihop/"
    "11ba72982918286f4bc602fb0cd87b5e2a145860/processed_data/hotpotqa"
)


@benchmark("hotpotqa_contexts")
def hotpotqa_contexts(name: str) -> Release:
    """IRCoT's sample of HotpotQA's development set, with the ten paragraphs of every question."""
    return Release(
        name,
        "IRCoT's sample of HotpotQA's development set, with the ten paragraphs of every question",
        "dev_subsampled.jsonl",
        _IRCOT,  # IRCoT publishes it in an archive; this is a copy of the one file
        "837a919903fedf521211c4271f168ad5458488198e9c4d967bf5f3a579525ce8",
        3312335,
        500,
        "CC BY-SA 4.0",
        contexts=True,
    )
