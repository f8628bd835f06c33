"""The chat page of ``r1-searcher serve`` in a real browser: streams, folds, keys, hostile text, token, axe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from policy_servers import served
from report_runs import HOSTILE
from tiny_policy import ScriptedEngine, rollout_params

from r1_searcher.serving.answerer import Answerer
from r1_searcher.serving.server import ServeSettings
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage

_Axe = Callable[[Page], list[tuple[str, list[str]]]]
TOKEN = "a-token-of-24-characters"
KNOWN, SILENT, HOSTILE_QUESTION = "Who made it?", "Who is silent?", "Who is <img src=x onerror=alert(1)>?"


class Found:
    """Finds the same two passages; may be held."""

    fingerprint = "found"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        assert self.open.wait(20)
        passages = [Passage("1", f"Ada {HOSTILE}", f"Ada Kolm made it. {HOSTILE}", 2.0), Passage("2", "", "None.", 1.0)]
        return [passages for _ in queries]


def script(answer: str) -> str:
    return (
        f"I {HOSTILE} look. {grammar.QUERY} maker{grammar.END_QUERY}So it is.{grammar.END_THINK}\n"
        f"{grammar.ANSWER} {answer} {grammar.END_ANSWER}"
    )


SCRIPTS = {
    KNOWN: script("Ada Kolm"),
    SILENT: f"Nothing.{grammar.END_ANSWER}",
    HOSTILE_QUESTION: script("<b>bold</b>"),
    "Who\nis it?": script("Ada Kolm"),
}


@pytest.fixture(scope="module")
def found() -> Found:
    return Found()


def answerer(found: Found) -> Answerer:
    room = rollout_params(max_total_tokens=4000, max_turn_tokens=2000, max_passage_tokens=1000)
    return Answerer(ScriptedEngine(SCRIPTS), found, room)


@pytest.fixture(scope="module")
def address(found: Found) -> Iterator[str]:
    with served(answerer(found), ServeSettings(tries=(KNOWN,))) as url:
        yield url


@pytest.fixture
def page(driven: Browser, address: str) -> Iterator[Page]:
    """The page; nothing may go wrong in it, or be fetched elsewhere."""
    made = driven.new_page()
    wrong: list[str] = []
    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    made.on("console", lambda message: wrong.append(message.text))
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("dialog", refuse)
    made.on("request", lambda request: asked.append(request.url))
    made.goto(address)
    yield made
    made.close()
    assert wrong == [] and all(url.startswith(address) for url in asked)


def test_a_question_is_answered_folded_and_cited(page: Page) -> None:
    page.get_by_role("button", name=KNOWN).click()
    card = page.locator("article")
    expect(card.locator(".answer")).to_have_text("Ada Kolm")
    expect(card.locator("summary").first).to_have_text("thoughts and 1 search")
    expect(card.locator(".query")).to_be_hidden()
    expect(card.locator("ul li")).to_have_text(f"[1.1] Ada {HOSTILE}")
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    card.locator("summary").first.press("Enter")
    expect(card.locator(".query")).to_have_text("search: maker")
    card.get_by_text("search 1: 2 passages").click()
    expect(card.locator("ol li").first).to_contain_text("Ada Kolm made it.")
    assert [text.strip() for text in card.locator(".thought").all_text_contents()] == card.locator(
        ".thought"
    ).all_text_contents()
    expect(page.locator("#tries")).to_be_hidden()


def test_keys(page: Page, found: Found) -> None:
    field = page.get_by_label("Question", exact=True)
    field.press_sequentially("Who")
    field.press("Shift+Enter")
    field.press_sequentially("is it?")
    field.press("Enter")
    expect(page.locator("article h2")).to_have_text("Who\nis it?")
    expect(page.locator("article .answer")).to_have_text("Ada Kolm")
    found.open.clear()
    try:
        field.fill(KNOWN)
        field.press("Enter")
        expect(page.locator("article").nth(1).locator(".query")).to_have_text("search: maker")
        expect(page.get_by_role("button", name="Ask")).to_be_disabled()
        page.keyboard.press("Escape")
        expect(page.locator("article").nth(1).locator(".wrong")).to_have_text("stopped")
    finally:
        found.open.set()
    field.fill(SILENT)
    field.press("Enter")
    expect(page.locator("article").nth(2).locator(".wrong")).to_have_text("no answer: answer")


def test_no_text_becomes_markup(page: Page) -> None:
    page.get_by_label("Question", exact=True).fill(HOSTILE_QUESTION)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_have_text("<b>bold</b>")
    expect(page.locator("article h2")).to_have_text(HOSTILE_QUESTION)
    assert page.locator("article :is(b, img, script, svg, iframe, a, style)").count() == 0


def test_a_server_with_a_token_asks_for_it(driven: Browser, found: Found) -> None:
    with served(answerer(found), ServeSettings(token=TOKEN)) as url:
        page = driven.new_page()
        page.goto(url)
        field = page.get_by_label("Question", exact=True)
        field.fill(KNOWN)
        field.press("Enter")
        expect(page.locator(".wrong")).to_contain_text("a token is needed")
        page.get_by_label("Token of this server").fill(TOKEN)
        field.fill(KNOWN)
        field.press("Enter")
        expect(page.locator(".answer").nth(1)).to_have_text("Ada Kolm")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(driven: Browser, address: str, axe: _Axe, scheme: str) -> None:
    context = driven.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name=KNOWN).click()
    expect(page.locator(".answer")).to_have_text("Ada Kolm")
    for fold in page.locator("summary").all():
        fold.click()
    assert axe(page) == []
    context.close()
