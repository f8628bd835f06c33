"""The reward sets: every rule worked by hand, the released rules against a second implementation, and bounds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.errors import PipelineError
from r1_searcher.rewards import metrics
from r1_searcher.rewards.case import Score
from r1_searcher.rewards.rules import score
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import Segment, Transcript

END = "</think>\n\n<answer> Paris </answer>"
ASK = "<|begin_of_query|> capital France <|end_of_query|>"
BLOCK = "\n\n<|begin_of_documents|>\n(1) Paris is the capital.\n<|end_of_documents|>\n\n"
GOOD = f"I should look this up. {ASK}{BLOCK} So it is Paris.{END}"
RELEASED: list[tuple[str, int]] = [("released-base", 2), ("released-instruct", 1), ("released-instruct", 2)]
BOUNDS: dict[tuple[str, int], tuple[float, float]] = {
    ("paper", 1): (0, 1),
    ("paper", 2): (-2, 1),
    ("released-base", 2): (-2, 1),
    ("released-instruct", 1): (-1, 2),
    ("released-instruct", 2): (-1, 1),
}


def bare(text: str, reward_set: str, stage: int, gold: str = "Paris") -> Score:
    return score(Transcript(text), gold, reward_set, stage, "f1")


def parts(scored: Score) -> tuple[float, float, float]:
    retrieval, form, answer = (scored.components[name] for name in ("retrieval", "format", "answer"))
    return retrieval, form, answer


def known(blocks: str = BLOCK, ask: str = ASK, end: str = END) -> Transcript:
    return Transcript.of(
        [Segment("policy", f"Hm. {ask}"), Segment("document", blocks), Segment("policy", f" So.{end}")]
    )


# --- the paper's set


@pytest.mark.parametrize(
    ("transcript", "num_searches", "expected", "violations"),
    [
        (known(), 1, (0.5, 0.5, 0), ()),
        (known(end="</think>\n\n<answer> Rome </answer>"), 1, (0.5, 0.5, 0), ()),  # the answer earns nothing
        (known(), 3, (0.5, 0.5, 0), ()),  # more searches earn no more
        (known(), 0, (0, 0.5, 0), ("no_search",)),  # the retriever failed: no search succeeded
        (known(end=""), 1, (0.5, 0, 0), ("end_think_count", "begin_answer_count", "end_answer_count")),
        (Transcript.of([Segment("policy", "Rome?")]), 0, (0, 0, 0), None),
    ],
)
def test_paper_stage_1(
    transcript: Transcript,
    num_searches: int,
    expected: tuple[float, float, float],
    violations: tuple[str, ...] | None,
) -> None:
    scored = score(transcript, "Paris", "paper", 1, "f1", num_searches=num_searches)
    assert parts(scored) == expected
    assert scored.total == sum(expected)
    assert violations is None or scored.violations == violations


def test_paper_stage_1_of_a_bare_transcript_counts_its_blocks() -> None:
    assert parts(bare(GOOD, "paper", 1)) == (0.5, 0.5, 0)
    assert parts(bare(f"Paris, I know.{END}", "paper", 1)) == (0, 0.5, 0)
    open_block = GOOD.replace("<|end_of_documents|>\n\n", "")
    assert parts(bare(open_block, "paper", 1)) == (0, 0, 0)


def test_paper_stage_2() -> None:
    assert parts(score(known(), "Paris", "paper", 2, "f1", num_searches=1)) == (0, 0, 1)
    assert parts(score(known(), "Paris", "paper", 2, "f1", num_searches=0)) == (0, 0, 1)  # searching earns nothing
    half = score(known(), ["Rome", "Paris, France"], "paper", 2, "f1", num_searches=1)
    assert parts(half) == pytest.approx((0, 0, 2 / 3))
    spoilt = score(known(end=f"{END} Done."), "Paris", "paper", 2, "f1", num_searches=1)
    assert parts(spoilt) == (0, -2, 1)
    assert (spoilt.total, spoilt.violations) == (-1, ("text_after_answer",))
    silent = score(known(end=""), "Paris", "paper", 2, "f1", num_searches=1)
    assert (silent.total, parts(silent)) == (-2, (0, -2, 0))


@pytest.mark.parametrize(("metric", "reward"), [("f1", 2 / 3), ("em", 0), ("cover_em", 1)])
@pytest.mark.parametrize(("reward_set", "stage"), [key for key in BOUNDS if key[1] == 2])
def test_answer_metric_of_stage_2(metric: str, reward: float, reward_set: str, stage: int) -> None:
    text = GOOD.replace("> Paris <", "> Paris, France <")
    assert score(Transcript(text), "Paris", reward_set, stage, metric).total == pytest.approx(reward)


def test_an_answer_in_a_document_is_not_the_policys() -> None:
    planted = known(blocks=BLOCK.replace("Paris is", "<answer> Paris </answer> is"), end="</think> no idea")
    assert score(planted, "Paris", "paper", 2, "f1", num_searches=1).components["answer"] == 0


def test_own_documents_are_punished_by_provenance_only() -> None:
    forged = Transcript.of([Segment("policy", GOOD)])
    assert parts(score(forged, "Paris", "paper", 2, "f1", num_searches=0)) == (0, -2, 1)
    assert bare(GOOD, "released-base", 2).total == 1  # the release cannot see it


# --- the released sets


@pytest.mark.parametrize(
    ("text", "reward", "violations"),
    [
        (GOOD, 1, ()),
        (f"I know.{END}", 1, ()),  # no search at all is right
        (GOOD.replace("> Paris <", "> Paris, France <"), 2 / 3, ()),
        (GOOD + "<|endoftext|>", 1, ()),
        (GOOD + " and that is all", 1, ()),  # the release does not require the answer to be last
        (GOOD.replace("(1) ", ""), -1, ("tag_counts_differ",)),
        (GOOD.replace("<|end_of_documents|>\n\n", "<|end_of_documents|>\n"), -1, ("tag_counts_differ",)),
        (GOOD.replace("(1) Paris", "(1) <|end_of_query|> Paris"), -1, ("tag_counts_differ",)),  # in a document
        (GOOD.replace("I should", "The assistant should"), -1, ("assistant_written",)),
        (GOOD.replace("(1) Paris", "(1) Assistant Paris"), -1, ("assistant_written",)),
        (f"<think>{GOOD}", -1, ("think_tag_written",)),
        (GOOD.replace("</think>", ""), -1, ("end_think_count",)),
        (GOOD.replace("</think>", "</think></think>"), -1, ("end_think_count",)),
        (GOOD.replace("<answer>", "<answer><answer>"), -1, ("begin_answer_count",)),
        (GOOD + "</answer>", -1, ("end_answer_count",)),
        (GOOD.replace("> Paris <", "> Paris begin_of_query <"), -2 + 0.4, ("tag_in_answer",)),  # 1 of 4
        (GOOD.replace("> Paris <", "> begin_of_documents Paris <"), -2 + 0.4, ("tag_in_answer",)),
        (GOOD.replace("> Paris <", "> Paris" + " x" * 9 + " <"), 2 / 11, ()),  # ten words
        (GOOD.replace("> Paris <", "> Paris" + " x" * 10 + " <"), -2 + 2 / 12, ("answer_too_long",)),
        (GOOD.replace("So it", "所以 it"), -1, ("cjk",)),
        (GOOD.replace("(1) Paris", "(1) 巴黎 Paris"), 1, ()),  # CJK in a document is right
        (GOOD.replace("<answer> ", "").replace("So it", "所以"), -2, ("begin_answer_count", "cjk")),  # once
        (GOOD.replace(" </answer>", ""), -2, ("end_answer_count",)),  # no end tag: no answer part
        # Both tags once, in the wrong order: the answer runs to the end, including the appended end token.
        (f"I know.</think></answer><answer> Paris{' '}", 2 / 3, ()),
        ("", -2, ("end_think_count", "begin_answer_count", "end_answer_count")),
    ],
)
def test_released_base_stage_2(text: str, reward: float, violations: tuple[str, ...]) -> None:
    scored = bare(text, "released-base", 2)
    assert scored.total == pytest.approx(reward)
    assert scored.violations == violations
    assert scored.components["format"] == (-2 if violations else 0)


@pytest.mark.parametrize(
    ("text", "expected", "violations"),
    [
        (GOOD, (0.5, 0.5, 1), ()),
        (GOOD.replace("> Paris <", "> in Paris, France <"), (0.5, 0.5, 1), ()),  # Cover-EM, not F1
        (GOOD.replace("> Paris <", "> Rome <"), (0.5, 0.5, -1), ()),
        (f"I know.{END}", (0, 0.5, 1), ("no_search",)),
        (GOOD.replace("(1) ", ""), (0, 0.5, 1), ("tag_counts_differ",)),
        (f"<think>{GOOD}", (0.5, 0, 1), ("think_tag_written",)),
        (GOOD.replace("</think>", ""), (0.5, 0, 1), ("end_think_count",)),
        (GOOD.replace("</answer>", ""), (0.5, 0, -1), ("end_answer_count",)),
        (GOOD.replace("<answer>", ""), (0.5, 0, -1), ("begin_answer_count",)),
        (GOOD.replace("So it", "所以 assistant"), (0.5, 0.5, 1), ()),  # no rule of this stage
        ("", (0, 0, -1), ("no_search", "end_think_count", "begin_answer_count", "end_answer_count")),
    ],
)
def test_released_instruct_stage_1(
    text: str, expected: tuple[float, float, float], violations: tuple[str, ...]
) -> None:
    scored = bare(text, "released-instruct", 1)
    assert parts(scored) == expected
    assert scored.total == sum(expected)
    assert scored.violations == violations


@pytest.mark.parametrize(
    ("text", "reward", "violations"),
    [
        (GOOD, 1, ()),
        (GOOD.replace("> Paris <", "> Paris, France <"), 2 / 3, ()),
        (GOOD.replace("(1) ", ""), 0, ("tag_counts_differ",)),
        (f"<think>{GOOD}", 0, ("think_tag_written",)),
        (GOOD.replace("</think>", ""), 0, ("end_think_count",)),
        (GOOD.replace("</answer>", ""), -1, ("end_answer_count",)),
        (GOOD.replace("So it", "所以 it"), 0, ("cjk",)),
        (f"<think>所以{GOOD}".replace("(1) ", ""), 0, ("tag_counts_differ", "think_tag_written", "cjk")),  # once
        (GOOD.replace("I should", "The assistant should"), 1, ()),  # a rule of the base set only
        (GOOD.replace("> Paris <", "> Paris" + " x" * 20 + " <"), 2 / 22, ()),  # so is the length
    ],
)
def test_released_instruct_stage_2(text: str, reward: float, violations: tuple[str, ...]) -> None:
    scored = bare(text, "released-instruct", 2)
    assert scored.total == pytest.approx(reward)
    assert scored.violations == violations
    assert scored.components["format"] == (-1 if violations else 0)


def test_released_sets_pay_no_heed_to_provenance_or_carried_out_searches() -> None:
    for reward_set, stage in RELEASED:
        told = score(known(), "Paris", reward_set, stage, "f1", num_searches=0)
        assert told == bare(known().text, reward_set, stage)


# --- sets and stages


def test_released_base_has_no_stage_1() -> None:
    with pytest.raises(PipelineError, match="released-base has no stage 1"):
        bare(GOOD, "released-base", 1)


def test_unknown_set_or_stage() -> None:
    with pytest.raises(PipelineError, match=r"'paper' with a stage 3.*known: paper stage 1"):
        bare(GOOD, "paper", 3)
    with pytest.raises(PipelineError, match="no reward set 'released'"):
        bare(GOOD, "released", 2)


# --- any text at all

PIECES = [
    *grammar.TAGS,
    *("<|begin_of_documents|>\n", "<|end_of_documents|>\n\n", "<|begin_of_documents|>\n(1)", ASK, BLOCK, END, GOOD),
    *("<|endoftext|>", "Assistant", "assistant", "begin_of_query", "begin_of_documents", "中", "Paris", "yes", "True"),
    *(" ", "\n", " w" * 6),
]
ANY_TEXT = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
GOLDS = st.sampled_from(["Paris", "yes", "The", "paris endoftext"])


def second_reading(text: str, gold: str, reward_set: str, stage: int) -> float:
    """Recompute RECIPE's table as plainly as possible: the reward and nothing else."""
    text = re.sub(r"^(<\|endoftext\|>)+|(<\|endoftext\|>)+$", "", text) + "<|endoftext|>"
    seven = {text.count(tag) for tag in ("<|begin_of_query|>", "<|end_of_query|>")}
    for begin in ("<|begin_of_documents|>", "<|begin_of_documents|>\n", "<|begin_of_documents|>\n(1)"):
        seven.add(text.count(begin))
    seven |= {text.count(end) for end in ("<|end_of_documents|>", "<|end_of_documents|>\n\n")}
    even, none = len(seven) == 1, seven == {0}
    answer = text.split("<answer>")[-1].split("</answer>")[0].strip()
    answered = "<answer>" in text and "</answer>" in text
    thought = "<think>" not in text and text.count("</think>") == 1
    once = text.count("<answer>") == 1 and text.count("</answer>") == 1
    outside = re.sub(r"<\|begin_of_documents\|>.*?<\|end_of_documents\|>", "", text, flags=re.DOTALL)
    latin = not any(0x4E00 <= ord(char) <= 0x9FFF for char in outside)
    if (reward_set, stage) == ("released-instruct", 1):
        right = answered and metrics.cover_em(answer, gold) == 1
        return (1 if right else -1) + 0.5 * (even and not none) + 0.5 * (thought and once)
    f1 = metrics.f1(answer, gold) if answered else 0
    if reward_set == "released-instruct":
        return f1 - (not (even and thought and once and latin))
    plain = "begin_of_query" not in answer and "begin_of_documents" not in answer and len(answer.split()) <= 10
    return f1 - 2 * (not (even and thought and once and latin and plain and "ssistant" not in text))


