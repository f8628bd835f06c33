"""The benchmarks that R1-Searcher's release is evaluated on."""

from __future__ import annotations

from r1_searcher.benchmarks.releases import Release
from r1_searcher.extend import benchmark

_R1_SEARCHER = "https://raw.githubusercontent.com/RUCAIBox/R1-Searcher/main/data/eval_set"


@benchmark("hotpotqa")
def hotpotqa(name: str) -> Release:
    """R1-Searcher's sample of HotpotQA's development set."""
    return Release(
        name,
        "R1-Searcher's sample of HotpotQA's development set",
        "hotpotqa_500.jsonl",
        _R1_SEARCHER,
        "bf8a42f6e1abcaaaf050cf3c7ffa50231102dd1c021b77ab01eeac95fad04bea",
        87363,
        500,
        "MIT",
    )


@benchmark("2wiki")
def two_wiki(name: str) -> Release:
    """R1-Searcher's sample of 2WikiMultiHopQA's development set."""
    return Release(
        name,
        "R1-Searcher's sample of 2WikiMultiHopQA's development set",
        "2wiki_500.jsonl",
        _R1_SEARCHER,
        "0fb19dee8acbf146d60c699443b1164038727f9597f30f4894bab2da253b2f1a",
        74747,
        500,
        "MIT",
    )


@benchmark("musique")
def musique(name: str) -> Release:
    """R1-Searcher's sample of MuSiQue's development set."""
    return Release(
        name,
        "R1-Searcher's sample of MuSiQue's development set",
        "musique_500.jsonl",
        _R1_SEARCHER,
        "d1342802b9b9850e44a946031de4557722427783c92421178d729dd6e113b50d",
        89778,
        500,
        "MIT",
    )


@benchmark("bamboogle")
def bamboogle(name: str) -> Release:
    """Bamboogle, all of it, as R1-Searcher releases it."""
    return Release(
        name,
        "Bamboogle, all of it, as R1-Searcher releases it",
        "bamboogle.jsonl",
        _R1_SEARCHER,
        "1c551e2f4c3387fd97a1cf711737258df5ffd4ea86996f1b2ba63a861cb7af29",
        17783,
        125,
        "MIT",
    )
