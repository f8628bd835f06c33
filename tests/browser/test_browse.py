"""`browse` in a real browser: each view, each key, links, hostile text, accessibility."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import browsing_runs as runs
import pytest
from playwright.sync_api import Browser, Page, expect
from report_runs import HOSTILE

from r1_searcher.browsing.folders import Folders
from r1_searcher.browsing.index import TrajectoryIndex
from r1_searcher.browsing.server import PageSettings, make_app
from r1_searcher.browsing.tokens import Tokenizers
from r1_searcher.retrieval.service import server

_Axe = Callable[[Page], list[tuple[str, list[str]]]]
TOKEN = "a-token"
ODD = f"{HOSTILE}</textarea></script><style>*{{display:none}}</style>\x00\x07\u2066 long{'g' * 2000}"


@contextlib.contextmanager
def served(root: Path, price: float | None = None) -> Iterator[str]:
    """Serve a folder; yields the address with the token."""
    index = TrajectoryIndex(Folders([root]))
    with server.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        app = make_app(index, Tokenizers([root]), PageSettings(TOKEN, ("127.0.0.1",), price))
        running = server.make_server(app, server.Settings(grace=1.0))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.should_exit = True
            thread.join()
            index.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with hostile text in every field."""
    root = runs.make(tmp_path_factory.mktemp("browse") / "mine")
    rows = [runs.rollout(number, 0, "Tarn", ODD) for number in range(2)]
    for number, row in enumerate(rows):
        turn = {"tool": ODD, "query": ODD, "passage_ids": [ODD], "scores": [1.0], "error": ODD if number else None}
        row |= {"question_id": ODD, "question": ODD, "answers": [ODD], "answer": ODD, "finish_reason": ODD}
        row |= {"turns": [turn], "trajectory_id": f"{ODD}#{number}"}
        row["segments"][1]["text"] = row["segments"][1]["text"].replace("Ora Vell", ODD)
    runs.iteration(root / "data/train/s3-00", 0, rows)
    return root


@pytest.fixture(scope="module")
def base(root: Path) -> Iterator[str]:
    with served(root, price=2.0) as address:
        yield address


