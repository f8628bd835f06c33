"""Online search against a server on 127.0.0.1 with the four engines' formats, with every fault they can have."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_web
import httpcore
import pytest

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.online.client import SearchStopped
from r1_searcher.retrieval.online.engines import SEARCH_ENGINES
from r1_searcher.retrieval.online.guard import GuardedNetwork
from r1_searcher.retrieval.online.pages import Pages
from r1_searcher.retrieval.online.retriever import OnlineRetriever, online_fingerprint
from r1_searcher.types.protocols import RetrieverError, search_each

ONLINE = params.load(Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml").retriever.online
ADA = "where was Ada Lovelace born"


@pytest.fixture(scope="module")
def server() -> Iterator[fake_web.Web]:
    with fake_web.serve() as web:
        yield web


@pytest.fixture
def web(server: fake_web.Web, monkeypatch: pytest.MonkeyPatch) -> fake_web.Web:
    """The server, reset between tests, and its key in the environment."""
    server.faults.clear()
    server.hits.clear()
    server.asked.clear()
    server.read.clear()
    for engine in SEARCH_ENGINES.values():
        if engine.key_variable:
            monkeypatch.setenv(engine.key_variable, fake_web.KEY)
    return server


def settings(web: fake_web.Web, engine: str = "tavily", **changes: Any) -> params.Online:
    """Return parameters with quick retries, this machine's own pages allowed."""
    quick = {"backoff": 0.01, "calls_a_second": 1000.0, "timeout": 5.0, "allow_private_addresses": True}
    return ONLINE.model_copy(update={"engine": engine, "url": web.url(engine), **quick, **changes})


def everything(limit: int) -> bool:
    return True


def opened(web: fake_web.Web, engine: str = "tavily", take: Any = everything, **changes: Any) -> OnlineRetriever:
    return OnlineRetriever(settings(web, engine, **changes), take)


@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_each_engine_finds_the_passages_of_its_pages(web: fake_web.Web, engine: str) -> None:
    [[ada, rome]] = opened(web, engine).search([ADA], 2)
    assert (ada.title, rome.title) == ("Ada", "Rome")
    assert "born in London in 1815" in ada.text and len(ada.text.split()) <= ONLINE.passage_words
    assert "Imprint" not in ada.text and "rights reserved" not in ada.text
    assert ada.passage_id == f"{web.base}/page/ada#1"
    assert (ada.score, rome.score) == (1, 0.5)
    assert [call["query"] for call in web.asked] == [ADA]
    assert web.agents == {ONLINE.user_agent}


@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_no_more_than_k_and_nothing_where_nothing_matches(web: fake_web.Web, engine: str) -> None:
    web.hits["zebra"] = []
    assert [len(found) for found in opened(web, engine).search([ADA, "zebra", ADA], 1)] == [1, 0, 1]
    assert len(web.asked) == 2  # equal queries once
    assert web.read == ["ada"]


def test_snippets_alone(web: fake_web.Web) -> None:
    [[ada, _]] = opened(web, pages=False).search([ADA], 2)
    assert (ada.text, ada.passage_id) == ("A snippet about Ada.", f"{web.base}/page/ada")
    assert web.read == []


@pytest.mark.parametrize("engine", SEARCH_ENGINES)
@pytest.mark.parametrize("fault", ["429", "429:0", "500", "503", "broken", "deep", "form", "list", "timeout"])
def test_what_may_pass_is_tried_again(web: fake_web.Web, engine: str, fault: str) -> None:
    web.faults[ADA] = [fault, fault]
    [[ada]] = opened(web, engine, timeout=0.4 if fault == "timeout" else 5.0, pages=False).search([ADA], 1)
    assert ada.title == "Ada"
    assert len(web.asked) == 3


def test_retry_after_is_kept_to(web: fake_web.Web) -> None:
    web.faults[ADA] = ["429:1"]
    began = time.monotonic()
    opened(web, pages=False).search([ADA], 1)
    assert time.monotonic() - began > 0.95


