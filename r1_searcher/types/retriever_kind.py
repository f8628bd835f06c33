"""A kind of retriever: how it is identified without being opened, and how it is opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from r1_searcher.errors import PipelineError
from r1_searcher.types.protocols import Retriever

Take = Callable[[int], bool]  # books one paid call; false if that many were booked before


@dataclass(frozen=True)
class Identity:
    """What is searched, and how.

    ``fingerprint``: part of the keys of rollouts, equal to the opened retriever's. ``corpus``: fingerprint (or name) of
    what is searched. ``description``: the method and its settings, for people.
    """

    fingerprint: str
    corpus: str
    description: str


@dataclass(frozen=True)
class RetrieverKind(ABC):
    """The base of a kind of retriever, which ``@retriever("name")`` registers.

    The framework adds the content of a user's file and the kind's own parameters to what ``identify`` returns;
    everything else that a search depends on must be in it, e.g. the sha256 of a file that is read.

    Attributes:
        settings: all parameters (``r1_searcher.params.Params``).
        index: folder of the index, which need not exist.
        parameters: the kind's own, checked by its model; None if it has none.
        lasting: whether the same search gives the same passages later. If not, searches are recorded unless the
            user says otherwise.
        vectors: whether it searches the vectors of the index (``index.dense``), which then count as a cost.
        remote: whether a retrieval service does the searching, which cannot be served a second time.
    """

    settings: Any
    index: Path
    parameters: Any = None
    lasting: ClassVar[bool] = True
    vectors: ClassVar[bool] = False
    remote: ClassVar[bool] = False

    @abstractmethod
    def identify(self) -> Identity:
        """Return what a search depends on, without opening anything, so that a run whose rollouts are all stored opens
        no index."""

    @abstractmethod
    def open(self, corpus: Path | None, take: Take) -> Retriever:
        """Return the retriever, ready to search.

        ``corpus``: the passages that the index must belong to; None: not checked. ``take`` is called before each paid
        call. Raises ``PipelineError`` if something needed is missing.
        """

    def load(self, corpus: Path) -> str:
        """Send a corpus to the server that does the searching; return what is there now, for people.

        Raises ``PipelineError``, as every kind does that searches no server of passages.
        """
        raise PipelineError(
            f"{type(self).__name__} searches no server that could be loaded",
            where="retriever.kind",
            fix="opensearch or milvus",
        )

    def identifiable(self) -> bool:
        """Whether ``identify`` works without index and network, for a replay."""
        return True
