r"""The forms in which search servers of other projects are asked. Pure functions; sends nothing.

| form | request | reply | source |
|---|---|---|---|
| ``search-r1`` | ``POST /retrieve`` ``{queries, topk, return_scores}`` | ``{result: [[{document, score}]]}`` | PeterGriffinJin/Search-R1, search_r1/search/retrieval_server.py |
| ``r1-searcher`` | ``POST /queries`` ``{queries, k}`` | ``{queries, answers: [[line]]}`` | RUCAIBox/R1-Searcher, train/wiki_corpus_load.py |
| ``flashrag`` | ``POST /batch_search`` ``{query: [...], top_n, return_score}`` | ``[[[document]], [[score]]]`` | Agent-RL/ReSearch, scripts/serving/retriever_serving.py |
| ``flashrag-search`` | ``POST /search`` ``{query, top_n, return_score}`` | ``[[document], [score]]`` | the same file |

A document is ``{id, contents}``, its contents ``"title"``, line feed, text. Search-R1's other servers
(google_search_server.py, serp_search_server.py, retrieval_rerank_server.py) leave out ids or scores, send the contents
alone, or return more or fewer than asked for; all of that is read. FlashRAG itself has no server: ReSearch's wraps its
retrievers.
"""  # noqa: E501

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from r1_searcher.files.artefacts import fingerprint
from r1_searcher.types.protocols import Passage

# Version of this code in the fingerprint: raise it if the same reply would become other passages.
_VERSION = 2
_SHOWN_FIELDS = 5
# A line of R1-Searcher's two passage files (its folder wiki_corpus_index_bulid/samples), without the number that its
# clients cut off: title, three spaces, text; or "Title: … Text:  …", which may be quoted as in CSV.
_NUMBER = re.compile(r"^\ufeff?\d+\s+")
_LINES = (
    re.compile(r"Title: (?P<title>.*?) Text:\s+(?P<text>.*)", re.DOTALL),
    re.compile(r"(?P<title>.*?)   (?P<text>.*)", re.DOTALL),
)


class AnotherForm(Exception):
    """A reply that is not of the form; the message says what came."""


@dataclass(frozen=True)
class ServiceForm:
    """How a server is asked, and how its replies become passages.

    Attributes:
        path: of its address.
        batch: whether one request holds several queries.
        body: queries, k → the request's JSON.
        read: reply, number of queries → the passages of each query. Raises ``AnotherForm``; the caller compares the
            number of lists.
    """

    name: str
    path: str
    batch: bool
    body: Callable[[Sequence[str], int], dict[str, Any]]
    read: Callable[[Any, int], list[list[Passage]]]


def service_fingerprint(form: str, name: str) -> str:
    """Return the fingerprint of the server that the user calls ``name``."""
    return fingerprint({"kind": "service", "form": form, "name": name, "version": _VERSION})


def appearance(reply: Any) -> str:
    """Return what a reply is, in a few words, and the form that it looks like."""
    if isinstance(reply, dict):
        names = ", ".join(repr(name) for name in list(reply)[:_SHOWN_FIELDS])
        words = f"an object with {names}" if names else "an empty object"
    elif isinstance(reply, list):
        words = f"a list of {len(reply)}"
    else:
        words = f"{reply!r:.40}"
    form = _apparent_form(reply)
    return f"{words}, as of the form {form}" if form else words


def _apparent_form(reply: Any) -> str:
    if isinstance(reply, dict):
        if "result" in reply:
            return "own" if "fingerprint" in reply else "search-r1"
        return "r1-searcher" if "answers" in reply else ""
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], list):
        return ""
    return "flashrag-search" if any(isinstance(entry, dict) for entry in reply[0]) else "flashrag"


def _search_r1_read(reply: Any, queries: int) -> list[list[Passage]]:
    return [
        [_hit(entry, rank) for rank, entry in enumerate(_list(entries), 1)]
        for entries in _list(_field(reply, "result"))
    ]


def _hit(entry: Any, rank: int) -> Passage:
    if isinstance(entry, dict) and "document" in entry:
        return _passage(entry["document"], entry.get("score"), rank)
    return _passage(entry, None, rank)


def _r1_searcher_read(reply: Any, queries: int) -> list[list[Passage]]:
    return [
        [_line(entry, rank) for rank, entry in enumerate(_list(lines), 1)] for lines in _list(_field(reply, "answers"))
    ]