def test_a_wait_that_is_too_long_is_not_waited(web: fake_web.Web) -> None:
    web.faults[ADA] = ["429:3600"]
    with pytest.raises(RetrieverError, match="HTTP 429, and to wait 3600 s"):
        opened(web, pages=False).search([ADA], 1)
    assert len(web.asked) == 1


def test_what_does_not_pass_is_an_error_of_its_query_alone(web: fake_web.Web) -> None:
    web.faults["down"] = ["503"] * 9
    web.faults["too odd"] = ["422"]
    retriever = opened(web, pages=False, attempts=3)
    found = search_each(retriever, ["rome", "down", "too odd", "ada"], 1)
    assert [entry[0].title if isinstance(entry, list) else str(entry)[:24] for entry in found] == [
        "Ada", "tavily: HTTP 503: status", "tavily: HTTP 422: status", "Ada"
    ]  # fmt: skip
    assert str(found[1]).endswith("after 3 attempts") and fake_web.KEY not in str(found[1])
    assert [call["query"] for call in web.asked].count("too odd") == 1  # not worth another attempt
    assert len(web.asked) == 1 + 3 + 1 + 1


def test_searxngs_silent_engines_are_no_empty_result(web: fake_web.Web) -> None:
    web.faults[ADA] = ["silent"] * 4
    with pytest.raises(RetrieverError, match=r"none of its engines answered.*duckduckgo.*after 4 attempts"):
        opened(web, "searxng").search([ADA], 1)


def test_an_engines_own_words_are_in_the_message(web: fake_web.Web) -> None:
    web.faults[ADA] = ["quota"] * 4
    with pytest.raises(RetrieverError, match=r'of another form: no list in .results.: \{"error": "quota') as error:
        opened(web, "searxng").search([ADA], 1)
    assert "exceeded" in str(error.value) and "\x1b" not in str(error.value)


def test_an_engines_words_are_shown_without_the_key(web: fake_web.Web) -> None:
    web.faults[ADA] = ["quota"] * 4
    with pytest.raises(RetrieverError, match=r"exceeded for …") as error:
        opened(web, "serper").search([ADA], 1)
    assert fake_web.KEY not in str(error.value)


@pytest.mark.parametrize("engine", ["serper", "tavily", "searxng"])
def test_a_hit_without_an_address_is_its_snippet(web: fake_web.Web, engine: str) -> None:
    without: list[dict[str, Any]] = [
        {"url": None, "title": "Infobox", "text": "Ada, born in 1815."},
        {"url": "", "title": "Nothing", "text": ""},
    ]
    web.hits[ADA] = [without[0], {"url": f"{web.base}/page/rome", "title": "Rome", "text": ""}, without[1]]
    [[box, rome]] = opened(web, engine).search([ADA], 3)
    assert (box.title, box.text, box.passage_id[:8]) == ("Infobox", "Ada, born in 1815.", "snippet-")
    assert (rome.title, web.read) == ("Rome", ["rome"])
    assert opened(web, engine).around(box, 1, 1) == [replace(box, score=0.0)]


def test_a_connection_that_is_refused_is_an_outage(web: fake_web.Web) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RetrieverError, match="Connection refused, after 2 attempts"):
        opened(web, url=f"http://127.0.0.1:{port}/", attempts=2).search([ADA], 1)


def test_an_engine_that_is_gone_is_not_asked_hundreds_of_times(web: fake_web.Web) -> None:
    queries = [f"query {number}" for number in range(40)]
    web.faults.update({query: ["500"] * 9 for query in queries})
    found = search_each(opened(web, pages=False, attempts=2, concurrency=2), queries, 1)
    assert all(isinstance(entry, RetrieverError) for entry in found)
    assert len(web.asked) <= 2 * (2 * 2 + 2)
    assert "not asked, because it has stopped answering" in str(found[-1])


