"""The arguments and the result of a corpus source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from r1_searcher.params.corpus import NEEDS_FILES

if TYPE_CHECKING:  # the parameters' check imports this module and must stay quick
    import pyarrow as pa

    from r1_searcher.corpus.counts import FileCount
    from r1_searcher.corpus.position import Position
    from r1_searcher.corpus.seen_ids import SeenIds
    from r1_searcher.files.streams import OnBytes
    from r1_searcher.params import Corpus

T = TypeVar("T")


@dataclass(frozen=True)
class CorpusRequest:
    """The first argument of a source; the second is its own parameters (None if it takes none).

    A user's source yields (id, title, text), three strings; an empty id becomes a hash of title and text. Passages are
    counted, and repeated and empty ones left out, like those of files.

    Attributes:
        settings: the section ``corpus`` of params.yaml.
        seed: of the run.
        files: ``corpus.files``.
        counts, position, seen: what was read before, for built-in sources that count themselves; kept up to date.
        on_bytes: called with the number of bytes read from the files.
    """

    settings: Corpus
    seed: int
    files: list[Path]
    counts: list[FileCount]
    position: Position
    seen: SeenIds
    on_bytes: OnBytes | None = None


@dataclass(frozen=True)
class Drawn:
    """A corpus made at once with its facts: tables of schema PASSAGES and FACTS."""

    passages: pa.Table
    facts: pa.Table
    metadata: Mapping[str, Any]


def reads_files(source: Callable[..., T]) -> Callable[..., T]:
    """Mark a source that requires ``corpus.files``."""
    setattr(source, NEEDS_FILES, True)
    return source