@pytest.fixture
def page(driven: Browser, base: str) -> Iterator[Page]:
    """Return an empty page whose browser has shown the token; nothing may go wrong in it, or be fetched elsewhere."""
    context = driven.new_context(viewport={"width": 1300, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{base}/?token={TOKEN}")
    expect(page.locator("tbody tr").first).to_be_visible()
    yield page
    context.close()
    assert faults == []
    assert [url for url in asked if not url.startswith((base, "blob:", "file:"))] == []


def lines(page: Page, number: int) -> None:
    expect(page.locator("tbody tr")).to_have_count(number)


def test_filters_sorting_and_search_are_in_the_address(page: Page, base: str) -> None:
    expect(page).to_have_url(f"{base}/")  # the token is gone
    lines(page, 44)
    page.get_by_label("s2-00 18").check()
    lines(page, 18)
    page.get_by_role("link", name="reward").click()
    expect(page.locator("tbody tr").first).to_contain_text("✓ Tarn")
    page.get_by_label("reward, at most").fill("0")
    page.keyboard.press("Enter")
    lines(page, 9)
    expect(page.get_by_role("status").filter(has_text="trajectories")).to_contain_text("9 of 44 trajectories")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type('"film 1"')
    page.keyboard.press("Enter")
    lines(page, 3)
    link = page.url
    page.go_back()
    lines(page, 9)
    page.goto(link)
    lines(page, 3)
    expect(page.get_by_label("s2-00")).to_be_checked()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("reward ↓")
    page.get_by_role("link", name="Clear all filters").click()
    lines(page, 44)


def test_a_figure_that_is_sorted_by_or_bounded_has_a_column(page: Page, base: str) -> None:
    expect(page.get_by_role("columnheader", name="Cover-EM")).to_have_count(0)
    page.get_by_text("more figures").click()
    page.get_by_role("link", name="Cover-EM").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Cover-EM ↓")
    page.goto(f"{base}/?policy=s1-00&max_answer_reward=0")
    lines(page, 9)
    expect(page.get_by_role("columnheader", name="answer (reward)")).to_be_visible()


def test_the_keyboard_reaches_every_trajectory(page: Page) -> None:
    for key, selected in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(page.locator("tbody tr").nth(selected)).to_have_class("selected")
    page.keyboard.press("Enter")
    expect(page.locator(".transcript")).to_be_visible()
    first = page.url
    page.keyboard.press("ArrowRight")
    expect(page.locator(".path span")).to_have_text("2")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(first)
    expect(page.locator(".path span")).to_have_text("1")
    page.keyboard.press(".")
    expect(page.locator(".inspector")).to_contain_text("log-probability -0.5 · probability 0.607 · advantage +1.5")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next, previous")
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("Escape")
    lines(page, 44)
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Curves")).to_be_visible()


def test_a_trajectory_shows_who_wrote_what_scores_and_rules(page: Page, base: str) -> None:
    page.goto(f"{base}/?policy=s2-00&rule=end_answer_count")
    page.locator("tbody a").first.click()
    parts = page.locator(".part")
    expect(parts).to_have_count(4)
    assert [one.get_attribute("class") for one in parts.all()] == [
        f"part {one}" for one in ("prompt", "policy", "document", "policy")
    ]
    search = page.locator(".part.document")
    expect(search.locator("q")).to_have_text("Ora Vell")
    expect(search.locator(".score").first).to_contain_text("score 6.5 · w7")
    expect(search.locator("mark")).to_have_text("Tarn")
    expect(page.get_by_role("region", name="Rules")).to_contain_text("<answer> must occur exactly once")
    expect(page.get_by_role("region", name="Reward")).to_contain_text("style0.25")
    page.locator(".policy .token").nth(3).hover()
    expect(page.locator(".inspector")).to_contain_text("log-probability -0.5")
    page.get_by_label("log-probability").check()
    expect(page.locator(".transcript")).to_have_class("transcript by-logprob")
    assert "colour=logprob" in page.url


def test_a_question_through_all_iterations_and_two_side_by_side(page: Page, base: str) -> None:
    page.goto(f"{base}/?policy=s1-00")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="this question in all iterations").click()
    lines(page, 14)
    expect(page.locator("circle.dot")).to_have_count(12)
    page.get_by_role("link", name="compare the first with the last").click()
    articles = page.get_by_role("article")
    expect(articles).to_have_count(2)
    expect(articles.nth(0).get_by_role("heading").first).to_have_text("s1-00, iteration 1, sample 0")
    expect(articles.nth(1).get_by_role("heading").first).to_have_text("stage2 on held_out")
    page.get_by_label("left trajectory").select_option(label="base on held_out: Bel")
    expect(articles.nth(0).get_by_role("heading").first).to_have_text("base on held_out")
    page.get_by_role("link", name="swap sides").click()
    expect(articles.nth(1).get_by_role("heading").first).to_have_text("base on held_out")


def test_curves_with_validation_sentinels_and_cost(page: Page, base: str) -> None:
    page.goto(f"{base}/?view=curves")
    expect(page.locator(".state")).to_have_text("training")
    expect(page.locator(".tiles")).to_contain_text("2 / 4")
    expect(page.locator(".tiles")).to_contain_text("cost 0.01")
    expect(page.locator(".sentinels")).to_contain_text("collapse guard: fine")
    expect(page.get_by_role("img", name=re.compile("^Reward: last"))).to_be_visible()
    expect(page.locator("circle.point")).to_have_count(2)
    reward = page.locator("figure.chart").filter(has_text="Reward")
    expect(reward.locator("polyline")).to_have_count(2)  # one per segment: no line crosses into the next
    speed = page.locator("figure.chart").filter(has_text="Tokens per second (rollout)")
    expect(speed.locator("text").last).to_have_text("iteration 4")  # counted over all segments, as in the file


def test_the_table_fits_a_small_laptop(page: Page, base: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{base}/?policy=s1-00")
    lines(page, 18)
    wide = page.locator(".scroll").evaluate("box => box.scrollWidth - box.clientWidth")
    assert wide == 0
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="Curves")).to_be_visible()
    page.keyboard.press("Escape")
    lines(page, 18)


def test_the_page_follows_training(driven: Browser, tmp_path: Path) -> None:
    root = tmp_path / "run"
    runs.iteration(root / "data/train/s1-00", 0, [runs.rollout(0, 0, "Tarn")])
    runs.curve(root / "plots/live/s1-00.csv", "s1-00", 1, 1)
    with served(root) as base:
        page = driven.new_page()
        page.goto(f"{base}/?token={TOKEN}")
        lines(page, 1)
        runs.iteration(root / "data/train/s1-00", 1, [runs.rollout(0, 0, "Tarn")])
        (root / "data/train/s1-00/rollouts/0002.parquet").write_bytes(b"PAR1 half")
        expect(page.locator("tbody tr")).to_have_count(2, timeout=20_000)
        expect(page.locator("#notes")).to_contain_text("1 file is not shown")
        page.close()


