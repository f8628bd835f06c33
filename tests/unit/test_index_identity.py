"""The identity of an index and of a search: the content, however written, and a number that stands for the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher import params
from r1_searcher.files import artefacts
from r1_searcher.retrieval import build, identity
from r1_searcher.retrieval.bm25 import open_index
from r1_searcher.retrieval.build import build_index
from r1_searcher.retrieval.identity import SEARCH_FORM, content_sha256, search_fingerprint
from r1_searcher.types import schemas

SETTINGS = params.Index(k1=1.5, b=0.75, title_weight=3, stemmer="none", stopwords="none")
TEXTS = [
    ("Silent Crown", "Silent Crown is a film of 1961, directed by Ann Lee."),
    ("Ann Lee", "Ann Lee, born 1931 in Port Tarn, directed films; she was married to Bob Lee."),
    ("Ernő", "Ernő Rubik's cube — हिन्दी भाषा, 北京, ＦＵＬＬ width, the U.S. Route 22"),
    ("Port Tarn", "A harbour. The harbour is old, and the films of the harbour are silent."),
    ("", "nothing but a text about harbours, crowns and a cube"),
]
QUERIES = [
    "who directed Silent Crown",
    "the harbours of Port Tarn",
    "北 width 22",
    "ernő",
    "",
    "film film film",
    "nothing",
]


def table(texts: list[tuple[str, str]] = TEXTS) -> pa.Table:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.PASSAGES)


def meta(folder: Path, passages: Any = None, corpus: str = "c", **changes: object) -> dict[str, Any]:
    given = table() if passages is None else passages
    return build_index(given, SETTINGS.model_copy(update=changes), folder / "index", corpus)


def test_how_the_content_was_written_changes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = meta(tmp_path)
    assert whole["content"] == content_sha256(tmp_path / "index") and len(whole["content"]) == 64
    monkeypatch.setattr(build, "version", lambda name: "another bm25s")
    cut = meta(tmp_path, table().to_batches(max_chunksize=2), corpus="the same in other files", memory_gb=1e-9)
    assert cut["content"] == whole["content"]
    assert search_fingerprint(cut) == search_fingerprint(whole) == open_index(tmp_path / "index").fingerprint


def test_another_content_is_another_index(tmp_path: Path) -> None:
    moved = [TEXTS[1], TEXTS[0], *TEXTS[2:]]
    cut_otherwise = [("Silent", "Crown" + TEXTS[0][1]), *TEXTS[1:]]
    metas = [meta(tmp_path), meta(tmp_path, k1=1.2), meta(tmp_path, title_weight=1)]
    metas += [meta(tmp_path, table(texts)) for texts in (moved, cut_otherwise, TEXTS[:-1])]
    assert len({one["content"] for one in metas}) == len({search_fingerprint(one) for one in metas}) == len(metas)


def test_a_query_that_is_cut_otherwise_is_another_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = meta(tmp_path)
    stemmed = {**plain, "settings": {**plain["settings"], "stemmer": "english"}}
    names = {search_fingerprint(plain), search_fingerprint(stemmed)}
    monkeypatch.setattr(identity, "SEARCH_FORM", SEARCH_FORM + 1)
    assert len({*names, search_fingerprint(plain)}) == 3


def results(folder: Path) -> str:
    found = open_index(folder / "index").search(QUERIES, 3)
    return artefacts.fingerprint([[[one.passage_id, one.score.hex()] for one in passages] for passages in found])


# By the form of the search and the content (16 digits of each sha256): the result.
RECORDED = {
    (1, "911cae2e1d32ab46"): "7b6315d7afb8c26d",
    (1, "4254434538f20477"): "891b5477e7c0e1d6",
    (1, "1a3838d049e27162"): "4c238b8d4b32f47b",
}


FIRST = {"folding": "case", "tokenizer": "characters"}


@pytest.mark.parametrize("changes", [{}, FIRST, {"stemmer": "english", "stopwords": "english", **FIRST}])
def test_the_form_stands_for_these_results(tmp_path: Path, changes: dict[str, Any]) -> None:
    """If the same content gives another result, raise SEARCH_FORM; if the content is meant to change, its identity
    changes by itself. Either way record the new result here."""
    content = meta(tmp_path, **changes)["content"][:16]
    assert (SEARCH_FORM, content) in RECORDED
    assert results(tmp_path)[:16] == RECORDED[SEARCH_FORM, content]
