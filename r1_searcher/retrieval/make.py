"""Build a corpus' index, from folder to folder: BM25, plus vectors if ``index.dense`` names a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages
from r1_searcher.retrieval.build import build_index
from r1_searcher.retrieval.dense.retriever import add_dense, check_dense
from r1_searcher.retrieval.dense.takeover import take_over
from r1_searcher.shown import show


def make_index(loaded: params.Params, corpus: Path, folder: Path) -> None:
    """Index the passages of ``corpus`` into ``folder``. Raises ``PipelineError`` if there are none."""
    number = passages.count(corpus)
    if number == 0:
        raise PipelineError("the corpus is empty", where=str(corpus), fix="see `corpus` in params.yaml")
    check_dense(loaded, number)
    for draft in artefacts.remove_orphans(folder):
        show(f"index: removed {draft}, left by a killed run", file=sys.stderr)
    fingerprint = passages.fingerprint(corpus)
    meta = build_index(passages.batches(corpus), loaded.index, folder, fingerprint, total=number)
    show(f"index: {meta['num_passages']:,} passages, {meta['num_terms']:,} terms -> {folder}")
    dense = loaded.index.dense
    if dense is not None and dense.takeover:
        show_taken(take_over(Path(dense.takeover), corpus, dense, folder), folder)
    else:
        add_dense(corpus, loaded, folder)


def show_taken(meta: dict[str, Any], folder: Path) -> None:
    """Print what was taken over."""
    kind, compared = meta["settings"]["kind"], meta["taken_over"]["rows_compared"]
    shape = f"{meta['num_passages']:,} vectors of {meta['dimension']} dimensions"
    show(f"index: {shape} taken over, {kind} -> {folder}/dense")
    show(f"index: {compared} rows embedded again are what was stored; title and text: {meta['taken_over']['form']}")
