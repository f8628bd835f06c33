"""The rule on scripts: the paper's ban on Chinese characters, or the scripts that a user allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.rewards.rules import rules_of
from r1_searcher.texts import parse_yaml
from r1_searcher.transcripts.grammar import Segment, Tags, Transcript, all_tags, format_violations
from r1_searcher.transcripts.scripts import SCRIPT_NAMES, Scripts, checked, has_cjk, script_violations
from stages.reward.__main__ import main

DEFAULTS = (Path(params.__file__).parent / "defaults.yaml").read_text()


def written(thought: str, answer: str, passage: str = "a passage", query: str = "x") -> str:
    return (
        f"{thought} <|begin_of_query|> {query} <|end_of_query|>\n\n<|begin_of_documents|>\n(1) {passage}\n"
        f"<|end_of_documents|>\n\n</think>\n\n<answer> {answer} </answer>"
    )


@pytest.mark.parametrize("reward_set", ["paper", "released-base", "released-instruct"])
@pytest.mark.parametrize(
    ("written_of", "scripts", "broken"),
    [
        (("我需要查", "安徽省", "黄山位于安徽省。"), "paper", ("cjk",)),
        (("I search", "Anhui", "黄山位于安徽省。"), "paper", ()),  # documents may be in any script
        (("我需要查", "安徽省", "黄山位于安徽省。"), "any", ()),
        (("我需要查", "安徽省", "Mount Huang is in Anhui."), ("Han",), ("script",)),  # the query is Latin
        (("我需要查", "安徽省", "Mount Huang is in Anhui."), ("Latin", "Han"), ()),
        (("查一下です", "安徽省", "x"), ("Latin", "Han"), ("script",)),
        (("I search", "安徽省", "x"), ("Latin",), ("script",)),
        (("Надо искать", "Сибирь", "Baikal"), "paper", ()),
        (("Надо искать", "Сибирь", "Baikal"), ("Latin", "Cyrillic"), ()),
        (("Надо искать", "Сибирь", "Baikal"), ("Latin", "Arabic"), ("script",)),
        (("يجب أن أَبحث", "القاهرة", "Cairo"), ("Arabic", "Latin"), ()),
        (("يجب أن أبحث", "القاهرة", "Cairo"), ("Latin",), ("script",)),
        (("I search, 1984: 5 km² → “x” é ñ ﬁ", "x", "x"), ("Latin",), ()),  # digits, signs and marks are of no script
    ],
)
def test_every_set_holds_a_transcript_to_its_scripts(
    reward_set: str, written_of: tuple[str, str, str], scripts: Scripts, broken: tuple[str, ...]
) -> None:
    rules = rules_of(reward_set, "f1", scripts=scripts)
    found = rules.score(Transcript(written(*written_of)), written_of[1], 2)
    assert found.violations == broken
    assert found.total == (1 if not broken else {"released-instruct": 0}.get(reward_set, -1))


def test_provenance_says_what_the_policy_wrote() -> None:
    parts = [Segment("policy", "查</think>"), Segment("document", "Сибирь"), Segment("policy", "<answer>一</answer>")]
    assert format_violations(Transcript.of(parts, scripts=("Han",))) == ()
    assert format_violations(Transcript.of(parts, scripts=("Latin",))) == ("script",)
    assert format_violations(Transcript.of(parts)) == ("cjk",)


def test_tags_are_not_text() -> None:
    tool = Tags("open", "<|open|>", "<|close|>")
    text = "查 <|open|> 二 <|close|></think><answer> 一 </answer><|im_end|>"
    assert script_violations(text, ("Han",), tags=all_tags([tool])) == []
    assert script_violations(text, ("Han",), tags=all_tags()) == ["script"]


def test_the_papers_rule_is_its_unified_ideographs() -> None:
    assert [has_cjk(chr(code)) for code in (0x4DFF, 0x4E00, 0x9FFF, 0xA000)] == [False, True, True, False]
    assert not has_cjk("カナ 한글 Ångström")


@given(st.text(max_size=20))
def test_properties_of_any_text(text: str) -> None:
    assert script_violations(text, "any") == []
    assert script_violations(text, "paper") == (["cjk"] if any("\u4e00" <= one <= "\u9fff" for one in text) else [])
    if script_violations(text, ("Han", "Latin")):
        assert script_violations(text, ("Han",)) and script_violations(text, ("Latin",))
    if regex.search(r"\p{L}", text) is None:  # not str.isalpha, which knows fewer letters
        assert script_violations(text, ("Thai",)) == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["Latin", "Chinese"], "no script 'Chinese'; known: paper (no Chinese characters), any, or a list of Arabic, "),
        ("han", "no script 'han'; known: "),
        ([], "[] chooses no scripts; known: "),
        (3, "3 chooses no scripts; known: "),
        ([["Han"]], "no script ['Han']; known: "),
    ],
)
def test_unknown_scripts_are_refused_with_all_names(given: Any, fault: str) -> None:
    raw = parse_yaml(DEFAULTS, where="defaults")
    raw["reward"]["scripts"] = given
    with pytest.raises(PipelineError) as caught:
        params.check(raw)
    assert fault in str(caught.value) and "reward.scripts" in str(caught.value)


def test_names_are_unicodes_and_a_single_one_is_a_list() -> None:
    for name in SCRIPT_NAMES:
        assert script_violations("", checked(name)) == []
    assert (checked("Han"), checked(["Han", "Latin", "Han"]), checked("paper")) == (("Han",), ("Han", "Latin"), "paper")


def test_reward_score_takes_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"answer": "安徽省", "gen_text_store": written("我需要查", "安徽省", query="黄山")}))
    command = ["score", "--set", "paper", "--stage", "2", str(path), "--scripts"]
    for scripts, mean in (("paper", "-1.0000"), ("any", "1.0000"), ("Han,Latin", "1.0000"), ("Latin", "-1.0000")):
        assert not main([*command, scripts])
        assert f"mean reward {mean}" in capsys.readouterr().out
    assert main([*command, "Hanzi"]) == 2
    assert "--scripts: no script 'Hanzi'; known: " in capsys.readouterr().err
