"""Build a BM25 index of any size within a memory budget, in two passes.

The first pass streams the passages: words become numbers, their counts become sorted shards on disk, and the passages
become the file that search results are read from. It yields the frequencies and lengths of the whole corpus. The second
pass turns the shards into bm25s' score matrix, some columns at a time. The result equals an index built in one piece,
bit for bit, whatever the budget.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.progress import Paced
from r1_searcher.retrieval import word_settings
from r1_searcher.retrieval.identity import PASSAGES_FILE, content_sha256
from r1_searcher.retrieval.scores import write_scores
from r1_searcher.retrieval.shards import ShardWriter
from r1_searcher.retrieval.term_numbers import TermNumbers
from r1_searcher.retrieval.tokenizer import Tokenizer
from r1_searcher.retrieval.vocabulary import write_vocabulary
from r1_searcher.types import schemas

METHOD = "lucene"  # bm25s' name for the BM25 variant: every score is positive, so 0 means "no word matches"
META_FILE, BM25_PARAMS_FILE = "meta.json", "params.index.json"
ROWS_A_BATCH = 16_384


def build_index(
    passages: pa.Table | Iterable[pa.RecordBatch],
    index: params.Index,
    folder: Path,
    corpus_fingerprint: str,
    *,
    total: int = 0,
) -> dict[str, Any]:
    """Index ``passages`` (PASSAGES, N rows, or batches of them) into ``folder``, which is replaced whole; returns its
    meta.

    A passage is indexed as its title ``index.title_weight`` times, then its text. The files depend on the arguments
    alone (not on ``index.memory_gb``): terms are numbered by first occurrence. ``total``: the number of passages, for
    progress; 0 if unknown.

    Raises ``PipelineError`` for settings out of range and for a corpus without a single word.
    """
    check(index)
    tokenizer = word_settings.chosen_tokenizer(index)
    batches = passages.to_batches(max_chunksize=ROWS_A_BATCH) if isinstance(passages, pa.Table) else passages
    with _full_disk_named(folder), artefacts.atomic(folder, folder=True) as draft:
        shards = draft / "shards"
        shards.mkdir()
        writer = ShardWriter(shards, index.memory_gb * 1e9)
        with Paced("index", unit="passages", total=total) as paced:
            vocabulary = _read(batches, index, tokenizer, writer, draft / PASSAGES_FILE, add=paced.add)
        num_terms = len(vocabulary)
        if not num_terms:
            raise PipelineError("no passage of the corpus contains a word", fix="see `corpus` in params.yaml")
        written, lengths = writer.close()
        write_vocabulary(draft, vocabulary)
        del vocabulary  # the largest object in memory, no longer needed
        memory = index.memory_gb * 1e9
        with Paced("index", unit="scores") as paced:
            how = {"k1": index.k1, "b": index.b, "memory": memory}
            write_scores(written, lengths, num_terms, **how, folder=draft, progress=paced.add)
        shutil.rmtree(shards)
        _write_params(draft, index, len(lengths))
        word_settings.copy_tokenizer(index, draft)
        meta = {
            "corpus": corpus_fingerprint,
            "settings": {**word_settings.recorded(index), "method": METHOD},
            "num_passages": len(lengths),
            "num_terms": num_terms,
            "bm25s": version("bm25s"),
            "tokenizer": word_settings.WORDS_FORM,
            "content": content_sha256(draft),
        }
        artefacts.write_json(draft / META_FILE, meta)
    return meta


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Name the folder if the disk is full: numpy says only "n requested and m written"."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise OSError(errno.ENOSPC, str(error), str(folder)) from error


def check(index: params.Index) -> None:
    """Raise ``PipelineError`` for settings that BM25 does not have."""
    if not index.k1 >= 0:
        raise PipelineError(f"must be 0 or more, got {index.k1}", where="params.yaml, index.k1")
    if not 0 <= index.b <= 1:
        raise PipelineError(f"must lie between 0 and 1, got {index.b}", where="params.yaml, index.b")


def _read(
    batches: Iterable[pa.RecordBatch],
    index: params.Index,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    path: Path,
    *,
    add: Callable[[int], None],
) -> dict[str, int]:
    """Write the passages to ``path`` and their terms to ``writer``; return the vocabulary, term to id."""
    numbers = TermNumbers(tokenizer)
    last_title, title_ids = None, list[int]()
    # Uncompressed, so that opening maps the file and reads only the passages that are shown.
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schemas.PASSAGES) as passages:
        for batch in batches:
            passages.write_batch(batch.select(schemas.PASSAGES.names).replace_schema_metadata(None))
            for title, text in zip(batch["title"].to_pylist(), batch["text"].to_pylist(), strict=True):
                if title != last_title:  # a page's passages are adjacent
                    last_title, title_ids = title, numbers(title) * index.title_weight
                writer.add([*title_ids, *numbers(text)])
            add(batch.num_rows)
    return numbers.vocabulary


def _write_params(folder: Path, index: params.Index, num_passages: int) -> None:
    """Write the settings that ``bm25s.BM25.load`` needs."""
    settings = {"k1": index.k1, "b": index.b, "delta": 0.5, "method": METHOD, "idf_method": METHOD}
    settings |= {"dtype": "float32", "int_dtype": "int32", "num_docs": num_passages, "version": version("bm25s")}
    settings |= {"backend": "numpy"}
    (folder / BM25_PARAMS_FILE).write_text(json.dumps(settings, indent=4), encoding="utf-8")
