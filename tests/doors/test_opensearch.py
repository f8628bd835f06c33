"""BM25 on a cluster, through both official clients, against a stand-in for it (search_cluster.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dense_indexes import PARAMS, write_corpus
from search_cluster import SearchCluster, serving

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval import identify, open_index, open_retriever
from r1_searcher.retrieval.make import make_index
from r1_searcher.retrieval.opensearch.client import ClusterReply
from r1_searcher.retrieval.retrievers import load_retriever
from r1_searcher.types.protocols import RetrieverError, windows_of
from stages.index.__main__ import main

NAMES = [f"name{number}" for number in range(12)]
FACTS = [
    (
        f"{NAMES[number % 12]} {number}",
        f"{NAMES[number * 7 % 12]} met {NAMES[number * 5 % 11]} " + "and then " * (number % 9),
    )
    for number in range(60)
]
QUERIES = ["name3", "who met name5 and name7?", "then", "nothing of this", "", "name3"]
KEY = "s3cret-of-the-cluster"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus with its BM25 index, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    write_corpus(tmp_path / "corpus", FACTS)
    make_index(PARAMS, tmp_path / "corpus", tmp_path / "index")
    return tmp_path


@pytest.fixture
def cluster() -> SearchCluster:
    return SearchCluster()


@pytest.fixture
def url(cluster: SearchCluster) -> Iterator[str]:
    with serving(cluster) as address:
        yield address


def chosen(url: str, **settings: Any) -> params.Params:
    raw = PARAMS.model_dump()
    raw["retriever"] |= {"kind": "opensearch", "opensearch": {"url": url, "wait": 0.0, **settings}}
    raw["retriever"]["searches"]["mode"] = "live"
    return params.check(raw)


def loaded(place: Path, wanted: params.Params) -> str:
    return load_retriever(wanted, index=place / "index", corpus=place / "corpus")


@pytest.mark.parametrize("flavour", ["opensearch", "elasticsearch"])
def test_it_finds_what_the_local_index_finds(place: Path, flavour: str, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = SearchCluster(flavour)
    with serving(cluster) as url:
        wanted = chosen(url, flavour=flavour, passages_a_request=7, queries_a_request=2, shards=2, replicas=1)
        (place / "params.yaml").write_text(yaml.safe_dump(wanted.model_dump()))
        given = ["--index", "index", "--corpus", "corpus"]
        assert main(["load", *given]) == 0
        assert capsys.readouterr().out.strip().endswith(f"60 passages in the index 'r1-searcher' on {url}")
        opened = open_retriever(wanted, index=place / "index", corpus=place / "corpus")
        local = open_index(place / "index")
        for ours, theirs in zip(local.search(QUERIES, 5), opened.search(QUERIES, 5), strict=True):
            assert [(one.passage_id, one.title, one.text) for one in ours] == [
                (one.passage_id, one.title, one.text) for one in theirs
            ]
            assert [one.score for one in theirs] == pytest.approx([one.score for one in ours], rel=1e-5)
        known = identify(wanted, index=place / "index")
        assert (known.fingerprint, known.corpus) == (opened.fingerprint, local.meta["corpus"])
        assert known.description.startswith(f"{flavour}, b 0.75, k1 1.5") and url not in known.description
        windows = windows_of(opened)
        assert windows is not None
        assert len(windows.around(opened.search(["name3"], 1)[0][0], 1, 1)) == 3
        assert main(["search", "name3", "-k", "2", *given]) == 0
        assert "name3" in capsys.readouterr().out
    made = cluster.indexes["r1-searcher"]
    settings = made["settings"]["index"]
    assert settings["similarity"]["default"] == {"type": "BM25", "k1": 1.5, "b": 0.75}
    assert (settings["number_of_shards"], settings["number_of_replicas"], settings["refresh_interval"]) == (2, 1, None)
    assert made["mappings"]["_meta"]["r1_searcher"] == known.fingerprint
    assert "met" in made["docs"]["0"]["words"].split() and made["mappings"]["_source"] == {"enabled": False}


def test_a_killed_load_continues_and_writes_nothing_twice(place: Path, cluster: SearchCluster, url: str) -> None:
    wanted = chosen(url, passages_a_request=7)
    cluster.die_after = 5
    with pytest.raises(PipelineError, match=r"retriever\.opensearch\.url: .* does not answer: "):
        loaded(place, wanted)
    with pytest.raises(PipelineError, match=r"has 35 of 60 passages \(run `r1-searcher index load`\)"):
        open_retriever(wanted, index=place / "index")
    del cluster.indexes["r1-searcher"]["docs"]["3"]  # as a server that was killed may lose what was under way
    cluster.die_after = 10**9
    assert loaded(place, wanted).startswith("60 passages")
    assert [int(batch[0]) for batch in cluster.bulks[5:9]] == [20, 27, 34, 41]  # from the two last requests on
    sent = [name for batch in cluster.bulks for name in batch]
    assert set(cluster.indexes["r1-searcher"]["docs"]) == set(sent) == {str(row) for row in range(60)}
    before = len(cluster.bulks)
    loaded(place, wanted)
    assert len(cluster.bulks) == before  # all of it is there


def test_an_index_of_something_else_is_refused(place: Path, cluster: SearchCluster, url: str) -> None:
    wanted = chosen(url)
    with pytest.raises(PipelineError, match=r"has no index 'r1-searcher' \(run `r1-searcher index load`\)"):
        open_retriever(wanted, index=place / "index")
    loaded(place, wanted)
    write_corpus(place / "corpus", FACTS[:50])
    with pytest.raises(PipelineError, match=r"the index belongs to corpus \w+, but .* is corpus"):
        open_retriever(wanted, index=place / "index", corpus=place / "corpus")
    make_index(PARAMS, place / "corpus", place / "index")
    for use in (lambda: open_retriever(wanted, index=place / "index"), lambda: loaded(place, wanted)):
        with pytest.raises(PipelineError, match=r"is of another corpus or settings .*choose another name, or delete"):
            use()
    cluster.indexes["r1-searcher"]["mappings"].pop("_meta")
    with pytest.raises(PipelineError, match="was made by something else"):
        loaded(place, wanted)
    assert loaded(place, chosen(url, name="another")).startswith("50 passages in the index 'another'")


def test_what_a_cluster_says_is_shown_without_the_key() -> None:
    reply = ClusterReply(400, {"error": {"type": "odd", "reason": f"{'x' * 190} {KEY}"}}, KEY)
    assert reply.words().endswith("…") and KEY[:4] not in reply.words()


@pytest.mark.parametrize("flavour", ["opensearch", "elasticsearch"])
@pytest.mark.parametrize("user", ["", "ann"])
def test_credentials_come_from_the_environment_alone(
    place: Path, flavour: str, user: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(SearchCluster(flavour, key=KEY)) as url:
        wanted = chosen(url, flavour=flavour, user=user, key_variable="CLUSTER_API_KEY")
        with pytest.raises(PipelineError, match="CLUSTER_API_KEY is not set"):
            loaded(place, wanted)
        monkeypatch.setenv("CLUSTER_API_KEY", "wrong")
        with pytest.raises(PipelineError, match=r"does not accept the credentials \(HTTP 401\)"):
            loaded(place, wanted)
        monkeypatch.setenv("CLUSTER_API_KEY", KEY)
        assert loaded(place, wanted).startswith("60 passages")
        monkeypatch.delenv("CLUSTER_API_KEY")
    out, err = capfd.readouterr()
    assert KEY not in out + err and "wrong" not in out + err
    inside = f"http://ann:{KEY}@127.0.0.1"
    for address, message in (("http://search.example", "clear text"), (inside, "must not contain a password")):
        monkeypatch.setenv("CLUSTER_API_KEY", KEY)
        with pytest.raises(PipelineError, match=message) as caught:
            loaded(place, chosen(address, flavour=flavour, key_variable="CLUSTER_API_KEY"))
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("flavour", "there", "major", "message"),
    [
        ("opensearch", "elasticsearch", 7, r"refuses GET /: media_type_header_exception|is not OpenSearch"),
        ("elasticsearch", "opensearch", 9, r"is not Elasticsearch \(set flavour: opensearch\)"),
        ("elasticsearch", "elasticsearch", 8, r"is older than the client \(elasticsearch 9\)"),
    ],
)
def test_another_product_or_version_is_named(place: Path, flavour: str, there: str, major: int, message: str) -> None:
    with serving(SearchCluster(there, major)) as url, pytest.raises(PipelineError, match=message):
        loaded(place, chosen(url, flavour=flavour))


@pytest.mark.parametrize("flavour", ["opensearch", "elasticsearch"])
def test_a_busy_cluster_is_asked_again_and_an_absent_one_is_one_line(place: Path, flavour: str) -> None:
    cluster = SearchCluster(flavour)
    with serving(cluster) as url:
        cluster.busy, cluster.busy_items = 1, 3
        assert loaded(place, chosen(url, flavour=flavour, wait=20.0)).startswith("60 passages")
        opened = open_retriever(chosen(url, flavour=flavour), index=place / "index")
        cluster.failed_shards = 1
        with pytest.raises(RetrieverError, match="not all shards answered"):
            opened.search(["name3"], 1)
        cluster.failed_shards = 0
        with pytest.raises(RetrieverError, match="too_many_nested_clauses") as caught:
            opened.search(["name3", "name3 " * 1100], 1)
        assert caught.value.found is not None and len(caught.value.found[0]) == 1  # type: ignore[arg-type]
    with pytest.raises(RetrieverError, match="the cluster: "):
        opened.search(["name3"], 1)
    with pytest.raises(PipelineError, match=r"does not answer: .* \(check that the cluster is running"):
        open_retriever(chosen(url, flavour=flavour), index=place / "index")


def test_a_kind_without_a_server_has_nothing_to_load(place: Path) -> None:
    with pytest.raises(PipelineError, match=r"retriever\.kind: Bm25Kind searches no server that could be loaded"):
        loaded(place, PARAMS)


@pytest.mark.parametrize("settings", [{"name": "a,b"}, {"name": "_all"}, {"flavour": "solr"}, {"nme": "a"}])
def test_wrong_parameters_are_named(settings: dict[str, str]) -> None:
    with pytest.raises(PipelineError, match=r"retriever\.opensearch\.(name|flavour|nme)"):
        chosen("http://127.0.0.1:1", **settings)
