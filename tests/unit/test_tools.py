"""Tools beside search: a user's own, its budget, and the fate of a trajectory whose tool hangs or raises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from overlapping_engine import OverlappingEngine
from tiny_policy import END, ScriptedEngine, ScriptedRetriever, check_rollouts, questions_table, rollout_params

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.served import _stop_strings
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.params import Reward
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import roll_out
from r1_searcher.rollout.outages import outage_reasons
from r1_searcher.rollout.rows import chosen_parts
from r1_searcher.tools.guard import MOST_HANGING, Guarded
from r1_searcher.tools.protocol import Budget, Call, Tool, ToolResult
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage, ToolError

SEARCH = f"Hm. {QUERY} Ada{END_QUERY}"
FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}"
CALCULATOR = """
from pydantic import BaseModel
from r1_searcher.extend import tool
from r1_searcher.tools.protocol import Budget, Tool
from r1_searcher.types.protocols import Passage

class Sums(BaseModel):
    calls: int = 2

@tool("sums", parameters=Sums)
class Calculator(Tool):
    begin, end = "[sum]", "[/sum]"
    def __init__(self, context, parameters):
        self.budget = Budget(calls=parameters.calls, passages=1, passage_tokens=20)
    def answer(self, calls):
        return [[Passage("", "", str(sum(map(int, call.request.split("+")))) + " [sum]", 1.0)] for call in calls]
"""


def sums(asked: str) -> str:
    return f"Let me see. [sum] {asked} [/sum]"


def own(tmp_path: Path, code: str = CALCULATOR, **parameters: Any) -> params.Rollout:
    """Return a rollout section with the tools search and sums, the latter from a user's file."""
    (tmp_path / "sums.py").write_text(code, encoding="utf-8")
    rollout = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60)
    raw = rollout.model_dump() | {"tools": ["search", "sums"], "extensions": (str(tmp_path / "sums.py"),)}
    return params.Rollout.model_validate(raw | ({"sums": parameters} if parameters else {}))


Engines = Callable[[dict[str, str]], ScriptedEngine]
both_loops = pytest.mark.parametrize("engines", [ScriptedEngine, OverlappingEngine])


def play(
    scripts: Sequence[str], rollout: params.Rollout, engines: Engines = ScriptedEngine, **options: Any
) -> pa.Table:
    by_question = {f"question {number}": script for number, script in enumerate(scripts)}
    engine = engines(by_question)
    questions = questions_table(list(by_question))
    table, _ = roll_out(engine, ScriptedRetriever(), questions, rollout, **{"samples": 1, "seed": 0} | options)
    check_rollouts(table, engine, rollout, end_ids=[ord(END)])
    return table


def rewards_of(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = reward_table(table, Reward(set="paper", answer_metric="f1"), 2).to_pylist()
    return rows


@both_loops
def test_a_tool_of_a_users_file_is_called_within_its_budget(tmp_path: Path, engines: Engines) -> None:
    scripts = [SEARCH + sums("1931 + 2") + FINAL, sums("1+1") * 3 + FINAL, sums(" ") + FINAL, SEARCH * 4]
    table = play(scripts, own(tmp_path), engines)
    rows = table.to_pylist()
    assert [row["finish_reason"] for row in rows] == ["answer", "call_limit", "empty_query", "search_limit"]
    assert [(turn["tool"], turn["query"]) for turn in rows[0]["turns"]] == [("search", "Ada"), ("sums", "1931 + 2")]
    assert rows[0]["segments"][3]["text"] == grammar.render_documents(["1933 ⟦5B⟧sum]"])  # nor its own tag
    assert [reward["num_searches"] for reward in rewards_of(table)] == [1, 0, 0, 3]
    assert all(reward["counted"] for reward in rewards_of(table))
    (row,) = play([sums("1+1") * 3 + FINAL], own(tmp_path, calls=3)).to_pylist()
    assert row["finish_reason"] == "answer" and len(row["turns"]) == 3


def test_the_example_is_a_tool() -> None:
    file = Path(__file__).resolve().parents[2] / "examples/own_tool.py"
    given = {"tools": ["search", "calculator"], "calculator": {"calls": 2}, "extensions": (str(file),)}
    raw = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60).model_dump() | given
    call = "<|begin_of_sum|> 7 * 24 <|end_of_sum|>"
    rows = play([call + FINAL, call * 3], params.Rollout.model_validate(raw)).to_pylist()
    assert [row["finish_reason"] for row in rows] == ["answer", "call_limit"]
    assert rows[0]["segments"][1]["text"] == grammar.render_documents(["7 * 24 = 168"])


