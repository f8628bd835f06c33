"""Foreign text on terminals and pages: nothing of a hostile set acts, whoever shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from r1_searcher.errors import PipelineError, command
from r1_searcher.evaluation import ask_judge as judging
from r1_searcher.evaluation import score, summary_commands
from r1_searcher.regression import page
from r1_searcher.regression.code import Changed, CodeResult
from r1_searcher.rewards import files
from r1_searcher.shown import JOINER, code_span, fenced, json_text, markdown, printable, show, show_lines, visible
from r1_searcher.statistics import verdict_page
from r1_searcher.statistics.comparison import Compared, Comparison, Finding, Flip
from r1_searcher.statistics.verdict import Change, Rule

HOSTILE = (
    "\n\n![t](http://evil.example/t.png)\n[sign in](javascript:alert(1))\x1b]0;owned\x07",
    "\x1b[2J\x1b[31mred\x9b2J\x7f\x00",
    "\u202ereversed\u202c \u2066isolated\u2069 \u061c\u200e\u200f\u2028\u2029\u200b\ufeff\U000e0041",
    "https://evil.example/a?b=c www.evil.example ftp://evil.example HTTP://EVIL.EXAMPLE",
    "@torvalds and @org/team #1 owner/name#12 GH-7 a@evil.example mailto:a@evil.example",
    "<script>alert(1)</script><img src=x onerror=alert(1)> <https://evil.example> &lt;b&gt; &#60;b&#62;",
    "a | b || c \\| d \\\\| e \\",
    "`code` ``two`` *em* **strong** _em_ __strong__ ~~gone~~ ~sub~ $x^2$ a_b_c _ __",
    "# heading", "- item", "+ item", "* item", "1. item", "12) item", "> quote", "---", "===", "***", "    indented",
    "```\nblock\n```\n````", "[x]: http://evil.example", "[^1]: note", "</summary></details><h1>", "\r\rover", "\t", "",
    ": x", "|", "`", "``", "a\u00a0b\u3000c", "é 中 😀",
)  # fmt: skip
LINKED = re.compile(r"(?i)://|www\.|@\w|#\w|\bGH-\d")
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SOME = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.text(alphabet="\\`*_[]|~#<>&;:/.@-+=!()1w \n\x1b\u202e", max_size=30),
)


def one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def written(text: str) -> list[str]:
    """Return the plain texts of a page's inline parts; anything else fails."""
    found = []
    for token in READER.parse(text):
        assert token.type not in ("html_block", "fence", "code_block", "hr", "bullet_list_open", "ordered_list_open")
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.content
            found.append("".join(child.content for child in token.children or []))
    return found


@given(SOME)
def test_a_text_in_markdown_is_that_text_and_nothing_else(text: str) -> None:
    shown, line = markdown(text, longest=None), one_line(text)
    paragraphs = written(f"{shown}\n\nend")
    cells = written(f"| a | b |\n|---|---|\n| {shown} | x |\n\nend")
    assert [said.replace(JOINER, "") for said in paragraphs] == [line, "end"][not line :]
    assert [said.replace(JOINER, "") for said in cells] == ["a", "b", line, "x", "end"]
    assert not any(LINKED.search(said) for said in paragraphs + cells)


