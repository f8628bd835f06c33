"""The plan's dense search against hand-worked figures, and the paper's retriever as in its profiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from shipped_profiles import ROOT, enter_shipped
from shipped_profiles import shipped_profile as profile

from r1_searcher.errors import PipelineError
from r1_searcher.plan import search, work
from r1_searcher.plan.architecture import known
from r1_searcher.plan.check import check_profile
from r1_searcher.plan.devices import uses
from r1_searcher.plan.machine import Machine
from r1_searcher.plan.memory import GIB
from r1_searcher.retrieval.dense.models import prefixes
from stages.plan.__main__ import main

USUAL = work.Workload()
PAPERS = ["qwen2.5-7b-base", "llama3.1-8b-instruct"]
DENSE = ("index.dense.model=BAAI/bge-large-en-v1.5", "retriever.kind=dense")
PASSAGES = 29_000_000


def test_the_models_sizes_are_the_published_ones() -> None:
    assert search.encoder_parameters(*search.ENCODERS["bge-large-en-v1.5"]) == 335_141_888
    assert search.encoder_parameters(*search.ENCODERS["bge-base-en-v1.5"]) == 109_482_240


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ((), PASSAGES * 1024 * 2),
        (("index.dense.storage=float32",), PASSAGES * 1024 * 4),
        (("index.dense.kind=hnsw",), PASSAGES * (1024 * 2 + 8 * 32)),
        # 4 · √passages lists, float32 centroids
        (("index.dense.kind=ivfpq",), PASSAGES * (64 + 8) + 21_541 * 1024 * 4),
        (("corpus.kilt.words=200",), PASSAGES // 2 * 1024 * 2),
    ],
)
def test_an_index_by_hand(changes: tuple[str, ...], size: int) -> None:
    found = profile("qwen2.5-7b-base", *DENSE, *changes)
    model = known("qwen2.5-7b")
    main_memory = uses(model, found, USUAL, 80 * GIB)[-1]
    assert main_memory.parts == {"dense index": size}
    plain, disk = (work.disk(model, one, USUAL).parts for one in (profile("qwen2.5-7b-base"), found))
    assert disk["dense index"] == size and disk["DVC's cache"] == plain["DVC's cache"] + size
    assert disk["vectors in the store"] == search.passages(found, 0) * 1024 * (4 if "float32" in str(changes) else 2)


def test_queries_are_embedded_beside_an_engine_or_on_the_cpu() -> None:
    model = known("qwen2.5-7b")
    for device, gpu, cpu in [("auto", 4 * 335_141_888, 0), ("cpu", 0, 2 * 4 * 335_141_888)]:  # two engines
        found = profile("qwen2.5-7b-base", *DENSE, f"retriever.dense.device={device}")
        _, engine, beside = uses(model, found, USUAL, 80 * GIB)
        assert engine.parts.get("query encoder", 0) == gpu
        assert beside.parts.get("query encoders", 0) == cpu


def test_nothing_is_counted_of_bm25_and_of_vectors_that_nothing_searches_only_the_disk() -> None:
    model = known("qwen2.5-7b")
    plain, made = profile("qwen2.5-7b-base"), profile("qwen2.5-7b-base", DENSE[0])
    for found in (plain, made):
        assert search.in_main_memory(found, 0) == search.on_gpu(found) == {}
    assert "dense index" in work.disk(model, made, USUAL).parts
    assert "dense index" not in work.disk(model, plain, USUAL).parts


@pytest.mark.slow
def test_main_memory_that_cannot_hold_the_vectors_is_refused_with_what_helps() -> None:
    name, changes = "qwen2.5-7b-base", [*DENSE, "hardware.main_memory_gib=32"]
    node = Machine((int(79.6 * GIB),) * 8, 100 * GIB, 10_000 * GIB)
    with pytest.raises(PipelineError, match=r"main memory beside the GPUs needs 55\.3 GiB and has 28\.8") as refused:
        check_profile(name, profile(name, *changes), node)
    helps = str(refused.value).partition("any of these fits: ")[2].rstrip(")").split("; ")
    assert set(helps) == {"hardware.main_memory_gib=62", "index.dense.kind=ivfpq"}
    for remedy in helps:
        check_profile(name, profile(name, *changes, *remedy.split(" and ")), node)
    with pytest.raises(PipelineError, match=r"55\.3 GiB of main memory .* 40\.0 GiB are free .*ivfpq"):
        check_profile(name, profile(name, *DENSE), Machine(node.gpus, 40 * GIB, node.disk))


def test_what_is_not_known_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter_shipped(tmp_path, monkeypatch)
    other = ["--set", "index.dense.model=someone/else", "--set", "retriever.kind=dense"]
    assert main(["qwen2.5-7b-base", *other]) == 0
    assert "the dense index is not counted: the size of 'someone/else' is not known" in capsys.readouterr().out
    ours = ["--set", "index.dense.model=models/bge-base-en-v1.5", "--set", "retriever.kind=dense"]
    assert main(["qwen2.5-3b", *ours]) == 0
    assert "is said by --passages" in capsys.readouterr().out
    assert main(["qwen2.5-3b", *ours, "--passages", "1048576"]) == 0
    told = capsys.readouterr().out
    assert "not counted" not in told.replace("searches and checkpoints are not counted", "")
    assert re.search(r"dense index +1\.50 GiB\n", told)  # 768 numbers of 2 bytes, in 2^20 passages


@pytest.mark.parametrize("name", PAPERS)
def test_the_head_of_a_papers_profile_says_what_makes_it_the_papers_retriever(name: str) -> None:
    """The `--set` of its comments, unchanged, gives BGE with its instruction over the same corpus."""
    text = (ROOT / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    head = " ".join(line.lstrip("# ") for line in text[: text.index("\nprofile:")].splitlines())
    (line,) = re.findall(r"python -m stages\.plan \S+((?: --set \S+)+)", head)
    changes = [word for word in shlex.split(line) if word != "--set"]
    found = profile(name, *changes)
    dense = found.index.dense
    assert dense is not None and (dense.model, dense.kind) == ("BAAI/bge-large-en-v1.5", "flat")
    assert found.retriever.kind == "dense" and found.corpus == profile(name).corpus
    query, passage = prefixes(dense.model, ROOT, dense.query_prefix, dense.passage_prefix)
    assert query == "Represent this sentence for searching relevant passages: " and passage == ""
    node = Machine((int(79.6 * GIB),) * 8, 500 * GIB, 10_000 * GIB)
    assert check_profile(name, found, node) == ""
