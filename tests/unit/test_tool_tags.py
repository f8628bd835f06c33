"""The format's rules with tools beside search: a call of any tool obeys the rules of a query, and the tags of a tool
that was not chosen are text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.rewards.rules import rules_of, score
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY, Segment, Tags, Transcript

OPEN = Tags("open", "<|begin_of_open|>", "<|end_of_open|>")
SUMS = Tags("sums", "[sum]", "[/sum]")
END = f" So.{END_THINK}\n\n{ANSWER} Paris {END_ANSWER}"
ASK = f"{QUERY} capital France {END_QUERY}"
CALL = f"{OPEN.begin} 1{OPEN.end}"
BLOCK = grammar.render_documents(["Paris is the capital."])


def written(text: str, *tools: Tags) -> Transcript:
    """Return search and open in turns, then ``text``, by the policy."""
    parts = [("policy", f"Hm. {ASK}"), ("document", BLOCK), ("policy", f"More. {CALL}"), ("document", BLOCK)]
    return Transcript.of((Segment(*part) for part in (*parts, ("policy", text))), tools)


def bare(transcript: Transcript) -> Transcript:
    return Transcript(transcript.text, tools=transcript.tools)


@pytest.mark.parametrize("tools", [(OPEN,), (OPEN, SUMS), (SUMS, OPEN)])
def test_calls_of_each_tool_are_of_the_right_format(tools: tuple[Tags, ...]) -> None:
    transcript = written(END, *tools)
    assert grammar.format_violations(transcript) == grammar.format_violations(bare(transcript)) == ()
    for name, stage in (("paper", 2), ("released-base", 2), ("released-instruct", 1), ("released-instruct", 2)):
        scored = score(transcript, "Paris", name, stage, "f1", num_searches=1)
        assert scored.violations == () and scored.components["answer"] == 1, (name, stage)


BROKEN = {
    f"{OPEN.begin} 1": ("open_not_closed",),
    f"1{OPEN.end}": ("open_not_closed",),
    f"{OPEN.begin}{CALL}": ("open_not_closed",),
    f"{OPEN.end}{OPEN.begin}": ("open_not_closed",),
    f"{OPEN.begin} {ASK}{OPEN.end}": ("open_not_closed",),
    f"{QUERY} {CALL}{END_QUERY}": ("query_not_closed",),
    f"{QUERY} {OPEN.begin} 1{END_QUERY}": ("query_not_closed", "open_not_closed"),
    f"{OPEN.begin} {SUMS.begin} 1{SUMS.end}{OPEN.end}": ("open_not_closed",),
    f"{OPEN.begin} 1{SUMS.end}{SUMS.begin}{OPEN.end}": ("open_not_closed", "sums_not_closed"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_not_closed_or_stands_in_another_call(text: str) -> None:
    assert grammar.format_violations(written(f"{text}{END}", OPEN, SUMS)) == BROKEN[text]
    penalty = score(written(f"{text}{END}", OPEN, SUMS), "Paris", "paper", 2, "f1", num_searches=1)
    assert penalty.components["format"] == -2


def test_no_tag_of_a_tool_in_the_answer() -> None:
    transcript = written(END.replace("Paris", f"Paris {CALL}"), OPEN)
    assert grammar.format_violations(transcript) == ("tag_in_answer",)
    assert score(transcript, "Paris", "released-base", 2, "f1").violations == ("tag_counts_differ", "tag_in_answer")
    assert "tag_in_answer" not in grammar.format_violations(Transcript(transcript.text))


def test_the_counts_of_a_bare_transcript() -> None:
    """One surplus tag of a tool does not make up for a missing one of the search."""
    text = written(f"{QUERY}{OPEN.end}{BLOCK}{END}").text
    assert len(set(grammar.seven_counts(text, [OPEN]))) == 1 and grammar.tag_counts_differ(text, [OPEN])
    assert len(set(grammar.seven_counts(written(END).text))) > 1
    assert set(grammar.seven_counts(written(END).text, [OPEN])) == {2}


PIECES = [QUERY, END_QUERY, ASK, OPEN.begin, OPEN.end, CALL, "words ", "(1)", "<|", END_THINK, ANSWER]
RULES = [(rules_of(name, "f1"), stage) for name, stage in (("paper", 1), ("paper", 2), ("released-base", 2))]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


def closed(text: str, tools: tuple[Tags, ...]) -> bool:
    """A second implementation: calls are removed from left to right; no tag may be left in them or elsewhere."""
    tags = [tag for pair in ((QUERY, END_QUERY), *((one.begin, one.end) for one in tools)) for tag in pair]
    while True:
        first = min((text.find(tag), tag) for tag in tags if tag in text) if any(map(text.count, tags)) else None
        if first is None:
            return True
        place, tag = first
        if tags.index(tag) % 2:
            return False
        request, found, text = text[place + len(tag) :].partition(tags[tags.index(tag) + 1])
        if not found or any(one in request for one in tags):
            return False


@given(TEXTS, st.sampled_from([(), (OPEN,), (OPEN, SUMS)]))
def test_whatever_is_written_is_closed_as_another_reading_says(text: str, tools: tuple[Tags, ...]) -> None:
    broken = grammar.format_violations(Transcript.of([Segment("policy", text)], tools))
    assert any(name.endswith("_not_closed") for name in broken) != closed(text, tools)


@given(TEXTS)
def test_tags_of_a_tool_that_was_not_chosen_are_text(text: str) -> None:
    """They change no rule and no reward, like any other words in their place."""
    other = text.replace(OPEN.begin, "[a]").replace(OPEN.end, "[b]")
    for rules, stage in RULES:
        scored = [rules.score(written(f"{one}{END}", SUMS), "Paris", stage, num_searches=1) for one in (text, other)]
        assert scored[0] == scored[1]
