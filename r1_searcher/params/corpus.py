"""``corpus``: the passages to search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from r1_searcher.extensions import Point
from r1_searcher.params.base import Count, Section
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import CORPUS_SOURCES

NEEDS_FILES = "__needs_files__"  # marks a source that requires ``files``


class WorldSize(Section):
    """The size of a synthetic world."""

    people: Count
    films: Count
    books: Count
    cities: Count


class Kilt(Section):
    """How KILT's pages are cut."""

    words: Count  # per passage


class Corpus(Extensible):
    """``source: world`` writes a synthetic corpus; the other built-in sources read ``files``.

    ``files``: passages with title and text. ``kilt``: KILT's knowledge source. ``hotpotqa_abstracts``: HotpotQA's
    Wikipedia abstracts. ``contexts``: the paragraphs that HotpotQA, 2Wiki and MuSiQue give with their questions.
    """

    points: ClassVar[Mapping[str, Point]] = {"source": CORPUS_SOURCES}
    section: ClassVar[str] = "corpus"

    source: str  # a file of r1_searcher/corpus/sources, or a name of the user's own
    world: WorldSize
    files: list[str] = Field(default_factory=list)  # a folder or pattern stands for all its files
    columns: dict[Literal["passage_id", "title", "text"], str | int] = Field(default_factory=dict)
    on_bad_row: Literal["stop", "skip"] = "stop"  # a row that is broken or of a wrong type
    kilt: Kilt
    # Longer passages of files and of the user's own source are cut into passages of so many words; 0: not cut. In
    # scripts without spaces a character is a word. (KILT's pages: kilt.words.)
    words: Annotated[int, Field(ge=0)] = 0
    rows_a_part: Count  # more passages are written as several Parquet files

    @property
    def mapping(self) -> dict[str, str | int]:
        """``columns`` as files are read with them."""
        return {str(name): path for name, path in self.columns.items()}

    @model_validator(mode="after")
    def _files_given(self) -> Corpus:
        if not self.files and getattr(self.found("source").value, NEEDS_FILES, False):
            raise ValueError(f"source is {self.source}, but corpus.files names none")
        if self.words and self.source == "world":
            raise ValueError("words: a world's passages are never cut")
        return self
