"""Hugging Face's datasets opens what is exported, and the files of training themselves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset

from r1_searcher.cli.export import main
from r1_searcher.files.artefacts import write_table
from r1_searcher.types.schemas import ROLLOUTS

ROW = {
    **{"trajectory_id": "q1#0", "question_id": "q1", "sample": 0, "question": "Who?", "answers": ["Ada", "A. Kolm"]},
    **{"prompt": "Ask. <think>", "token_ids": [1, 2], "token_source": [0, 1], "policy_logprobs": [-0.5]},
    **{"turns": [{"tool": "search", "query": "q", "passage_ids": ["p1"], "scores": [0.5], "error": None}]},
    **{
        "segments": [{"source": "policy", "text": "…"}],
        "text": "…",
        "answer": None,
        "finish_reason": "answer",
        "seed": 5,
    },
}


def test_rollouts_open_as_a_dataset_with_every_value(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW], schema=ROLLOUTS)
    write_table(tmp_path / "rollouts/0000.parquet", table, {"key": "k"})
    write_table(tmp_path / "rollouts/0001.parquet", table)
    assert main(["rollouts", str(tmp_path / "rollouts"), "--form", "hub", "--out", str(tmp_path / "hub")]) == 0
    cache = str(tmp_path / "cache")
    whole = load_dataset(str(tmp_path / "hub"), split="train", cache_dir=cache)
    assert whole.to_list() == pq.read_table(tmp_path / "rollouts/0000.parquet").to_pylist() * 2
    files = str(tmp_path / "rollouts/*.parquet")
    assert load_dataset("parquet", data_files=files, split="train", cache_dir=cache).to_list() == whole.to_list()
