"""The released benchmarks that are known: where each file is published, and the checksum that it must have.

Nothing of them is part of this repository. A checksum is that of the copy that was at hand when it was
written down here (2026-11); a file that was published anew under its old address is refused. The
addresses of R1-Searcher's files name a branch, so they may move; the others name a commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from r1_searcher.errors import PipelineError

_R1_SEARCHER = "https://raw.githubusercontent.com/RUCAIBox/R1-Searcher/main/data/eval_set"
_IRCOT = (
    "https://raw.githubusercontent.com/xindili-cmu/anlp-project-multihop/"
    "11ba72982918286f4bc602fb0cd87b5e2a145860/processed_data/hotpotqa"
)
_HIPPORAG = "https://raw.githubusercontent.com/OSU-NLP-Group/HippoRAG/3d95d255a8db0c1699b853cfb4fbe5056708162d/data"


@dataclass(frozen=True)
class Release:
    """One released file of questions. ``contexts``: whether it holds the paragraphs that they are asked about."""

    name: str  # of the benchmark, in parameters and in summaries
    about: str
    file: str
    address: str  # of the folder that holds ``file``
    sha256: str
    num_bytes: int  # of the file: a place that sends more does not send this file
    num_questions: int
    licence: str
    contexts: bool = False


_ALL = (
    Release(
        "hotpotqa",
        "R1-Searcher's sample of HotpotQA's development set",
        "hotpotqa_500.jsonl",
        _R1_SEARCHER,
        "bf8a42f6e1abcaaaf050cf3c7ffa50231102dd1c021b77ab01eeac95fad04bea",
        87363,
        500,
        "MIT",
    ),
    Release(
        "2wiki",
        "R1-Searcher's sample of 2WikiMultiHopQA's development set",
        "2wiki_500.jsonl",
        _R1_SEARCHER,
        "0fb19dee8acbf146d60c699443b1164038727f9597f30f4894bab2da253b2f1a",
        74747,
        500,
        "MIT",
    ),
    Release(
        "musique",
        "R1-Searcher's sample of MuSiQue's development set",
        "musique_500.jsonl",
        _R1_SEARCHER,
        "d1342802b9b9850e44a946031de4557722427783c92421178d729dd6e113b50d",
        89778,
        500,
        "MIT",
    ),
    Release(
        "bamboogle",
        "Bamboogle, all of it, as R1-Searcher releases it",
        "bamboogle.jsonl",
        _R1_SEARCHER,
        "1c551e2f4c3387fd97a1cf711737258df5ffd4ea86996f1b2ba63a861cb7af29",
        17783,
        125,
        "MIT",
    ),
    Release(
        "hotpotqa_contexts",
        "IRCoT's sample of HotpotQA's development set, with the ten paragraphs of every question",
        "dev_subsampled.jsonl",
        _IRCOT,  # IRCoT publishes it in an archive; this is a copy of the one file
        "837a919903fedf521211c4271f168ad5458488198e9c4d967bf5f3a579525ce8",
        3312335,
        500,
        "CC BY-SA 4.0",
        contexts=True,
    ),
    Release(
        "hotpotqa_train100",
        "HippoRAG's sample of HotpotQA's training set: no test of a policy that was trained on HotpotQA",
        "hotpotqa_train.json",
        _HIPPORAG,
        "6c0e2689d03c94b3bb4d5f94ed806ea4f4eb4f46c12132f8e91df774ad5c5a22",
        810836,
        100,
        "CC BY-SA 4.0",
        contexts=True,
    ),
    Release(
        "musique_train100",
        "HippoRAG's sample of MuSiQue's training set, with answer aliases",
        "musique_train.json",
        _HIPPORAG,
        "bca674746844637f5c68408a96b67bc0542d98e7c53715f3acafe144bd5e4ff4",
        1179088,
        100,
        "CC BY 4.0",
        contexts=True,
    ),
)
RELEASES = {release.name: release for release in _ALL}


def release_of(name: str) -> Release:
    """The release called ``name``; an unknown one is a ``PipelineError`` that says which are known."""
    if name not in RELEASES:
        raise PipelineError(f"unknown benchmark {name!r}", where="benchmarks", fix=f"known: {', '.join(RELEASES)}")
    return RELEASES[name]
