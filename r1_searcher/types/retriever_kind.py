"""What a kind of retriever is: how it is named without being opened, and how it is opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from r1_searcher.types.protocols import Retriever

Take = Callable[[int], bool]  # books one paid call; false if that many were booked before


@dataclass(frozen=True)
class Identity:
    """What is searched, and how. ``fingerprint``: what rollouts are keyed by, and the opened retriever's own.
    ``corpus``: fingerprint (or name) of what is searched. ``description``: the method and its settings, for people."""

    fingerprint: str
    corpus: str
    description: str


@dataclass(frozen=True)
class RetrieverKind(ABC):
    """The base of a kind of retriever, which ``@retriever("name")`` registers.

    The framework adds the content of a user's file and the kind's own parameters to what ``identify`` says: they need
    not be in there, but whatever else a search depends on must be, e.g. the sha256 of a file that is read.

    Attributes:
        settings: all parameters (``r1_searcher.params.Params``).
        index: folder of the index, which need not be there.
        parameters: the kind's own, checked by its model; None if it has none.
        lasting: whether the same search gives the same passages tomorrow. If not, searches are recorded unless the
            user says otherwise.
    """

    settings: Any
    index: Path
    parameters: Any = None
    lasting: ClassVar[bool] = True

    @abstractmethod
    def identify(self) -> Identity:
        """What a search depends on; nothing is opened, so that a run whose rollouts are all stored opens no index."""

    @abstractmethod
    def open(self, corpus: Path | None, take: Take) -> Retriever:
        """The retriever, ready to search.

        ``corpus``: the passages that the index must belong to; None: not checked. ``take`` is asked before each paid
        call. Raises ``PipelineError`` for whatever is needed and not there.
        """

    def identifiable(self) -> bool:
        """Whether ``identify`` works here as it is, for a replay that has neither index nor network."""
        return True
