"""Calls are counted per tool, from rollouts to the report; if search is the only tool, no file has more columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiny_policy import ScriptedEngine, ScriptedRetriever, questions_table, rollout_params

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.headline import write_headline
from r1_searcher.evaluation.summary import summarise
from r1_searcher.evaluation.summary_commands import text_table
from r1_searcher.evaluation.table import EVALUATION_COLUMNS, columns_of, evaluation_table
from r1_searcher.files.artefacts import read_json, write_table
from r1_searcher.files.rollouts import read_rollouts
from r1_searcher.params import Reward
from r1_searcher.protocol_card import make_card
from r1_searcher.report.trajectories import calls, evaluation_card, offered, parts, spans
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.rewards.metrics import cover_em_contiguous
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import roll_out
from r1_searcher.rollout.outages import check_lost
from r1_searcher.training import figures
from r1_searcher.training.curves import curves_csv
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY, Mode
from r1_searcher.types.protocols import Passage, ToolError
from r1_searcher.types.schemas import REWARDS, ROLLOUTS, TOOLS_FIELD

SEARCH = f"Hm. {QUERY} Ada{END_QUERY}"
OPEN = "More. <|begin_of_open|> 1<|end_of_open|>"
FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}"
PAPER = Reward(set="paper", answer_metric="f1")


class Opens(ScriptedRetriever):
    """Opens each passage except on the page that is missing."""

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        if self.calls[-1] == ["away"]:
            raise ToolError("the page is away")
        return [Passage(passage.passage_id, "Title 0", "Trabo is a town.", 0.0)]


def play(scripts: list[str], *tools: str, mode: Mode = "search") -> pa.Table:
    raw = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60, max_batch=1).model_dump()
    rollout = params.Rollout.model_validate(raw | {"tools": ["search", *tools]})
    engine = ScriptedEngine({f"question {number}": script for number, script in enumerate(scripts)})
    questions = questions_table(list(engine.scripts))
    return roll_out(engine, Opens(), questions, rollout, samples=1, seed=0, mode=mode)[0]


@pytest.fixture(scope="module")
def rollouts() -> pa.Table:
    away = SEARCH.replace("Ada", "away") + OPEN
    return play([SEARCH + OPEN * 2 + FINAL, SEARCH + FINAL, away, SEARCH.replace("Ada", "fail")], "open")


def test_the_columns_of_each_tool(rollouts: pa.Table, tmp_path: Any) -> None:
    write_table(tmp_path / "rollouts.parquet", rollouts, {})
    read = read_rollouts(tmp_path / "rollouts.parquet")
    assert read.column_names == [*ROLLOUTS.names, "tools"]
    rewards = reward_table(read, PAPER, 2)
    assert rewards.column_names == [*REWARDS.names, "calls_open", "failed_search", "failed_open"]
    assert rewards["num_searches"].to_pylist() == [1, 1, 1, 0]
    assert rewards["calls_open"].to_pylist() == [2, 0, 0, 0]
    assert rewards["failed_open"].to_pylist() == [0, 0, 1, 0]
    assert rewards["failed_search"].to_pylist() == [0, 0, 0, 1]
    write_table(tmp_path / "rewards.parquet", rewards, {})
    assert read_rewards(tmp_path / "rewards.parquet").equals(rewards)


@pytest.mark.parametrize("mode", ["search", "plain_rag"])
def test_no_column_more_where_search_is_the_only_tool(mode: Mode) -> None:
    """With the tool chosen too, in a baseline: baselines can only search."""
    table = play([FINAL], *(["open"] if mode != "search" else []), mode=mode)
    rewards = reward_table(table, PAPER, 2)
    assert (table.column_names, rewards.schema) == (ROLLOUTS.names, REWARDS)
    assert evaluation_table(table, rewards, cover_em_contiguous).schema == EVALUATION_COLUMNS
    assert not {name for name in figures.means(rewards) if name.startswith(("calls_", "failed_"))}


def test_means_of_an_iteration(rollouts: pa.Table) -> None:
    means = figures.means(reward_table(rollouts, PAPER, 2))
    assert (means["searches"], means["calls_open"], means["error_share"]) == (1.0, 1.0, 0.5)
    assert (means["failed_search"], means["failed_open"]) == (0.25, 0.25)
    said = figures.line("s1 1/2", means, tokens_per_second=None, seconds_left=None)
    assert "searches 1.00  open 1.00  format" in said and "searches 1.00  open 1.00" in figures.watch_line("", means, 1)
    heading = curves_csv([{**means, "iteration": 1}], {1: means}).splitlines()[0].split(",")
    assert {"calls_open", "failed_open", "failed_search", "watch_calls_open"} <= {*heading}
    with pytest.raises(PipelineError, match=r"search and open failed on 50% of the trajectories"):
        figures.check_errors(means, 0.2)
    lost = figures.means(reward_table(rollouts.slice(2), PAPER, 2))
    assert (lost["calls_open"], lost["failed_open"], lost["error_share"]) == (0.0, 0.5, 1.0)


def test_a_tools_failures_are_told_as_its_own(rollouts: pa.Table) -> None:
    with pytest.raises(PipelineError, match=r"^the tool open and the retriever failed on 2 of 4 trajectories"):
        check_lost(rollouts, 0.2)
    with pytest.raises(
        PipelineError, match=r"^the tool open failed on 1 of 1 .*: the page is away \(repair the tool open"
    ):
        check_lost(rollouts.slice(2, 1))


def test_an_evaluation_and_its_summary(rollouts: pa.Table, tmp_path: Any) -> None:
    answered = rollouts.slice(0, 2)
    table = evaluation_table(answered, reward_table(answered, PAPER, None), cover_em_contiguous)
    assert table.schema == columns_of(["calls_open", "tools"]) and table["calls_open"].to_pylist() == [2, 0]
    found = summarise(table, kinds=["test"], needed_searches=None)
    assert found["calls_open"] == 1.0 and np.all(np.array(found["calls_open_ci"]) >= 0)
    plain = summarise(table.drop_columns(["calls_open", "tools"]), kinds=["test"], needed_searches=None)
    assert {name: found[name] for name in plain} == plain
    summary = {"base": {"held_out": found}, "no_search": {"held_out": plain}}
    heading, base, none = (line.split() for line in text_table(summary, width=300).splitlines())
    assert heading[-1] == "open" and base[-3] == "1.000" and none[-1] == "-"
    write_headline(summary, tmp_path)
    assert read_json(tmp_path / "held_out/base.json")["calls_open"] == 1.0
    assert "calls_open" not in read_json(tmp_path / "held_out/no_search.json")


def test_the_protocol_names_the_tools() -> None:
    raw = rollout_params().model_dump() | {"tools": ["search", "open"], "open": {"calls": 7}}
    given: dict[str, Any] = dict.fromkeys(
        ("benchmark", "prompt_sha256", "corpus", "index", "retriever", "engine", "metric_version"), ""
    )
    given |= {"questions": questions_table(["who"])}
    card = make_card(rollout=params.Rollout.model_validate(raw), mode="search", **given)
    assert card["tools"].startswith('open {"calls":7,"before":1,')
    assert "tools" not in make_card(rollout=params.Rollout.model_validate(raw), mode="no_search", **given)
    assert "tools" not in make_card(rollout=rollout_params(), mode="search", **given)


def test_a_reward_set_sees_the_calls(rollouts: pa.Table, tmp_path: Any) -> None:
    (tmp_path / "reads.py").write_text(
        "from r1_searcher.extend import reward_set\n\n\n@reward_set('reads')\ndef reads(case):\n"
        "    return {'reading': float(sum(case.calls.values()))}\n",
        encoding="utf-8",
    )
    mine = Reward.model_validate({"set": "reads", "answer_metric": "f1", "extensions": (str(tmp_path / "reads.py"),)})
    assert reward_table(rollouts, mine, 2)["component_reading"].to_pylist() == [2, 0, 0, 0]


def test_the_report_marks_calls_of_each_tool(rollouts: pa.Table) -> None:
    row = rollouts.to_pylist()[0]
    shown = parts(row["segments"], tools=offered(row))
    assert [part.who for part in shown] == [
        "policy", "search results", "policy", "open results", "policy", "open results", "policy"
    ]  # fmt: skip
    assert [(span.kind, span.text) for span in shown[2].spans] == [
        ("text", "More. "), ("tag", "<|begin_of_open|>"), ("query", " 1"), ("tag", "<|end_of_open|>")
    ]  # fmt: skip
    assert [span.kind for span in shown[3].spans] == ["tag", "text", "tag"]
    assert [span.kind for span in spans(OPEN)] == ["text"]  # a tool that was not chosen
    crossed = spans(f"{QUERY} a<|end_of_open|>", offered(row))
    assert [span.kind for span in crossed] == ["tag", "text", "tag"]
    rewards = reward_table(rollouts, PAPER, 2).to_pylist()
    assert calls(rewards[0]) == [("open", 2)]
    answered = rollouts.slice(0, 1)
    table = evaluation_table(answered, reward_table(answered, PAPER, None), cover_em_contiguous)
    card = evaluation_card(table.to_pylist()[0])
    assert [part.who for part in card["parts"]] == [part.who for part in shown] and card["calls"] == [("open", 2)]
    assert TOOLS_FIELD.name in table.column_names
