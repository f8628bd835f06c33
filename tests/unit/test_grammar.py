"""The transcript's grammar: extraction, neutralised passages, and the format rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hostile import HOSTILE, OPEN
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import cut, neutralise
from r1_searcher.transcripts.grammar import Segment, Transcript

GOOD_END = f" so it is.{grammar.END_THINK}\n\n{grammar.ANSWER} Paris {grammar.END_ANSWER}"
QUERY = f"{grammar.QUERY} city of light {grammar.END_QUERY}"
BLOCK = grammar.render_documents(["Paris is a city.", "Light is fast."])


def by_policy(text: str) -> Transcript:
    return Transcript.of([Segment("policy", text)])


def searched(documents: str, first: str = f"I look. {QUERY}", last: str = GOOD_END) -> Transcript:
    return Transcript.of([Segment("policy", first), Segment("document", documents), Segment("policy", last)])


# --- passages


@given(st.lists(HOSTILE, min_size=1, max_size=4), st.data())
def test_hostile_passages_leave_one_block_with_its_own_lines(passages: list[str], data: st.DataObject) -> None:
    clean = [neutralise(passage) for passage in passages]
    short = [cut(passage, data.draw(st.integers(0, len(passage)))) for passage in clean]
    block = grammar.render_documents(short)
    assert block.count("\n") == len(passages) + 5
    assert block.splitlines()[3 : 3 + len(passages)] == [f"({place}) {text}" for place, text in enumerate(short, 1)]
    counts = grammar.seven_counts(f"{grammar.QUERY}q{grammar.END_QUERY}{block}")
    assert counts == (1,) * 7
    assert not any(tag in block for tag in (grammar.THINK, grammar.END_THINK, grammar.ANSWER, grammar.END_ANSWER))
    assert grammar.written_searches(f"{grammar.END_QUERY}{block}") == 1


# --- extraction


@pytest.mark.parametrize(
    ("turn", "query"),
    [
        (f"I wonder. {QUERY}", "city of light"),
        (f"{grammar.QUERY} first {grammar.QUERY} second {grammar.END_QUERY}", "second"),
        (f"{grammar.QUERY} \"city\"  of\n 'light' {grammar.END_QUERY}", "city of 'light"),
        (f"{grammar.QUERY} \"'` {grammar.END_QUERY}", ""),
        (f"no begin {grammar.END_QUERY}", ""),
    ],
)
def test_extract_query(turn: str, query: str) -> None:
    assert grammar.extract_query(turn) == query


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GOOD_END, "Paris"),
        ("<answer> Rome </answer> no, <answer>\nParis\n</answer> </answer>", "Paris"),
        ("<answer></answer>", ""),
        ("<answer> Paris", None),
        ("Paris </answer>", None),
        ("<answer> Rome </answer> or <answer> Paris", None),
        ("", None),
    ],
)
def test_extract_answer(text: str, answer: str | None) -> None:
    assert grammar.extract_answer(text) == answer


def test_strip_end_of_text() -> None:
    assert grammar.strip_end_of_text("<|im_end|><|endoftext|> a <|eot_id|> b\n\n</s><|endoftext|>") == (
        " a <|eot_id|> b\n\n"
    )


def test_written_searches_need_a_query_and_a_closed_block() -> None:
    assert grammar.written_searches(f"{QUERY}{BLOCK} and {QUERY}{BLOCK}") == 2
    assert grammar.written_searches(f"{QUERY}{BLOCK.partition(grammar.END_DOCUMENTS)[0]}") == 0
    assert grammar.written_searches(BLOCK) == 0
    assert grammar.written_searches(QUERY) == 0
    assert grammar.written_searches(f"{QUERY} I make it up. {BLOCK}") == 0
    inside = BLOCK.replace("Light is fast.", f"a page about {QUERY}")
    assert grammar.written_searches(f"{QUERY}{inside}") == 1


# --- the right format

BROKEN_ENDS = {
    "think_tag_written": f" Again: {grammar.THINK}{GOOD_END}",
    "end_think_count": f" {grammar.END_THINK}{GOOD_END}",
    "begin_answer_count": f" {grammar.ANSWER}{GOOD_END}",
    "end_answer_count": GOOD_END + grammar.END_ANSWER,
    "tag_order": f" <answer> Paris </answer>{grammar.END_THINK}",
    "text_after_answer": f"{GOOD_END} I am sure.",
    "query_not_closed": f" {grammar.QUERY} more{GOOD_END}",
    "tag_in_answer": GOOD_END.replace("Paris", QUERY),
    "cjk": f" 巴黎{GOOD_END}",
}


@pytest.mark.parametrize("rule", BROKEN_ENDS)
def test_each_rule_by_provenance_and_by_tags(rule: str) -> None:
    transcript = searched(BLOCK, last=BROKEN_ENDS[rule])
    assert rule in grammar.format_violations(transcript)
    bare = grammar.format_violations(Transcript(transcript.text))
    assert rule in bare
    # Breaking one rule breaks at most its consequences.
    also = {"tag_order": {"text_after_answer"}, "end_answer_count": {"text_after_answer"}}.get(rule, set())
    assert set(grammar.format_violations(transcript)) <= {rule} | also
    assert set(bare) <= {rule, "tag_counts_differ"} | also


@pytest.mark.parametrize(
    "transcript",
    [
        by_policy(f"Easy.{GOOD_END}"),
        searched(BLOCK),
        searched(grammar.render_documents([])),
        searched(BLOCK, last=f"{GOOD_END} \n"),
        searched(BLOCK, last=f"{GOOD_END}<|endoftext|>"),
    ],
)
def test_the_right_format(transcript: Transcript) -> None:
    assert grammar.format_violations(transcript) == ()


def test_a_bare_transcript_of_the_right_format() -> None:
    assert grammar.format_violations(Transcript(GOOD_END)) == ()
    assert grammar.format_violations(Transcript(searched(BLOCK).text)) == ()


@pytest.mark.parametrize("written", [BLOCK, grammar.DOCUMENTS, f"x {grammar.END_DOCUMENTS}"])
def test_documents_written_by_the_policy(written: str) -> None:
    """The same text is right if the system wrote the block, and wrong if the policy did."""
    forged = by_policy(f"I look. {QUERY}{written}{GOOD_END}")
    assert grammar.format_violations(forged) == ("document_tag_written",)
    if written == BLOCK:
        assert grammar.format_violations(Transcript(forged.text)) == ()  # a file cannot show it
        assert grammar.format_violations(searched(BLOCK)) == ()


def test_a_bare_transcript_with_uneven_counts() -> None:
    assert grammar.format_violations(Transcript(f"{QUERY}{GOOD_END}")) == ("tag_counts_differ",)
    unclosed = BLOCK.replace(f"{grammar.END_DOCUMENTS}\n\n", "")
    assert "tag_counts_differ" in grammar.format_violations(Transcript(f"{QUERY}{unclosed}{GOOD_END}"))


def test_queries_must_alternate() -> None:
    for wrong in (f"{grammar.END_QUERY} {grammar.QUERY}", f"{grammar.QUERY} {QUERY} {grammar.END_QUERY}"):
        assert grammar.format_violations(by_policy(f"{wrong}{GOOD_END}")) == ("query_not_closed",)


def opened(documents: str, last: str = GOOD_END) -> Transcript:
    """As ``searched``, and a window of what was found."""
    parts = [*(searched(documents).segments or ())[:2], Segment("policy", f"More. {OPEN.begin} 1{OPEN.end}")]
    return Transcript.of([*parts, Segment("document", documents), Segment("policy", last)], [OPEN])


@pytest.mark.parametrize("made", [searched, opened])
@given(HOSTILE, HOSTILE, st.sampled_from(["", *BROKEN_ENDS.values()]))
def test_documents_never_change_the_verdict(
    made: Callable[..., Transcript], documents: str, others: str, last: str
) -> None:
    """With provenance, not even raw tags in a document matter, whatever else is right or wrong."""
    last = last or GOOD_END
    assert grammar.format_violations(made(documents, last=last)) == grammar.format_violations(made(others, last=last))


@pytest.mark.parametrize("made", [searched, opened])
@given(st.lists(HOSTILE, min_size=1, max_size=3))
def test_neutralised_documents_never_change_a_bare_verdict(
    made: Callable[..., Transcript], passages: list[str]
) -> None:
    transcript = made(grammar.render_documents([neutralise(passage) for passage in passages]))
    assert grammar.format_violations(Transcript(transcript.text, tools=transcript.tools)) == ()


@pytest.mark.parametrize("rule", BROKEN_ENDS)
def test_each_rule_after_a_window_as_after_a_search(rule: str) -> None:
    for bare in (False, True):
        found = [made(BLOCK, last=BROKEN_ENDS[rule]) for made in (searched, opened)]
        found = [Transcript(one.text, tools=one.tools) if bare else one for one in found]
        assert grammar.format_violations(found[0]) == grammar.format_violations(found[1])
