"""From a file, released or a user's, to a benchmark's folder: its questions, corpus and index, and what it searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.benchmarks.releases import Release
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.types import schemas

QUESTIONS_FILE, SEARCH_FILE = "questions.parquet", "search.json"
_CORPUS, _INDEX, _PASSAGES_FILE = "corpus", "index", "passages.parquet"


def make_questions(release: Release, source: Path, index: str, limit: int, folder: Path) -> int:
    """Write the first ``limit`` questions of ``source``, and search.json; return the number of questions.

    search.json holds the index folder and the content named in its meta.json, so that what depends on ``folder`` is
    remade when that index changes. Raises ``PipelineError``.
    """
    from r1_searcher.questions.files import read_questions

    questions = read_questions(source)
    if questions.num_rows != release.num_questions:
        raise PipelineError(
            f"holds {questions.num_rows} questions, not the {release.num_questions} of the release", where=str(source)
        )
    metadata = {"benchmark": release.name, "sha256": release.sha256, "licence": release.licence}
    return _write(questions.slice(0, limit), metadata, index, folder)


def make_own_questions(name: str, chosen: params.BenchmarkSet, limit: int, folder: Path) -> int:
    """As ``make_questions``, of the user's file that ``chosen`` names, for the benchmark ``name``."""
    from r1_searcher.questions.files import read_counted

    source = Path(str(chosen.questions)).expanduser()
    questions, _ = read_counted(source, columns={str(ours): theirs for ours, theirs in chosen.columns.items()})
    metadata = {"benchmark": name, "sha256": artefacts.sha256_file(source)}
    return _write(questions.slice(0, limit), metadata, chosen.index, folder)


def _write(questions: pa.Table, metadata: dict[str, str], index: str, folder: Path) -> int:
    from r1_searcher.questions.files import without_control

    meta = artefacts.read_json(Path(index) / "meta.json")
    questions, _ = without_control(questions)
    column = questions.schema.get_field_index("dataset")
    named = pa.array([metadata["benchmark"]] * questions.num_rows, pa.string())
    questions = questions.set_column(column, schemas.QUESTIONS.field("dataset"), named)
    with sums.checksum_after(folder / QUESTIONS_FILE):
        artefacts.write_table(folder / QUESTIONS_FILE, questions, metadata)
    search = {"index": index, "content": meta.get("content")}
    if "dense" in meta:  # the fingerprint of its vectors
        search["dense"] = meta["dense"]
    with sums.checksum_after(folder / SEARCH_FILE):
        artefacts.write_json(folder / SEARCH_FILE, search)
    return int(questions.num_rows)


def make_corpus(release: Release, source: Path, settings: params.Index, folder: Path) -> dict[str, Any]:
    """Write the distinct context paragraphs of ``source`` as a corpus with its index; return the index's meta.

    A passage's id is a hash of its title and text, independent of the questions' order and number. Raises
    ``PipelineError`` for a release without paragraphs.
    """
    from r1_searcher.corpus.contexts import read_contexts
    from r1_searcher.files.passages import fingerprint
    from r1_searcher.retrieval import build_index

    if not release.contexts:
        raise PipelineError(
            f"{release.name} has no paragraphs to search",
            where="params.yaml, benchmarks.corpora",
            fix=f"leave it out there, and name an index in benchmarks.sets.{release.name}",
        )
    rows = [row | {"source": release.name} for row in read_contexts([source], [])]
    passages = pa.Table.from_pylist(rows, schema=schemas.PASSAGES)
    corpus = folder / _CORPUS
    artefacts.write_table(corpus / _PASSAGES_FILE, passages, {"benchmark": release.name, "sha256": release.sha256})
    return build_index(passages, settings, folder / _INDEX, fingerprint(corpus))
