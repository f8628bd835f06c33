"""``retriever.lucene``: how a Lucene index is searched. Defaults are Pyserini's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from r1_searcher.params.base import Count, Share


class LuceneSettings(BaseModel):
    """Parameters of ``retriever.kind: lucene``."""

    jar: Path  # Anserini's jar with its dependencies, e.g. pyserini/resources/jars/anserini-1.7.1-fatjar.jar
    k1: Annotated[float, Field(ge=0)] = 0.9
    b: Share = 0.4
    stemmer: Literal["porter", "krovetz", "none"] = "porter"  # as the index was built
    keep_stopwords: bool = False
    threads: Count = 1  # queries of a call that are searched in parallel
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # of Java's heap; the index itself is mapped