@pytest.mark.parametrize(
    ("engine", "fault", "said"),
    [
        ("serper", "", "serper at .* refuses .*HTTP 403.*check the key in \\$SERPER_API_KEY"),
        ("tavily", "", "tavily at .* refuses .*HTTP 401.*check the key in \\$TAVILY_API_KEY"),
        ("brave", "", "brave at .* refuses .*HTTP 422.*check the key in \\$BRAVE_API_KEY"),
        ("searxng", "403", "searxng at .* refuses .*allow the format json"),
        ("serper", "credits", "the account is used up .*Not enough credits"),
        ("tavily", "432", "the account is used up"),
        ("tavily", "404", "is not a valid address"),
        ("tavily", "302", "is not a valid address .HTTP 302: it redirects, and does not say where to"),
        ("tavily", "302:http://else.where/x", "HTTP 302: it redirects to http://else.where/x"),
    ],
)
def test_what_no_search_can_pass_stops_at_once(
    web: fake_web.Web, monkeypatch: pytest.MonkeyPatch, engine: str, fault: str, said: str
) -> None:
    if not fault:
        monkeypatch.setenv(SEARCH_ENGINES[engine].key_variable, "another-key")
    queries = [f"query {number}" for number in range(20)]
    web.faults.update({query: [fault] for query in queries if fault})
    with pytest.raises(PipelineError, match=said) as error:
        opened(web, engine, pages=False, concurrency=2).search(queries, 1)
    assert "another-key" not in str(error.value) and "\n" not in str(error.value)
    assert len(web.asked) <= 4


def test_a_missing_key_is_said_before_anything_is_asked(web: fake_web.Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVILY_API_KEY")
    with pytest.raises(PipelineError, match="the environment variable TAVILY_API_KEY is not set"):
        opened(web)
    monkeypatch.setenv("MY_API_KEY", fake_web.KEY)
    assert opened(web, key_variable="MY_API_KEY").search([ADA], 1)
    with pytest.raises(PipelineError, match="must be the name of an environment variable") as error:
        opened(web, key_variable="tvly-123")
    assert "tvly" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "self-hosted"),
        ("localhost:8080", "not an address"),
        ("http://me:secret@127.0.0.1/", "must not contain a password"),
    ],
)
def test_a_wrong_address_is_one_line(web: fake_web.Web, url: str, said: str) -> None:
    with pytest.raises(PipelineError, match=rf"retriever\.online\.url: .*{said}"):
        opened(web, "searxng", url=url)


def test_the_budget_ends_the_run_and_what_was_found_comes_along(web: fake_web.Web) -> None:
    calls = iter(range(100))
    retriever = opened(web, pages=False, take=lambda limit: next(calls) < limit, max_calls=100, max_cost=0.003)
    assert len(retriever.search(["a", "b"], 1)) == 2
    with pytest.raises(SearchStopped, match=r"this run's budget of 3 calls is used up") as error:
        retriever.search(["c", "d", "e"], 1)
    assert len(web.asked) == 3
    assert sum(isinstance(entry, list) for entry in error.value.found) == 1


def test_the_pace_is_kept_to(web: fake_web.Web) -> None:
    began = time.monotonic()
    opened(web, pages=False, calls_a_second=20.0).search([f"query {number}" for number in range(9)], 1)
    assert time.monotonic() - began > 8 / 20


def hits(web: fake_web.Web, *names: str, text: str = "A snippet.") -> list[dict[str, str]]:
    return [{"url": f"{web.base}/page/{name}", "title": name, "text": text} for name in names]


def test_a_page_that_cannot_be_read_stands_with_its_snippet(web: fake_web.Web) -> None:
    names = ("missing", "image", "slow", "scripts", "ada")
    web.hits[ADA] = [*hits(web, *names), {"url": "ftp://x.org/a", "title": "ftp", "text": "A snippet."}]
    [found] = opened(web, timeout=1.0).search([ADA], 6)
    assert [passage.text == "A snippet." for passage in found] == [True, True, True, True, False, True]


def test_hits_without_a_word_to_read_are_an_error_and_no_empty_result(web: fake_web.Web) -> None:
    web.hits[ADA] = hits(web, "missing", "image", text="")
    with pytest.raises(RetrieverError, match="2 hits, and neither a page nor a snippet to read"):
        opened(web).search([ADA], 2)
    web.hits[ADA] += hits(web, "ada", text="")
    [[only]] = opened(web).search([ADA], 3)
    assert only.title == "ada" and only.score == 1


