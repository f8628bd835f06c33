"""HippoRAG's samples of training sets, with their paragraphs."""

from __future__ import annotations

from r1_searcher.benchmarks.releases import Release
from r1_searcher.extend import benchmark

_HIPPORAG = "https://raw.githubusercontent.com/OSU-NLP-Group/HippoRAG/3d95d255a8db0c1699b853cfb4fbe5056708162d/data"


@benchmark("hotpotqa_train100")
def hotpotqa_train100(name: str) -> Release:
    """HippoRAG's sample of HotpotQA's training set: no test of a policy that was trained on HotpotQA."""
    return Release(
        name,
        "HippoRAG's sample of HotpotQA's training set: no test of a policy that was trained on HotpotQA",
        "hotpotqa_train.json",
        _HIPPORAG,
        "6c0e2689d03c94b3bb4d5f94ed806ea4f4eb4f46c12132f8e91df774ad5c5a22",
        810836,
        100,
        "CC BY-SA 4.0",
        contexts=True,
    )


@benchmark("musique_train100")
def musique_train100(name: str) -> Release:
    """HippoRAG's sample of MuSiQue's training set, with answer aliases."""
    return Release(
        name,
        "HippoRAG's sample of MuSiQue's training set, with answer aliases",
        "musique_train.json",
        _HIPPORAG,
        "bca674746844637f5c68408a96b67bc0542d98e7c53715f3acafe144bd5e4ff4",
        1179088,
        100,
        "CC BY 4.0",
        contexts=True,
    )
