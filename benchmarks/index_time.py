"""The time to index passages with BM25, before and after ASCII text got a short way, in one run on one core.

    python benchmarks/index_time.py --passages 200000        a corpus like Wikipedia, made first
    python benchmarks/index_time.py --corpus FOLDER          a corpus folder, or questions with paragraphs (.jsonl)

"Before" cuts every text by Unicode's rules and makes the stem of every occurrence of a word; each way runs in a process
of its own. Both write the same words: the contents of the indexes are compared. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import wikipedia_like

from r1_searcher import params
from r1_searcher.corpus.contexts import read_contexts
from r1_searcher.files import passages
from r1_searcher.retrieval import build
from r1_searcher.retrieval.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
SETTINGS: dict[str, dict[str, str]] = {
    "no stemmer": {},
    "stemmer and stop words": {"stemmer": "english", "stopwords": "english"},
}
WAYS = ("before", "after")


class FormerNumbers:
    """As ``TermNumbers``, the former way: every text by the rules of Unicode, every word stemmed anew."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocabulary: defaultdict[str, int] = defaultdict()
        self.vocabulary.default_factory = self.vocabulary.__len__
        self._tokenizer = tokenizer
        tokenizer.split = tokenizer.split_unicode  # type: ignore[method-assign]

    def __call__(self, text: str) -> list[int]:
        """The ids of the text's terms."""
        return list(map(self.vocabulary.__getitem__, self._tokenizer(text)))


def index(corpus: Path, folder: Path, way: str, settings: str) -> dict[str, object]:
    """Build an index; return its seconds of CPU, peak memory in MB, and content."""
    if way == "before":
        build.TermNumbers = FormerNumbers  # type: ignore[attr-defined, assignment]
    chosen = params.shipped().index.model_copy(
        update=SETTINGS[settings] | {"folding": "case", "tokenizer": "characters"}
    )
    began = time.process_time()
    meta = build.build_index(passages.batches(corpus), chosen, folder / "index", "corpus")
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": spent, "peak": peak, "content": meta["content"], "passages": meta["num_passages"]}


def corpus_folder(given: Path | None, number: int, folder: Path) -> Path:
    """Return the corpus to index, made if need be."""
    if given is not None and given.is_dir():
        return given
    place = folder / "corpus"
    if given is None:
        wikipedia_like.write_corpus(place, number)
    else:
        place.mkdir()
        passages.write(place, read_contexts([given], []), 1_000_000)
    return place


def main() -> None:
    """Measure and print, or do one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=200_000, help="to make (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, help="index these instead")
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "WAY", "SETTINGS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        place, way, settings = options.one
        print(json.dumps(index(options.corpus, Path(place), way, settings)))
        return
    print("| settings | passages | before, s | after, s | ratio | peak before, after, MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = corpus_folder(options.corpus, options.passages, folder)
        for settings in SETTINGS:
            found = []
            for way in WAYS:
                command = [sys.executable, __file__, "--corpus", str(corpus), "--one", name, way, settings]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ, cwd=ROOT)
                found.append(json.loads(said.stdout.splitlines()[-1]))
            before, after = found
            if before["content"] != after["content"]:
                raise SystemExit("the two ways made different words")
            print(
                f"| {settings} | {after['passages']:,} | {before['seconds']:.1f} | {after['seconds']:.1f} "
                f"| {before['seconds'] / after['seconds']:.2f} | {before['peak']:,.0f}, {after['peak']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