def test_pages_are_read_within_limits_and_once(web: fake_web.Web) -> None:
    pages = Pages(settings(web, max_page_bytes=2000))
    assert sum(len(passage) + 1 for passage in pages.passages(f"{web.base}/page/huge")) == 2000
    assert pages.passages(f"{web.base}/page/latin") == ("Café Trabo",)
    assert pages.passages(f"{web.base}/page/away")[0].startswith("Ada")
    for _ in range(3):
        pages.passages(f"{web.base}/page/rome")
    assert web.read == ["huge", "latin", "away", "ada", "rome"]


def test_pages_inside_the_own_network_are_not_read(web: fake_web.Web) -> None:
    pages = Pages(settings(web, allow_private_addresses=False))
    port = web.base.rpartition(":")[2]
    for place in (web.base, f"http://localhost:{port}", f"http://[::1]:{port}", f"http://[::ffff:127.0.0.1]:{port}"):
        assert pages.passages(f"{place}/page/ada") == ()
    assert web.read == []
    [[ada]] = opened(web, allow_private_addresses=False).search([ADA], 1)  # the engine's own address is the user's
    assert ada.text == "A snippet about Ada."


def test_neither_a_name_nor_a_redirect_gets_past_the_guard(web: fake_web.Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's server stands for a public one; it redirects to a cloud machine's metadata service."""
    asked: list[str] = []
    own = socket.getaddrinfo

    def resolve(host: str, port: int, *more: Any, **options: Any) -> Any:
        asked.append(host)
        return own("10.0.0.7" if host == "inner.example" else host, port, *more, **options)

    monkeypatch.setattr("r1_searcher.net.network.socket.getaddrinfo", resolve)
    monkeypatch.setattr(
        "r1_searcher.retrieval.online.guard.is_public", lambda address: address == "127.0.0.1"
    )  # as if this machine were on the public internet
    pages = Pages(settings(web, allow_private_addresses=False))
    assert pages.passages(f"{web.base}/page/ada")
    assert pages.passages(f"{web.base}/page/inside") == ()
    assert pages.passages("http://inner.example/") == ()
    assert "169.254.169.254" in asked and "inner.example" in asked
    with pytest.raises(httpcore.ConnectError, match=r"inner.example is at 10\.0\.0\.7, which is not public"):
        GuardedNetwork(public_only=True).connect_tcp("inner.example", 80)


def test_an_address_that_does_not_answer_is_not_the_last_word(
    web: fake_web.Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a name with an IPv6 address on a machine without IPv6."""
    own = socket.getaddrinfo

    def resolve(host: str, port: int, *more: Any, **options: Any) -> Any:
        names = ("127.0.0.7", "127.0.0.1") if host == "two.example" else (host,)
        return [entry for name in names for entry in own(name, port, *more, **options)]

    monkeypatch.setattr("r1_searcher.net.network.socket.getaddrinfo", resolve)
    monkeypatch.setattr("r1_searcher.retrieval.online.guard.is_public", lambda address: True)
    pages = Pages(settings(web, allow_private_addresses=False))
    assert pages.passages(f"http://two.example:{web.base.rpartition(':')[2]}/page/rome")


def test_without_the_extractor_it_is_one_line(web: fake_web.Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"retriever\.online\.pages: reading pages needs the package trafilatura"):
        opened(web)
    assert opened(web, pages=False).search([ADA], 1)


def test_what_a_search_depends_on_is_in_the_fingerprint_and_nothing_else(web: fake_web.Web) -> None:
    first = online_fingerprint(settings(web))
    other = {"engine": "brave", "url": "https://x.org", "language": "de", "pages": False, "passage_words": 50}
    found = {first, *(online_fingerprint(settings(web).model_copy(update={key: other[key]})) for key in other)}
    assert len(found) == len(other) + 1
    same: dict[str, Any] = {
        "timeout": 3.0,
        "attempts": 9,
        "max_calls": 5,
        "concurrency": 1,
        "user_agent": "x",
        "key_variable": "K",
    }
    assert online_fingerprint(settings(web, **same)) == first == opened(web).fingerprint