def _line(entry: Any, rank: int) -> Passage:
    if not isinstance(entry, str):
        raise AnotherForm("a passage that is no text")
    line = _NUMBER.sub("", entry)
    if line.startswith('"Title: ') and line.endswith('"'):
        line = line[1:-1].replace('""', '"')
    parts = next((found for found in (pattern.fullmatch(line) for pattern in _LINES) if found), None)
    return _made("", parts["title"] if parts else "", parts["text"] if parts else line, None, rank)


def _flashrag_read(reply: Any, queries: int) -> list[list[Passage]]:
    lists, scores = _list(reply), None
    if len(lists) == 2 and isinstance(lists[0], list) and len(lists[0]) == queries and _lists_of(lists[0], list):
        lists, scores = lists[0], [_list(entries) for entries in _list(lists[1])]
        if list(map(len, scores)) != [len(_list(entries)) for entries in lists]:
            raise AnotherForm("another number of scores than of documents")
    return [_documents(_list(entries), scores[place] if scores else None) for place, entries in enumerate(lists)]


def _flashrag_search_read(reply: Any, queries: int) -> list[list[Passage]]:
    documents = _list(reply)
    if len(documents) == 2 and _lists_of(documents, list):
        documents, scores = documents
        if len(scores) != len(documents):
            raise AnotherForm("another number of scores than of documents")
        return [_documents(documents, scores)]
    return [_documents(documents, None)]


def _documents(entries: Sequence[Any], scores: Sequence[Any] | None) -> list[Passage]:
    return [
        _passage(entry, scores[rank - 1] if scores is not None else None, rank) for rank, entry in enumerate(entries, 1)
    ]


def _passage(document: Any, score: Any, rank: int) -> Passage:
    """Return a document of FlashRAG's kind as a passage."""
    if isinstance(document, str):
        document = {"contents": document}
    if not isinstance(document, dict):
        raise AnotherForm("a document that is neither an object nor text")
    identity = document.get("id")
    known = str(identity) if isinstance(identity, str | int) else ""
    contents, text, title = (document.get(name) for name in ("contents", "text", "title"))
    titled = title if isinstance(title, str) and title.strip() else ""
    if isinstance(contents, str):
        first, feed, rest = contents.partition("\n")
        if titled and _unquoted(first) != _unquoted(titled):  # a title beside contents without one
            return _made(known, titled, contents, score, rank)
        return _made(known, first if feed else titled, rest if feed else contents, score, rank)
    if isinstance(text, str):
        return _made(known, titled, text, score, rank)
    raise AnotherForm("a document without 'contents'")


def _made(identity: str, title: str, text: str, score: Any, rank: int) -> Passage:
    """Return a passage. Without an id it is known by its content, without a score by its rank."""
    title, text = _unquoted(_clean(title)), _clean(text)
    if score is None:
        score = 1.0 / rank
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise AnotherForm(f"a score that is no number: {score!r:.40}")
    return Passage(_clean(identity) or fingerprint([title, text])[:16], title, text, float(score))


def _unquoted(title: str) -> str:
    """Return a title without the quotes around it, as wiki-18 has them."""
    title = title.strip()
    if len(title) > 1 and title[0] == title[-1] == '"':
        return title[1:-1].replace('""', '"').strip()
    return title


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # lone surrogates, which JSON can carry, fit in no file


def _field(reply: Any, name: str) -> Any:
    if not isinstance(reply, dict) or name not in reply:
        raise AnotherForm(appearance(reply))
    return reply[name]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise AnotherForm(appearance(value))
    return value


def _lists_of(values: Sequence[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


SERVICE_FORMS = {
    form.name: form
    for form in (
        ServiceForm(
            "search-r1",
            "/retrieve",
            True,
            lambda queries, k: {"queries": list(queries), "topk": k, "return_scores": True},
            _search_r1_read,
        ),
        ServiceForm(
            "r1-searcher", "/queries", True, lambda queries, k: {"queries": list(queries), "k": k}, _r1_searcher_read
        ),
        ServiceForm(
            "flashrag",
            "/batch_search",
            True,
            lambda queries, k: {"query": list(queries), "top_n": k, "return_score": True},
            _flashrag_read,
        ),
        ServiceForm(
            "flashrag-search",
            "/search",
            False,
            lambda queries, k: {"query": queries[0], "top_n": k, "return_score": True},
            _flashrag_search_read,
        ),
    )
}
