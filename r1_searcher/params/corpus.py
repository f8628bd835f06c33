"""``corpus``: the passages that are searched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from r1_searcher.params.base import Count, Section


class World(Section):
    """Size of a synthetic world."""

    people: Count
    films: Count
    books: Count
    cities: Count


class Kilt(Section):
    """How KILT's pages are cut."""

    words: Count  # a passage


class Corpus(Section):
    """``source: world`` writes a synthetic corpus; every other source reads ``files``.

    ``files``: passages with title and text. ``kilt``: KILT's knowledge source. ``hotpotqa_abstracts``: HotpotQA's
    Wikipedia abstracts. ``contexts``: the paragraphs that HotpotQA, 2Wiki and MuSiQue give with their questions.
    """

    source: Literal["world", "files", "kilt", "hotpotqa_abstracts", "contexts"]
    world: World
    files: list[str] = Field(default_factory=list)
    kilt: Kilt
    rows_a_part: Count  # more passages than this are written as several Parquet files

    @model_validator(mode="after")
    def _files_given(self) -> Corpus:
        if self.source != "world" and not self.files:
            raise ValueError(f"source is {self.source}, but corpus.files names none")
        return self
