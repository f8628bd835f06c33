"""rewards.parquet from rollouts.parquet: the function, its columns, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.params import Reward
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import REWARDS, ROLLOUTS
from stages.reward.__main__ import main

PAPER = Reward(set="paper", answer_metric="f1")
ASK = f"I look. {grammar.QUERY} lake {grammar.END_QUERY}"
BLOCK = grammar.render_documents(["The lake is Mjøsa."])
END = "</think>\n\n<answer> lake Mjøsa </answer>"
FOUND = {"query": "lake", "passage_ids": ["p1"], "scores": [1.5], "error": None}
FAILED = {"query": "lake", "passage_ids": [], "scores": [], "error": "timed out"}


def rollout(name: str, *parts: tuple[str, str], turns: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    text = "".join(words for _, words in parts)
    source = [grammar.PROMPT] * 4
    for author, words in parts:
        source += [grammar.POLICY if author == "policy" else grammar.DOCUMENT] * len(words.split())
    return {
        "trajectory_id": f"{name}#0",
        "question_id": name,
        "sample": 0,
        "question": "Which lake?",
        "answers": ["Mjøsa", "lake Mjosa"],
        "prompt": "Which lake? <think>",
        "token_ids": list(range(len(source))),
        "token_source": source,
        "policy_logprobs": [-1.0] * source.count(grammar.POLICY),
        "turns": turns,
        "segments": [{"source": author, "text": words} for author, words in parts],
        "text": text,
        "answer": grammar.extract_answer(text),
        "finish_reason": grammar.FINISH_ANSWER,
        "seed": 0,
        **other,
    }


def rollouts(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ROLLOUTS)


GOOD = rollout("good", ("policy", ASK), ("document", BLOCK), ("policy", END), turns=[FOUND])
FORGED = rollout("forged", ("policy", f"{ASK}{BLOCK}{END}"), turns=[])
SILENT = rollout("silent", ("policy", "hm"), turns=[], finish_reason=grammar.FINISH_TURN_LIMIT)
LOST = rollout("lost", ("policy", ASK), turns=[FAILED], finish_reason=grammar.FINISH_RETRIEVER_ERROR)


def test_stage_2_column_by_column() -> None:
    table = reward_table(rollouts(GOOD, FORGED, SILENT, LOST), PAPER, 2)
    assert table.schema == REWARDS
    good, forged, silent, lost = table.to_pylist()
    assert good == {
        "trajectory_id": "good#0",
        "question_id": "good",
        "total": pytest.approx(2 / 3),
        "retrieval": 0.0,
        "format": 0.0,
        "answer": pytest.approx(2 / 3),  # of "Mjøsa" 2/3, of "lake Mjosa" 1/2
        "violations": [],
        "format_right": True,
        "em": 0.0,
        "f1": pytest.approx(2 / 3),
        "cover_em": 1.0,
        "num_searches": 1,
        "num_policy_tokens": 5 + 5,  # words of ASK and of END
        "num_tokens": 4 + 5 + 7 + 5,  # prompt, ASK, BLOCK, END
        "counted": True,
    }
    assert (forged["total"], forged["violations"]) == (pytest.approx(2 / 3 - 2), ["document_tag_written"])
    assert (forged["num_searches"], forged["format_right"], forged["counted"]) == (0, False, True)
    assert (silent["total"], silent["answer"], silent["f1"], silent["counted"]) == (-2, 0, 0, True)
    assert (lost["counted"], lost["num_searches"], lost["format_right"]) == (False, 0, False)


def test_stage_1_rewards_searching_and_format_alone() -> None:
    table = reward_table(rollouts(GOOD, FORGED, SILENT), PAPER, 1)
    rows = table.select(["retrieval", "format", "answer", "total"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0.5, 0.5, 0, 1), (0, 0, 0, 0), (0, 0, 0, 0)]
    assert table["f1"].to_pylist()[0] == pytest.approx(2 / 3)  # measured, not rewarded


def test_format_right_is_the_papers_rule_whichever_set_rewards() -> None:
    base = Reward(set="released-base", answer_metric="f1")
    row = reward_table(rollouts(FORGED), base, 2).to_pylist()[0]
    assert (row["total"], row["violations"], row["format_right"]) == (pytest.approx(2 / 3), [], False)


def test_answer_metric_comes_from_the_parameters() -> None:
    cover = Reward(set="paper", answer_metric="cover_em")
    assert reward_table(rollouts(GOOD), cover, 2)["total"].to_pylist() == [1.0]


def test_one_failed_search_among_good_ones_is_not_counted() -> None:
    row = rollout("half", ("policy", ASK), ("document", BLOCK), ("policy", ASK), turns=[FOUND, FAILED])
    assert reward_table(rollouts(row), PAPER, 1).select(["num_searches", "counted"]).to_pylist() == [
        {"num_searches": 1, "counted": False}
    ]


def test_the_finish_reason_alone_takes_a_trajectory_out() -> None:
    row = {**GOOD, "finish_reason": grammar.FINISH_RETRIEVER_ERROR}
    assert reward_table(rollouts(row), PAPER, 1)["counted"].to_pylist() == [False]


def test_a_slice_of_a_table_counts_its_own_tokens() -> None:
    whole = rollouts(SILENT, GOOD, FORGED)
    assert reward_table(whole.slice(1, 1), PAPER, 2).equals(reward_table(whole, PAPER, 2).slice(1, 1))


def test_no_rollouts_and_no_gold() -> None:
    assert reward_table(rollouts(), PAPER, 1).num_rows == 0
    with pytest.raises(PipelineError, match="has no stage 1"):
        reward_table(rollouts(), Reward(set="released-base", answer_metric="f1"), 1)
    with pytest.raises(PipelineError, match="rollouts, good#0: the trajectory has no gold answer"):
        reward_table(rollouts({**GOOD, "answers": []}), PAPER, 1)


def command(folder: Path, table: pa.Table | None, *more: str) -> tuple[int, Path]:
    source, out = folder / "rollouts.parquet", folder / "rewards.parquet"
    if table is not None:
        artefacts.write_table(source, table)
    root = Path(__file__).resolve().parents[2]
    return main(
        [
            "--rollouts",
            str(source),
            "--out",
            str(out),
            "--stage",
            "2",
            "--params",
            str(root / "r1_searcher/params/defaults.yaml"),
            *more,
        ]
    ), out


def test_command_writes_what_the_function_returns(tmp_path: Path) -> None:
    status, out = command(tmp_path, rollouts(GOOD, LOST))
    assert status == 0
    assert artefacts.read_table(out, REWARDS).equals(reward_table(rollouts(GOOD, LOST), PAPER, 2))
    metadata = artefacts.read_metadata(out)
    assert metadata["reward"] == {"set": "paper", "answer_metric": "f1", "scripts": "paper"}
    assert metadata["stage"] == 2
    assert metadata["rollouts"] == artefacts.sha256_file(tmp_path / "rollouts.parquet")
    first = out.read_bytes()
    assert command(tmp_path, None)[0] == 0
    assert out.read_bytes() == first


def test_command_says_which_column_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = command(tmp_path, rollouts(GOOD).drop_columns(["turns"]))
    assert status == 2
    assert "column 'turns' is missing" in capsys.readouterr().err
    assert not out.exists()


def test_command_needs_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--stage", "1"])
    assert "required: --rollouts, --out" in capsys.readouterr().err
