"""An existing faiss index of the corpus: taken over if it is the corpus' and the model's, else refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import yaml
from dense_indexes import numbered, settings, tiny, write_corpus
from tiny_models import random_encoder

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params
from r1_searcher.retrieval import identify, open_retriever
from r1_searcher.retrieval.dense.retriever import open_encoder
from r1_searcher.retrieval.dense.takeover import take_over
from r1_searcher.retrieval.make import make_index
from stages.index.__main__ import main

COUNT = 300
FACTS = numbered(COUNT)
SEARCH_R1 = [f'"{title}"\n{text}' for title, text in FACTS]
BARE: dict[str, Any] = {"kind": "flat", "storage": "float32"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with its BM25 index, and a model."""
    folder = tmp_path_factory.mktemp("takeover")
    random_encoder(folder / "model")
    write_corpus(folder / "corpus", FACTS)
    make_index(settings("", "bm25"), folder / "corpus", folder / "index")
    return folder


def chosen(place: Path, **dense: Any) -> Params:
    return tiny(place / "model", "dense", **BARE | dense)


def embedded(place: Path, texts: list[str], **dense: Any) -> np.ndarray:
    built = chosen(place, **dense).index.dense
    assert built is not None
    return open_encoder(built, "cpu", "test").passages(texts)


def written(place: Path, vectors: np.ndarray, index: Any = None, name: str = "theirs.index") -> Path:
    made = faiss.IndexFlatIP(vectors.shape[1]) if index is None else index
    if not made.is_trained:
        made.train(vectors)
    made.add(vectors)
    faiss.write_index(made, str(place / name))
    return place / name


def taken(place: Path, file: Path, **dense: Any) -> dict[str, Any]:
    wanted = chosen(place, **dense).index.dense
    assert wanted is not None
    return take_over(file, place / "corpus", wanted, place / "index")


@pytest.mark.parametrize("form", ["flat", "l2", "half", "hnsw", "ivfpq"])
def test_every_form_of_theirs_is_searched_as_ours(place: Path, form: str) -> None:
    vectors = embedded(place, SEARCH_R1)
    size = vectors.shape[1]
    pq = faiss.IndexIVFPQ(faiss.IndexFlatIP(size), size, 4, 8, 8, faiss.METRIC_INNER_PRODUCT)
    pq.cp.min_points_per_centroid = pq.pq.cp.min_points_per_centroid = 1
    indexes = {
        "flat": faiss.IndexFlatIP(size),
        "l2": faiss.IndexFlatL2(size),
        "half": faiss.IndexScalarQuantizer(size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT),
        "hnsw": faiss.IndexHNSWFlat(size, 16, faiss.METRIC_INNER_PRODUCT),
        "ivfpq": pq,
    }
    meta = taken(place, written(place, vectors, indexes[form], f"{form}.index"))
    assert meta["taken_over"]["form"] == '"title", line feed, text' or form == "ivfpq"
    opened = open_retriever(chosen(place), index=place / "index", corpus=place / "corpus")
    assert identify(chosen(place), index=place / "index").fingerprint == opened.fingerprint
    queries = embedded(place, ["the book of p7", "p12"], passage_prefix="")
    found = opened.search(["the book of p7", "p12"], 3)
    if form != "ivfpq":
        for query, passages in zip(queries, found, strict=True):
            scores = vectors @ query
            assert [one.score for one in passages] == pytest.approx(sorted(scores)[:-4:-1], abs=2e-3)
            assert passages[0].score == pytest.approx(scores[int(passages[0].passage_id[1:])], abs=2e-3)


def test_it_is_linked_and_the_rest_of_the_folder_stays(place: Path) -> None:
    file = written(place, embedded(place, SEARCH_R1))
    before = (place / "index/passages.arrow").stat().st_mtime_ns
    taken(place, file)
    assert (place / "index/dense/vectors.faiss").stat().st_ino == file.stat().st_ino
    assert (place / "index/passages.arrow").stat().st_mtime_ns == before


def shuffled(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.roll(vectors, 5, axis=0))


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        (lambda vectors: vectors[:-1], {}, r"has 299 vectors, and the corpus 300 passages"),
        (lambda vectors: np.hstack([vectors, vectors]), {}, r"vectors of 32 dimensions, and .*model makes 16"),
        (shuffled, {}, r"is in another order: passage 0 is in row 5"),
        (lambda vectors: 3 * vectors, {}, r"not normalised: lengths from 3 to 3 \(set index\.dense\.similarity: dot\)"),
        (lambda vectors: -vectors, {}, r"64 of 64 rows are not what \w+ makes of their passages"),
        (lambda vectors: vectors, {"passage_prefix": "of: "}, r"with the prefix '', not 'of: ' \(index\.dense\.pass"),
    ],
)
def test_another_index_is_refused(place: Path, change: Any, asked: dict[str, str], message: str) -> None:
    file = written(place, np.ascontiguousarray(change(embedded(place, SEARCH_R1))))
    before = (place / "index/meta.json").read_bytes()
    with pytest.raises(PipelineError, match=message) as caught:
        taken(place, file, **asked)
    assert "theirs.index" in str(caught.value) and (place / "index/meta.json").read_bytes() == before


def test_another_model_of_the_same_width_is_refused(place: Path) -> None:
    file = written(place, embedded(place, SEARCH_R1))
    random_encoder(place / "other", seed=1)
    with pytest.raises(PipelineError, match=r"rows are not what \w+ makes of their passages .*another model"):
        wanted = tiny(place / "other", "dense", **BARE).index.dense
        assert wanted is not None
        take_over(file, place / "corpus", wanted, place / "index")


def test_a_file_that_cannot_be_searched_is_refused(place: Path) -> None:
    vectors = embedded(place, SEARCH_R1)
    whole = written(place, vectors).read_bytes()
    file = place / "broken.index"
    for content, message in ((whole[:-100], "not a complete faiss index"), (b"no", "not a complete faiss index")):
        file.write_bytes(content)
        with pytest.raises(PipelineError, match=message):
            taken(place, file)
    with pytest.raises(PipelineError, match="no such file"):
        taken(place, place / "nowhere")
    with pytest.raises(PipelineError, match=r"a faiss IndexIDMap cannot be taken over \(flat, fp16, HNSW"):
        other = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
        other.add_with_ids(vectors, np.arange(COUNT)[::-1].copy())
        faiss.write_index(other, str(place / "ids.index"))
        taken(place, place / "ids.index")
    with pytest.raises(PipelineError, match=r"by L2 distance, and index\.dense\.similarity is dot"):
        taken(place, written(place, vectors, faiss.IndexFlatL2(vectors.shape[1])), similarity="dot")


def test_the_command_and_the_parameter(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    file = written(place, embedded(place, SEARCH_R1), name="e5_Flat.index")
    parameters = chosen(place).model_dump()
    (place / "params.yaml").write_text(yaml.safe_dump(parameters))
    given = ["--corpus", "corpus", "--index", "index"]
    assert main(["takeover", *given, "--rows", "1000", str(file)]) == 0
    assert "300 vectors of 16 dimensions taken over, flat -> index/dense" in capsys.readouterr().out
    parameters["index"]["dense"]["takeover"] = str(file)
    (place / "params.yaml").write_text(yaml.safe_dump(parameters))
    assert main([*given[:2], "--index", "second"]) == 0
    assert "64 rows embedded again are what was stored" in capsys.readouterr().out
    assert main(["takeover", *given, "nowhere"]) == 2
    assert capsys.readouterr().err.strip() == "error: nowhere: no such file"