@pytest.mark.parametrize("name", ["held_out", "2wiki_qwen", "evaluations/my-policy", "comparison", "a b (c), d: 5 %"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert markdown(name) == printable(name) == visible(name) == name
    assert code_span(name) == f"`{name}`"


def test_long_texts_are_cut_before_they_are_escaped() -> None:
    assert markdown("*" * 300) == "\\*" * 99 + "…"
    assert markdown("*" * 300, longest=None) == "\\*" * 300


@given(SOME)
def test_code_stays_code(text: str) -> None:
    (inline,) = [token for token in READER.parse(f"A is {code_span(text, longest=None)}, B.") if token.type == "inline"]
    before, code, after = inline.children or []
    assert (before.content, code.type, after.content) == ("A is ", "code_inline", ", B.")
    assert code.content.strip() == one_line(text).strip()


@given(SOME)
def test_lines_stay_in_their_block(text: str) -> None:
    tokens = READER.parse(f"### title\n\n{fenced(text)}\n\nend")
    assert [token.type for token in tokens if token.type in ("fence", "inline")] == ["inline", "fence", "inline"]
    assert all(one.isprintable() or one in "\n\t\u00a0\u3000" for one in tokens[3].content if one.strip())


@given(SOME)
def test_printed_json_is_the_same_json(text: str) -> None:
    shown = json_text({text: [text, 1.5, None]})
    assert json.loads(shown) == {text: [text, 1.5, None]}
    assert all(one.isprintable() or one == "\n" for one in shown)
    assert json_text("é 中") == '"é 中"'


@given(SOME)
def test_nothing_acts_on_an_html_page(text: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", visible(text))


# --- whoever shows it


def comparison(text: str) -> Comparison:
    change = Change(-0.1, -0.2, -0.05, "worse", None)
    flip = Flip(text, text, [text], text, None, ["em"], [])
    finding = Finding("em", 0.9, 0.8, 5, 1, change)
    parts = [Compared(text, 9, [finding], [flip], [f"prompt: {text}, b"], identical) for identical in (True, False)]
    return Comparison((text, text), "worse", Rule(0.02, 0.95, 0.8), parts)


def code_result(text: str) -> CodeResult:
    changed = [Changed(text, text, text, text)]
    return CodeResult({"instructions": text}, {"instructions": text}, 9, changed, 0, comparison(text))


FIGURES = {"n": 3, "em": 0.5, "em_ci": [0.4, 0.6]}
RATES = ("em", "f1", "cover_em", "cover_em_contiguous", "searches_per_question")
SCORES = {"n": 1, "judge_true": None, **dict.fromkeys(RATES, 1.0)}
PAGES: dict[str, Callable[[str], str]] = {
    "verdict": lambda text: verdict_page.page(comparison(text)),
    "no verdict": lambda text: verdict_page.no_verdict("Code gate", "refused", text.strip() or "why"),
    "code gate": lambda text: page.code_markdown(code_result(text)),
}
TERMINALS: dict[str, Callable[[str], str]] = {
    "verdict": lambda text: verdict_page.lines(comparison(text)),
    "code gate": lambda text: page.code_lines(code_result(text)),
    "no verdict": lambda text: page.unasked_line("Code gate", "error", text),
    "summary": lambda text: summary_commands.text_table({text: {text: FIGURES}}),
    "judged": lambda text: judging.text_table({text: {"n": 3}}),
    "scores": lambda text: score.table({text: SCORES}),
    "rewards": lambda text: files.summary({text: [{"reward": 1.0, "violations": []}]}),
    "an error": lambda text: str(PipelineError(text, where=text, fix=text)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_shows_hostile_text_as_text(name: str, text: str) -> None:
    def skeleton(said: str) -> list[tuple[str, list[str]]]:
        tokens = READER.parse(said)
        return [
            (token.type, [child.type for child in token.children or [] if not child.type.startswith("text")])
            for token in tokens
        ]

    said = PAGES[name](text)
    assert skeleton(said) == skeleton(PAGES[name]("a name")), "the page's form is not the text's business"
    for token in READER.parse(said):
        plain = [child.content for child in token.children or [] if child.type.startswith("text")]
        assert not LINKED.search("".join(plain))
    assert all(one.isprintable() or one in f"\n{JOINER}" for one in said)


@pytest.mark.parametrize("name", TERMINALS)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_shows_hostile_text_as_text(name: str, text: str) -> None:
    said = TERMINALS[name](text)
    assert all(one.isprintable() or one in "\n\u00a0\u3000" for one in said)
    assert said.count("\n") == TERMINALS[name]("a name").count("\n")


def test_what_is_printed_is_one_line_or_keeps_its_lines_and_does_not_act(capsys: pytest.CaptureFixture[str]) -> None:
    show("one\n\x1b]0;owned\x07\u202ethree")
    assert capsys.readouterr().out == "one\\n\\x1b]0;owned\\x07\\u202ethree\n"
    show_lines("one\ttwo\n\r\u202ethree")
    assert capsys.readouterr().out == "one     two\n\\r\\u202ethree\n"


def test_a_full_disk_names_a_hostile_path_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise OSError(28, "No space left on device", "out/\x1b[2J\nerror: none")

    assert command(fails)() == 2
    assert capsys.readouterr().err.startswith("error: out/\\x1b[2J\\nerror: none: the disk is full")
