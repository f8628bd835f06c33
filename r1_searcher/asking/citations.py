"""Find out which of the passages that a policy was shown contain its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r1_searcher.rewards.metrics import normalise
from r1_searcher.types.protocols import Passage


@dataclass(frozen=True)
class Search:
    """A search of the policy's: its query and what it was shown, best first; ``error`` if the search failed."""

    query: str
    passages: tuple[Passage, ...]
    error: str | None = None


@dataclass(frozen=True)
class Citation:
    """A passage in which the whole answer stands, normalised as for EM; ``search`` and ``rank`` count from 1."""

    search: int
    rank: int
    passage: Passage


def citations(answer: str | None, searches: Sequence[Search]) -> list[Citation]:
    """Return the passages whose title or text holds the answer's words in their order, each passage once.

    Empty if there is no answer, and for yes and no, which occur in any text.
    """
    if not can_be_cited(answer):
        return []
    words = normalise(answer or "")
    found, seen = [], set[str]()
    for number, search in enumerate(searches, 1):
        for rank, passage in enumerate(search.passages, 1):
            if passage.passage_id in seen:
                continue
            if f" {words} " in f" {normalise(passage.title)} {normalise(passage.text)} ":
                seen.add(passage.passage_id)
                found.append(Citation(number, rank, passage))
    return found


def can_be_cited(answer: str | None) -> bool:
    """Return whether it is worth looking for: it has words other than yes and no."""
    return normalise(answer or "") not in ("", "yes", "no")
