"""The four engines' formats: requests, parsed responses, and invalid responses. No network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_searcher.net.retries import retry_after
from r1_searcher.retrieval.online.engines import SEARCH_ENGINES, Hit, NoAnswer, WrongForm
from r1_searcher.retrieval.online.guard import is_public
from r1_searcher.retrieval.online.pages import best_passages, cut

HIT = Hit("https://a.org/x", "Ada & co", "Ada was born.")
RAW = {"title": "Ada &amp; co"}
ANSWERS: dict[str, dict[str, Any]] = {
    "serper": {
        "searchParameters": {"q": "x"},
        "organic": [RAW | {"link": HIT.url, "snippet": "Ada  was born.", "position": 1}],
        "knowledgeGraph": {"title": "Ada"},
    },
    "tavily": {"query": "x", "results": [RAW | {"url": HIT.url, "content": "Ada was born.", "score": 0.9}]},
    "brave": {
        "type": "search",
        "web": {"results": [RAW | {"url": HIT.url, "description": "<strong>Ada</strong> was born."}]},
    },
    "searxng": {
        "query": "x",
        "results": [RAW | {"url": HIT.url, "content": "Ada was born."}],
        "unresponsive_engines": [["bing", "timeout"]],
    },
}
NOTHING: dict[str, dict[str, Any]] = {
    "serper": {"searchParameters": {"q": "x"}},
    "tavily": {"query": "x", "results": []},
    "brave": {"type": "search", "query": {"original": "x"}},
    "searxng": {"results": [], "unresponsive_engines": []},
}


@pytest.mark.parametrize("name", SEARCH_ENGINES)
def test_an_answer_is_read(name: str) -> None:
    assert SEARCH_ENGINES[name].read(ANSWERS[name]) == [HIT]
    assert SEARCH_ENGINES[name].read(NOTHING[name]) == []


@pytest.mark.parametrize("name", SEARCH_ENGINES)
@pytest.mark.parametrize("answer", [{}, {"message": "hello"}, {"results": 1, "organic": {}, "web": []}])
def test_an_answer_of_another_form_is_no_empty_result(name: str, answer: dict[str, Any]) -> None:
    with pytest.raises(WrongForm):
        SEARCH_ENGINES[name].read(answer)


@pytest.mark.parametrize("name", SEARCH_ENGINES)
def test_a_hit_has_an_address_or_a_snippet_and_a_list_of_neither_is_another_form(name: str) -> None:
    answer: dict[str, Any] = ANSWERS[name]
    items: Any = answer["web"]["results"] if name == "brave" else answer.get("results", answer.get("organic"))
    address = "link" if name == "serper" else "url"

    def with_items(*found: dict[str, Any]) -> dict[str, Any]:
        key = "organic" if name == "serper" else "results"
        return {**answer, "web": {"results": list(found)}} if name == "brave" else {**answer, key: list(found)}

    assert SEARCH_ENGINES[name].read(with_items({address: "https://a.org"})) == [Hit("https://a.org", "", "")]
    infobox = {key: value for key, value in items[0].items() if key != address}
    for gone in (infobox, {**infobox, address: None}):
        assert SEARCH_ENGINES[name].read(with_items(gone, {"title": "x"})) == [Hit("", HIT.title, HIT.snippet)]
    with pytest.raises(WrongForm, match="no item of"):
        SEARCH_ENGINES[name].read(with_items({"title": "x"}))


def test_engines_that_did_not_answer_searxng_are_an_outage_and_not_an_empty_result() -> None:
    with pytest.raises(NoAnswer, match="bing"):
        SEARCH_ENGINES["searxng"].read({"results": [], "unresponsive_engines": [["bing", "timeout"]]})


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, "", "https://a.org", [], {}, [1], [{}], [{"url": "u", "link": "l"}], [{"url": 1}]]
)
KEYS = st.sampled_from(["organic", "results", "web", "type", "searchParameters", "unresponsive_engines"])
WEB = st.dictionaries(st.just("results"), VALUES)


@settings(deadline=None)
@given(st.sampled_from(sorted(SEARCH_ENGINES)), st.dictionaries(KEYS, VALUES | WEB, max_size=4))
def test_whatever_json_says_it_is_hits_or_a_named_fault(name: str, answer: dict[str, Any]) -> None:
    try:
        hits = SEARCH_ENGINES[name].read(answer)
    except (WrongForm, NoAnswer):
        return
    assert all(isinstance(hit, Hit) and isinstance(hit.url, str) for hit in hits)


def test_half_of_a_surrogate_pair_becomes_a_mark() -> None:
    """A service that cuts JSON text by UTF-16 units sends them, and no file can store them."""
    found = SEARCH_ENGINES["tavily"].read(
        {"results": [{"url": "https://a.org", "title": "a \ud83d", "content": "\ude00 b"}]}
    )
    assert found == [Hit("https://a.org", "a ?", "? b")]


def test_what_the_engines_are_asked() -> None:
    asked = {name: engine.ask("the-key", "who is Ada", 5, "en") for name, engine in SEARCH_ENGINES.items()}
    assert asked["serper"].headers == {"X-API-KEY": "the-key"}
    assert asked["serper"].body == {"q": "who is Ada", "num": 5, "hl": "en"}
    assert asked["tavily"].headers == {"Authorization": "Bearer the-key"}
    assert asked["tavily"].body == {"query": "who is Ada", "max_results": 5}
    assert asked["brave"].headers["X-Subscription-Token"] == "the-key"
    assert asked["brave"].query == {"q": "who is Ada", "count": "5", "search_lang": "en"}
    assert asked["searxng"].query == {"q": "who is Ada", "format": "json", "language": "en"}
    assert {name: ask.method for name, ask in asked.items()} == {
        "serper": "POST", "tavily": "POST", "brave": "GET", "searxng": "GET"
    }  # fmt: skip


@settings(deadline=None)
@given(st.text())
def test_a_query_is_shortened_to_the_engines_limits(query: str) -> None:
    brave = SEARCH_ENGINES["brave"]
    short = brave.shortened(query)
    assert len(short) <= 400 and len(short.split()) <= 50
    assert " ".join(query.split()).startswith(short)


def test_a_query_is_cut_between_words() -> None:
    assert SEARCH_ENGINES["brave"].shortened("abcdefghi " * 50) == " ".join(["abcdefghi"] * 40)
    assert SEARCH_ENGINES["brave"].shortened("x" * 500) == "x" * 400


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # a cloud machine's metadata
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("fec0::1", False),  # site-local
        ("192.0.0.192", False),
        ("192.0.0.8", False),
        ("168.63.129.16", False),  # Azure's host service
        ("::ffff:168.63.129.16", False),
        ("3fff::1", False),  # documentation
        ("168.63.129.17", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_pages_are_cut_into_passages() -> None:
    assert cut(" a b\n c  d e ", 2) == ["a b", "c d", "e"]
    assert cut(" \n", 2) == []


@settings(deadline=None)
@given(st.text(), st.integers(1, 5))
def test_cutting_loses_no_word(text: str, words: int) -> None:
    passages = cut(text, words)
    assert " ".join(passages).split() == text.split()
    assert all(1 <= len(passage.split()) <= words for passage in passages)


def test_the_best_passage_of_each_page() -> None:
    pages = [["menus and such", "Ada was born in London"], ["Rome is old", "a river"], ["nothing of it"]]
    assert best_passages("where was Ada born", pages) == [1, 0, 0]
    assert best_passages("?!", pages) == best_passages("zebra", pages) == [0, 0, 0]


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("7") == 7
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9  # type: ignore[operator]
    assert retry_after("soon") is retry_after(None) is retry_after("") is None
