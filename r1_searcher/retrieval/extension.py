"""A user's own kind of retriever: its errors and results are checked, and its file is in its fingerprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import RAISED, Extension, place_of, wrap_user_errors
from r1_searcher.files import artefacts
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, whole, windows_of
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@dataclass(frozen=True)
class ExtensionKind(RetrieverKind):
    """Wraps a user's kind. Raises ``PipelineError`` with the place in the user's file."""

    found: Extension = field(kw_only=True)

    @property
    def lasting(self) -> bool:  # type: ignore[override]  # the user's class says it
        return bool(self._registered().value.lasting)

    def identify(self) -> Identity:
        found = self._registered()
        with wrap_user_errors(found.file, f"identify of the retriever {found.registered.name!r}"):
            said = self._kind().identify()
        if not isinstance(said, Identity) or not all(isinstance(text, str) for text in vars(said).values()):
            raise PipelineError(
                f"identify of the retriever {found.registered.name!r} must return an Identity of three strings, "
                f"got {said!r:.60}",
                where=str(found.file),
            )
        own = None if self.parameters is None else self.parameters.model_dump(mode="json")
        names = {"said": said.fingerprint, "file": artefacts.sha256_file(found.file), "parameters": own}
        return replace(said, fingerprint=artefacts.fingerprint({"kind": found.registered.name, **names}))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        found = self._registered()
        fingerprint = self.identify().fingerprint
        with wrap_user_errors(found.file, f"open of the retriever {found.registered.name!r}"):
            opened = self._kind().open(corpus, take)
        if not callable(getattr(opened, "search", None)):
            raise PipelineError(
                f"open of the retriever {found.registered.name!r} must return something that has search(queries, k), "
                f"got {opened!r:.60}",
                where=str(found.file),
            )
        return CheckedRetriever(opened, fingerprint, found)

    def identifiable(self) -> bool:
        found = self._registered()
        with wrap_user_errors(found.file, f"identifiable of the retriever {found.registered.name!r}"):
            return bool(self._kind().identifiable())

    def _registered(self) -> Extension:
        if not (isinstance(self.found.value, type) and issubclass(self.found.value, RetrieverKind)):
            raise PipelineError(
                f"the retriever {self.found.registered.name!r} is not a subclass of RetrieverKind",
                where=str(self.found.file),
                fix="from r1_searcher.types.retriever_kind import RetrieverKind",
            )
        return self.found

    def _kind(self) -> RetrieverKind:
        made: RetrieverKind = self._registered().value(self.settings, self.index, self.parameters)
        return made


class CheckedRetriever:
    """Wraps a user's retriever. An exception on a query, or a result other than a list of at most k passages, becomes
    that query's ``RetrieverError``."""

    fingerprint: str

    def __init__(self, retriever: Retriever, fingerprint: str, found: Extension) -> None:
        self._retriever, self._found = retriever, found
        self.fingerprint = fingerprint

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the user's passages, checked."""
        return whole([self._checked(entry, k) for entry in search_each(_Raising(self), queries, k)])

    def ask(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the result of the user's retriever unchanged; its exceptions become ``RetrieverError``."""
        found: Any = self._called(self._retriever.search, list(queries), k)
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise RetrieverError(f"{self._found.file}: search must return a list for each query, got {found!r:.60}")
        return list(found)

    @property
    def opens(self) -> bool:
        """See ``Windows``: only if the user's retriever has ``around``."""
        return windows_of(self._retriever) is not None

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return the user's window, checked."""
        windows = windows_of(self._retriever)
        assert windows is not None, "the user's retriever has no windows"
        found: Any = self._called(windows.around, passage, before, after)
        return whole([self._checked(found, before + 1 + after, "around", "")])[0]

    def _called(self, function: Callable[..., Any], *arguments: object) -> Any:
        try:
            return function(*arguments)
        except (RetrieverError, PipelineError):
            raise
        except RAISED as error:
            place = place_of(error, self._found.file)
            raise RetrieverError(f"{place}: {type(error).__name__}: {error}") from error

    def _checked(
        self, entry: list[Passage] | RetrieverError, k: int, name: str = "search", each: str = " a query"
    ) -> list[Passage] | RetrieverError:
        if isinstance(entry, RetrieverError):
            return entry
        if not isinstance(entry, Sequence) or not all(map(_is_passage, entry)):
            return RetrieverError(
                f"{self._found.file}: {name} must give{each} a list of Passage (three strings and a finite score), "
                f"got {entry!r:.80}"
            )
        if len(entry) > k:
            return RetrieverError(f"{self._found.file}: {name} gave{each} {len(entry)} passages, not at most {k}")
        return [replace(passage, score=float(passage.score)) for passage in entry]


class _Raising:
    """Lets ``search_each`` retry query by query after a failed call."""

    def __init__(self, checked: CheckedRetriever) -> None:
        self.fingerprint = checked.fingerprint
        self.search = checked.ask


def _is_passage(value: object) -> bool:
    if not isinstance(value, Passage):
        return False
    score: object = value.score
    return (
        all(isinstance(text, str) for text in (value.passage_id, value.title, value.text))
        and isinstance(score, int | float)
        and math.isfinite(score)
    )
