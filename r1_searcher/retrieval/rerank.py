"""A cross-encoder that reads query and passage together and reorders another retriever's results."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval.dense import models
from r1_searcher.retrieval.dense.encoder import embedded_text
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, whole, windows_of

_WHERE = "params.yaml, retriever.rerank.model"
_FORM = 1  # version of this code in the fingerprint: raise it if the same passages get another order


def reranked_fingerprint(inner: str, model: str, settings: params.Rerank) -> str:
    """Return the fingerprint of a reranked search. ``inner``: the other retriever's; ``model``: of the weights."""
    kept = settings.model_dump(exclude={"model", "batch"})
    return artefacts.fingerprint([inner, model, kept, {"form": _FORM}])


def model_folder(settings: params.Rerank) -> Path:
    """Return the folder of the cross-encoder. Raises ``PipelineError``."""
    return models.locate(settings.model, _WHERE)


class RerankingRetriever:
    """Another retriever's first ``depth`` passages, reordered by a sentence-transformers CrossEncoder."""

    fingerprint: str

    def __init__(self, retriever: Retriever, settings: params.Rerank) -> None:
        """Open the model; downloads nothing beyond ``model_folder``. Raises ``PipelineError``."""
        library = models.library(_WHERE)
        folder = model_folder(settings)
        device = models.chosen_device(settings.device, "params.yaml, retriever.rerank.device")
        with models.opening(str(folder)):
            self._model: Any = library.CrossEncoder(
                str(folder),
                device=device,
                local_files_only=True,
                max_length=settings.max_tokens,
                model_kwargs={"use_safetensors": True},
            )
        if self._model.num_labels != 1:
            raise PipelineError(
                f"gives {self._model.num_labels} scores per pair, not one", where=f"{_WHERE}, {settings.model}"
            )
        self._retriever, self._settings = retriever, settings
        self._lock = threading.Lock()  # a fast tokenizer is not safe for two threads
        self.fingerprint = reranked_fingerprint(retriever.fingerprint, models.identity(folder), settings)

    @property
    def opens(self) -> bool:
        """See ``Windows``."""
        return windows_of(self._retriever) is not None

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """Return the other retriever's window: the cross-encoder orders search results only."""
        windows = windows_of(self._retriever)
        assert windows is not None, "the other retriever has no windows"
        return windows.around(passage, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` per query by the cross-encoder's score, ties in the former order. Failed searches stay
        failed."""
        found = search_each(self._retriever, queries, max(self._settings.depth, k))
        pairs = [
            (query, embedded_text(passage.title, passage.text))
            for query, entry in zip(queries, found, strict=True)
            if not isinstance(entry, RetrieverError)
            for passage in entry
        ]
        scores = iter(self._scores(pairs))
        ordered: list[list[Passage] | RetrieverError] = []
        for entry in found:
            if isinstance(entry, RetrieverError):
                ordered.append(entry)
                continue
            scored = [Passage(one.passage_id, one.title, one.text, next(scores)) for one in entry]
            ordered.append(sorted(scored, key=lambda one: -one.score)[:k])
        return whole(ordered)

    def _scores(self, pairs: list[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        with self._lock:
            scores = self._model.predict(pairs, batch_size=self._settings.batch, show_progress_bar=False)
        numbers = [float(score) for score in scores]
        if not all(map(math.isfinite, numbers)):
            raise PipelineError("gives scores that are not finite numbers", where=f"{_WHERE}, {self._settings.model}")
        return numbers
