"""Spans of a transcript in pieces, and citations."""

from __future__ import annotations

import io
import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.asking.asker import Asked
from r1_searcher.asking.citations import Search, citations
from r1_searcher.asking.spans import SpanSplitter
from r1_searcher.asking.terminal import TerminalPrinter
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage

WRITTEN = (
    f"I look. {grammar.QUERY} Grey Harbour{grammar.END_QUERY}\n\n{grammar.DOCUMENTS}\n(1) a < b\n"
    f"{grammar.END_DOCUMENTS}\n\nSo <b> it is{grammar.END_THINK}\n{grammar.ANSWER} Ida Moss {grammar.END_ANSWER}"
)
RUNS = [
    ("thought", "I look. "),
    ("query", " Grey Harbour"),
    ("thought", "\n\n"),
    ("documents", "\n(1) a < b\n"),
    ("thought", "\n\nSo <b> it is\n"),
    ("answer", " Ida Moss "),
]


def runs(pieces: list[str]) -> list[tuple[str, str]]:
    splitter = SpanSplitter()
    found = [span for piece in pieces for span in splitter.feed(piece)] + list(splitter.end())
    return [(kind, "".join(text for _, text in part)) for kind, part in itertools.groupby(found, lambda span: span[0])]


def test_a_whole_transcript() -> None:
    assert runs([WRITTEN]) == RUNS


@given(cuts=st.lists(st.integers(0, len(WRITTEN)), max_size=30))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WRITTEN)]
    assert runs([WRITTEN[a:b] for a, b in itertools.pairwise(places)]) == RUNS
    assert runs(list(WRITTEN)) == RUNS


@given(text=st.text("<|>/abegin_of query think answer\n", max_size=60))
def test_no_text_is_lost_but_tags(text: str) -> None:
    left = text
    for tag in grammar.TAGS:
        left = left.replace(tag, "")
    if not any(tag in left for tag in grammar.TAGS):  # a tag may come together of what was round another
        assert "".join(part for _, part in runs(list(text))) == left


def passage(name: str, text: str) -> Passage:
    return Passage(name, name, text, 1.0)


SEARCHES = (
    Search("film", (passage("Grey Harbour", "A film by Ida Moss."), passage("Moss", "Moss grows."))),
    Search("Ida", (passage("Ida Moss", "Born in 1894."), passage("Grey Harbour", "A film by Ida Moss."))),
)


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("Ida Moss", [(1, 1), (2, 1)]),  # Grey Harbour once
        ("the ida moss.", [(1, 1), (2, 1)]),
        ("Moss", [(1, 1), (1, 2), (2, 1)]),
        ("Mos", []),
        ("1894", [(2, 1)]),
        ("yes", []),
        ("", []),
        ("The", []),
        (None, []),
    ],
)
def test_where_an_answer_stands(answer: str | None, places: list[tuple[int, int]]) -> None:
    assert [(one.search, one.rank) for one in citations(answer, SEARCHES)] == places


def test_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    splitter, printer = SpanSplitter(), TerminalPrinter()
    for letter in WRITTEN.replace("Ida", "\x1b[31mIda"):
        for kind, text in splitter.feed(letter):
            printer(kind, text)
            if kind == "documents" and text.endswith("b\n"):
                printer.searched(["Grey Harbour", "x" * 60])
    printer._end_line()
    assert capsys.readouterr().out == ("I look.\nsearch: Grey Harbour\nSo <b> it is\nanswer: \\x1b[31mIda Moss\n")
    printer.searched(["Grey Harbour", "x" * 60])
    printer.searched([])
    assert capsys.readouterr().out == f"found:  (1) Grey Harbour · (2) {'x' * 39}…\nfound:  nothing\n"


def asked(answer: str | None, finish_reason: str, *searches: Search) -> Asked:
    rollouts = pa.table({"finish_reason": [finish_reason], "policy_logprobs": [[-0.5]]})
    return Asked("Who?", answer, searches, tuple(citations(answer, searches)), rollouts, 0.1, 0.2)


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (asked("Ida Moss", "answer", *SEARCHES), ["found in: [1.1] Grey Harbour, [2.1] Ida Moss"]),
        (asked("Ade", "answer", *SEARCHES), ["found word for word in none of the passages"]),
        (asked("yes", "answer", *SEARCHES), []),
        (asked("", "answer", *SEARCHES), ["the answer is empty"]),
        (
            asked(None, "turn_limit"),
            ["no answer: the policy wrote rollout.max_turn_tokens without a query or an answer"],
        ),
        (asked(None, "retriever_error", Search("x", (), "it is gone")), ["no answer: a search failed: it is gone"]),
        (asked(None, "tool_error"), ["no answer: the trajectory ended with tool_error"]),
    ],
)
def test_what_is_said_at_the_end(said: Asked, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    TerminalPrinter().end(said)
    *shown, last = capsys.readouterr().out.splitlines()
    number = len(said.searches)
    assert shown == lines
    assert last == f"{number} search{'es' * (number != 1)}, 1 token, first after 0.1 s, 0.2 s in all"


class ColourTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_kind_has_its_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = ColourTerminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.delenv("NO_COLOR", raising=False)
    printer = TerminalPrinter()
    printer("thought", "I look.")
    printer("query", "Grey Harbour")
    printer.searched(["Grey Harbour"])
    printer("answer", "Ida Moss")
    coloured = out.getvalue()
    for style, text in (("2", "I look."), ("36", "Grey Harbour"), ("1;32", "Ida Moss")):
        assert f"\x1b[{style}m{text}\x1b[0m" in coloured
    assert "\x1b[2;34mfound:  (1) Grey Harbour" in coloured