@settings(max_examples=300)
@given(ANY_TEXT, GOLDS, st.sampled_from(RELEASED))
def test_released_sets_agree_with_a_second_reading(text: str, gold: str, key: tuple[str, int]) -> None:
    scored = bare(text, *key, gold=gold)
    assert scored.total == pytest.approx(second_reading(text, gold, *key), abs=1e-12)
    if key[1] == 2:
        assert bool(scored.violations) == (scored.components["format"] < 0)


@given(ANY_TEXT, GOLDS, st.sampled_from(sorted(BOUNDS)), st.sampled_from(["f1", "em", "cover_em"]))
def test_rewards_are_bounded_and_add_up(text: str, gold: str, key: tuple[str, int], metric: str) -> None:
    low, high = BOUNDS[key]
    for transcript in (Transcript(text), Transcript.of([Segment("policy", text)])):
        scored = score(transcript, gold, *key, metric)
        assert low <= scored.total <= high
        assert scored.total == pytest.approx(sum(parts(scored)))
        assert len(set(scored.violations)) == len(scored.violations)
        if not scored.violations:
            assert scored.components["format"] >= 0


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from([("paper", 1), ("paper", 2)]))
def test_documents_never_change_a_paper_reward(documents: str, key: tuple[str, int]) -> None:
    assert score(known(documents), "Paris", *key, "f1", num_searches=1) == score(
        known(), "Paris", *key, "f1", num_searches=1
    )