def test_the_example_is_called_in_rollouts() -> None:
    example = Path(__file__).resolve().parents[2] / "examples/own_tool.py"
    raw = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60).model_dump()
    raw |= {"tools": ["search", "calculator"], "calculator": {"calls": 2}, "extensions": (str(example),)}
    asks = [f"Hm. <|begin_of_sum|> {request} <|end_of_sum|>" for request in ("7 * 24", "seven", "1+1")]
    table = play([asks[0] + asks[1] + FINAL, "".join(asks)], params.Rollout.model_validate(raw))
    rows = table.to_pylist()
    assert [part["text"] for part in rows[0]["segments"][1::2]] == [
        grammar.render_documents(["7 * 24 = 168"]), grammar.render_documents([])
    ]  # fmt: skip
    assert [row["finish_reason"] for row in rows] == ["answer", "call_limit"]
    assert [(reward["calls_calculator"], reward["format_right"]) for reward in rewards_of(table)] == [
        (2, True), (2, False)
    ]  # fmt: skip


def test_baselines_have_search_alone(tmp_path: Path) -> None:
    (row,) = play([f"{sums('1+1')}{END_ANSWER}"], own(tmp_path), mode="plain_rag").to_pylist()
    assert row["finish_reason"] == "answer" and [turn["tool"] for turn in row["turns"]] == ["search"]


@both_loops
def test_a_tool_that_raises_loses_its_trajectory_and_no_other(tmp_path: Path, engines: Engines) -> None:
    table = play([sums("1+x") + FINAL, sums("1+1") + FINAL, SEARCH + FINAL], own(tmp_path), engines)
    rows = table.to_pylist()
    assert [row["finish_reason"] for row in rows] == ["tool_error", "answer", "answer"]
    assert rows[0]["turns"][0]["error"] == "sums: ValueError: invalid literal for int() with base 10: 'x'"
    assert [reward["counted"] for reward in rewards_of(table)] == [False, True, True]
    assert outage_reasons(table) == [rows[0]["turns"][0]["error"]]


FAULTS = {
    "hangs": ("time.sleep(20)", "sums: no answer within 0.5 s"),
    "raises": ("raise OSError('the disk\\nis gone')", "sums: OSError: the disk\\nis gone"),
    "exits": ("raise SystemExit(3)", "sums: SystemExit: 3"),
    "says so": ("raise ToolError('no\\x1b[2J')", "no\\x1b[2J"),
    "answers nothing": ("return None", "sums: answers with NoneType, not with an entry for each of 1"),
}


@pytest.mark.slow
@both_loops
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_tool_does_costs_its_own_trajectories_and_is_one_line(
    tmp_path: Path, fault: str, engines: Engines
) -> None:
    code, said = FAULTS[fault]
    faulty = CALCULATOR.replace("import Passage", "import Passage, ToolError\nimport time").replace(
        "    def answer(self, calls):\n",
        f"    def answer(self, calls):\n        if any('x' in call.request for call in calls):\n            {code}\n",
    )
    faulty = faulty.replace("passage_tokens=20", "passage_tokens=20, seconds=0.5")
    scripts = [sums("1+1") + sums("x") + FINAL, sums("1+1") + SEARCH + FINAL, SEARCH + sums("2+2") + FINAL, FINAL]
    rows = play(scripts, own(tmp_path, faulty), engines).to_pylist()
    assert [row["finish_reason"] for row in rows] == ["tool_error", "answer", "answer", "answer"]
    assert [turn["error"] for turn in rows[0]["turns"]] == [None, said]
    assert all(turn["error"] is None for row in rows[1:] for turn in row["turns"])


@both_loops
def test_a_tool_that_ends_the_run_ends_it_with_one_line(tmp_path: Path, engines: Engines) -> None:
    code = CALCULATOR.replace("return [[Passage", "raise PipelineError('no more sums')\n        return [[Passage")
    code = code.replace("from pydantic", "from r1_searcher.errors import PipelineError\nfrom pydantic")
    with pytest.raises(PipelineError, match="no more sums"):
        play([SEARCH + sums("1+1") + FINAL, FINAL], own(tmp_path, code), engines)


class Odd(Tool):
    """Answers as scripted, and hangs at the request ``hang`` until ``on`` is set."""

    begin, end, budget = "[odd]", "[/odd]", Budget(calls=1, passages=1, passage_tokens=9, seconds=0.2)

    def __init__(self, entries: Any = None) -> None:
        self.entries, self.on = entries, threading.Event()

    def answer(self, calls: Sequence[Call]) -> Any:
        if any(call.request == "hang" for call in calls):
            self.on.wait(60)
        return [[Passage("", "", call.request, 1.0)] for call in calls] if self.entries is None else self.entries