def test_a_validation_has_its_place_and_no_advantage(driven: Browser, tmp_path: Path) -> None:
    root = tmp_path / "run"
    runs.validation(root / ".store", "s1-00", 1, [runs.rollout(0, 0, "Bel")])
    runs.tokenizer().save(str(root / "tokenizer.json"))
    with served(root) as base:
        page = driven.new_page()
        page.goto(f"{base}/?token={TOKEN}&view=list")
        expect(page.locator("tbody td.from")).to_contain_text("s1-00, validation after iteration")
        page.locator("tbody a").first.click()
        expect(page.get_by_role("region", name="Reward")).to_contain_text("format-2")
        expect(page.get_by_label("log-probability")).to_be_visible()
        expect(page.get_by_label("advantage")).to_have_count(0)
        page.close()


def test_an_exported_view_is_one_file_without_scripts(page: Page, base: str, tmp_path: Path) -> None:
    page.goto(f"{base}/?policy=s3-00&sort=reward")
    page.locator("tbody a").first.click()
    expect(page.locator(".transcript")).to_be_visible()
    with page.expect_download() as download:
        page.keyboard.press("e")
    file = tmp_path / "view.html"
    download.value.save_as(file)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert page.locator("script, button, img, iframe, a[href]").count() == 0
    expect(page.locator(".part.document")).to_be_visible()
    assert page.locator(".policy .token").first.get_attribute("title").startswith("token ")  # type: ignore[union-attr]
    assert page.locator("body").evaluate("body => getComputedStyle(body).margin") == "0px"  # the style applies


def test_an_exported_table_has_the_whole_width(page: Page, base: str, tmp_path: Path) -> None:
    page.goto(f"{base}/?policy=s1-00")
    lines(page, 18)
    with page.expect_download() as download:
        page.keyboard.press("e")
    download.value.save_as(tmp_path / "view.html")
    page.goto((tmp_path / "view.html").as_uri())
    lines(page, 18)
    assert page.locator(".scroll").evaluate("box => box.clientWidth / innerWidth") > 0.9  # no filters beside it


def test_hostile_text_is_text_in_every_view(page: Page, base: str) -> None:
    page.goto(f"{base}/?policy=s3-00")
    lines(page, 2)
    page.locator("tbody a").first.click()
    expect(page.locator(".transcript")).to_be_visible()
    views = [page.url, page.get_by_role("link", name="this question").get_attribute("href") or ""]
    page.goto(base + views[1])
    lines(page, 2)
    page.get_by_role("link", name="compare the first").click()
    expect(page.get_by_role("article")).to_have_count(2)
    for url in (f"{base}/?policy=s3-00", views[0], base + views[1], page.url):
        page.goto(url)
        expect(page.locator("main")).to_contain_text("<script>alert('x')</script>")
        expect(page.locator("main")).to_contain_text("⟦1B⟧[2J ⟦202E⟧evil")
        assert page.locator("main script, main img, main style, [onerror]").count() == 0
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 1300  # an endless word does not widen the page


def test_nobody_else_gets_in(driven: Browser, base: str, root: Path) -> None:
    context = driven.new_context()
    page = context.new_page()
    for path in ("/", "/api/rows", "/static/main.js", "/?token=wrong"):
        answer = page.goto(base + path)
        assert answer is not None and answer.status == 401
    page.goto(f"{base}/?token={TOKEN}&policy=base")
    expect(page).to_have_url(f"{base}/?policy=base")
    for path in ("/static/..%2Fserver.py", "/static/server.py", "/api/trajectory/0/0", "/etc/passwd"):
        answer = page.goto(base + path)
        assert answer is not None and answer.status == 404
    ask = context.request
    assert ask.get(f"{base}/api/rows", headers={"Host": "evil.example"}).status == 421
    assert ask.get(f"{base}/api/rows", headers={"Origin": "http://evil.example"}).status == 403
    assert ask.get(f"{base}/api/rows", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert ask.post(f"{base}/api/rows").status == 405
    policy = ask.get(f"{base}/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(driven: Browser, base: str, axe: _Axe, scheme: str) -> None:
    context = driven.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{base}/?token={TOKEN}")
    lines(page, 44)
    expect(page.locator(".facets input[type=checkbox]").first).to_be_visible()
    views = [page.url, f"{base}/?view=curves"]
    page.locator("tbody a").first.click()
    expect(page.locator(".transcript")).to_be_visible()
    views.append(base + (page.get_by_role("link", name="this question").get_attribute("href") or ""))
    views += [page.url, f"{page.url}&colour=logprob", f"{page.url}&colour=advantage"]
    for url in views:
        page.goto(url)
        expect(page.locator(".rows, .run, .transcript").first).to_be_visible()
        assert axe(page) == [], url
    context.close()
