"""The names that `import r1_searcher` offers: each exists, is documented, and is loaded on access."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import r1_searcher
from r1_searcher.errors import PipelineError
from r1_searcher.types.arrays import Floats
from r1_searcher.update.advantages import Samples

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(r1_searcher._names()))
def test_every_name_is_there_with_a_docstring(name: str) -> None:
    module, there = r1_searcher._names()[name]
    found = getattr(r1_searcher, name)
    assert found is getattr(sys.modules[module], there)
    assert found.__doc__ and name in dir(r1_searcher)


def test_the_main_names_are_offered() -> None:
    wanted = "build_index open_index open_retriever roll_out reward_table compute_advantages compare_evaluations"
    wanted += " index_passages serve_retriever open_service read_questions evaluate_policy"
    wanted += " Transcript format_violations neutralise SearchRecord RecordingRetriever ReplayRetriever"
    wanted += " load_trainer update_policy token_losses loss_weights Tool RetrieverError PipelineError"
    assert set(wanted.split()) < set(r1_searcher.__all__) == set(r1_searcher._names())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        r1_searcher.serch  # noqa: B018


def test_passages_are_rows_or_a_table(tmp_path: Path) -> None:
    rows = [{"title": "Fog", "text": "Fog is a book by Ann"}, {"text": "Ann was born in Rome", "passage_id": "a"}]
    found = r1_searcher.index_passages(rows, tmp_path / "rows").search(["Ann", "Fog", "nobody"], 2)
    assert [[passage.passage_id for passage in one] for one in found] == [["a", "0"], ["0"], []]
    table = pa.table({name: [row.get(name) for row in rows] for name in ("title", "text", "passage_id")})
    assert (
        r1_searcher.index_passages(table, tmp_path / "table").fingerprint
        == r1_searcher.open_index(tmp_path / "rows").fingerprint
    )
    with pytest.raises(PipelineError, match=r"passage 1: has no text \(a passage is a row with `text`"):
        r1_searcher.index_passages([{"text": "Ann"}, {"title": "Fog"}], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_retriever_is_served_while_the_block_runs(tmp_path: Path) -> None:
    retriever = r1_searcher.index_passages([{"text": "Ann was born in Rome"}], tmp_path / "index")
    with r1_searcher.serve_retriever(retriever) as url:
        served = r1_searcher.open_service(url)
        assert served.fingerprint == retriever.fingerprint
        assert served.search(["Ann"], 1) == retriever.search(["Ann"], 1)
        with pytest.raises(PipelineError, match="fingerprint"):
            r1_searcher.open_service(url, fingerprint="another")
        taken = int(url.rpartition(":")[2])
        with pytest.raises(PipelineError, match="cannot listen"), r1_searcher.serve_retriever(retriever, port=taken):
            pass
    with pytest.raises(PipelineError, match="no retrieval service answers at"):
        r1_searcher.open_service(url, wait=0)


def test_an_estimator_is_named_or_given() -> None:
    def own(samples: Samples) -> tuple[list[Floats], list[Floats]]:
        return samples.returns(samples.rewards), samples.returns(samples.rewards)

    batch = ([1.0, 0.0], ["a", "a"], [1, 1])
    assert [values.tolist() for values in r1_searcher.compute_advantages(*batch, "rloo").values] == [[1.0], [-1.0]]
    assert [values.tolist() for values in r1_searcher.compute_advantages(*batch, own).values] == [[1.0], [0.0]]
    with pytest.raises(PipelineError, match=r"no advantage estimator 'gpro' \(known: .*grpo, "):
        r1_searcher.compute_advantages(*batch, "gpro")


def test_importing_it_loads_nothing() -> None:
    code = "import sys, r1_searcher; print([name for name in sys.modules if name.startswith('r1_searcher.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