def asked(*requests: str) -> list[Call]:
    return [Call("odd", request) for request in requests]


def shown(found: Sequence[ToolResult]) -> list[str]:
    return [str(entry) if isinstance(entry, ToolError) else entry[0].text for entry in found]


@pytest.mark.slow
def test_a_call_that_hangs_spoils_no_other_until_too_many_hang() -> None:
    tool = Odd()
    guarded = Guarded("odd", tool)
    late = "odd: no answer within 0.2 s"
    assert shown(guarded.answer(asked("a", "hang", "b"))) == ["a", late, "b"]  # two hang: all three, and the one
    assert shown(guarded.answer(asked("hang"))) == shown(guarded.answer(asked("hang"))) == [late]
    assert shown(guarded.answer(asked("a"))) == [f"odd: {MOST_HANGING} calls of it hang"]
    tool.on.set()
    for thread in list(guarded._hanging):
        thread.join(10)
    assert shown(guarded.answer(asked("a"))) == ["a"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "odd: answers with 0, not with an entry for each of 1"),
        (7, "odd: answers with int, not with an entry for each of 1"),
        (["text"], "odd: an answer is not a list of passages"),
        ([[Passage("", "", 7, 1.0)]], "odd: an answer is not a list of passages"),  # type: ignore[arg-type]
        ([ToolError("the machine is out")], "the machine is out"),
    ],
)
def test_what_is_no_answer(entries: Any, said: str) -> None:
    assert shown(Guarded("odd", Odd(entries)).answer(asked("a"))) == [said]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("calls=parameters.calls", "calls=0", "the tool 'sums' cannot be made: ValueError: .*at least 1"),
        ('"[sum]"', '"[/sum] "', r"the tool 'sums' has no tag '\[/sum\] '"),
        ('"[sum]"', '"[[/sum]"', r"has the tag '\[/sum\]', and the tool 'sums' has '\[\[/sum\]'"),
        ('"[sum]"', '"<think>"', "has the tag '<think>', and the transcript has '<think>'"),
        ("self.budget =", "raise KeyError(1) #", "the tool 'sums' cannot be made: KeyError: 1"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        play([FINAL], own(tmp_path, CALCULATOR.replace(old, new, 1)))
    assert "\n" not in str(raised.value)


def test_names_and_parameters_of_tools(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"rollout\.tools: no tool 'none'.*known: .*search"):
        params.Rollout.model_validate(rollout_params().model_dump() | {"tools": ["search", "none"]})
    with pytest.raises(PipelineError, match=r"rollout\.sums\.call: "):
        own(tmp_path, call=1)
    for tools in ([], ["search", "search"]):
        with pytest.raises(ValueError, match="tools: each one once, and search among them"):
            params.Rollout.model_validate(rollout_params().model_dump() | {"tools": tools})


def test_a_tools_file_is_part_of_what_is_chosen(tmp_path: Path) -> None:
    rollout = own(tmp_path)
    before = chosen_parts(rollout)
    own(tmp_path, CALCULATOR + "# another file\n")
    assert chosen_parts(rollout) != before
    assert chosen_parts(rollout_params()) != before


def test_rollouts_from_before_there_were_tools_are_read(tmp_path: Path) -> None:
    table = play([SEARCH + FINAL], rollout_params(max_turn_tokens=200, max_total_tokens=1500))
    turn = pa.struct([field for field in schemas.TURN if field.name != "tool"])
    rows = table.to_pylist()
    for row in rows:
        for one in row["turns"]:
            del one["tool"]
    names = [field.with_type(pa.list_(turn)) if field.name == "turns" else field for field in schemas.ROLLOUTS]
    write_table(tmp_path / "old.parquet", pa.Table.from_pylist(rows, schema=pa.schema(names)))
    old = read_table(tmp_path / "old.parquet", schemas.ROLLOUTS)
    assert [turn["tool"] for turn in old["turns"].to_pylist()[0]] == [None]
    assert rewards_of(old) == rewards_of(table) and rewards_of(old)[0]["num_searches"] == 1


def test_a_server_is_asked_to_stop_where_tools_can_be_told_apart() -> None:
    plain = {END_QUERY: "end_of_query|>", END_ANSWER: "/answer>"}
    assert _stop_strings([END_QUERY, END_ANSWER]) == plain
    several = _stop_strings([END_QUERY, "<|end_of_open|>", "[/sum]", END_ANSWER])
    assert several == {END_QUERY: "uery|>", "<|end_of_open|>": "pen|>", "[/sum]": "/sum]", END_ANSWER: "/answer>"}
