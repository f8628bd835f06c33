"""A retriever of your own: it searches a text file, one passage per line.

Lines are ranked by how many of the query's words they have. Ask it:

    mkdir -p own
    r1-searcher params examples/own_retriever/profile.yaml > own/params.yaml
    r1-searcher search "Where was Ann born?" --params own/params.yaml
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from r1_searcher.extend import retriever
from r1_searcher.files.artefacts import sha256_file
from r1_searcher.types.protocols import Passage
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


class Lines(BaseModel):
    """Parameters of ``lines``."""

    file: Path


@retriever("lines", parameters=Lines)
class LineRetriever(RetrieverKind):
    parameters: Lines

    def identify(self) -> Identity:
        name = sha256_file(self.parameters.file)  # what a search depends on, besides this file and its parameters
        return Identity(fingerprint=name, corpus=name, description=f"lines of {self.parameters.file}")

    def open(self, corpus: Path | None, take: Take) -> Any:
        return self

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        lines = self.parameters.file.read_text(encoding="utf-8").splitlines()
        return [self.best(query.lower().rstrip("?").split(), lines)[:k] for query in queries]

    def best(self, words: Sequence[str], lines: Sequence[str]) -> list[Passage]:
        scored = [(sum(word in line.lower() for word in words), place) for place, line in enumerate(lines)]
        ranked = sorted((score, -place) for score, place in scored if score)[::-1]
        return [Passage(str(-place), f"line {1 - place}", lines[-place], score) for score, place in ranked]
