"""vLLM starts in a process that has imported numba, as every process with an open BM25 index has."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_policy import rollout_params
from tiny_project import write_policy_that_searches

pytest.importorskip("vllm", reason="vLLM is not installed: make test-engines")


def test_vllm_starts_where_numba_was_imported_first(tmp_path: Path) -> None:
    import numba  # noqa: F401

    from r1_searcher.rollout import load_engine

    assert "llvmlite.binding.ffi" in sys.modules
    write_policy_that_searches(tmp_path / "policy")
    settings = rollout_params(max_total_tokens=120).model_copy(update={"engine": "vllm"})
    assert load_engine(tmp_path / "policy", settings).name == "vllm"
