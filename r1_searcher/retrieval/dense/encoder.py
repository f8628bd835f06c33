"""Texts to vectors with a sentence-transformers model, and all that the vectors depend on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval.dense import models


@dataclass(frozen=True)
class Embedding:
    """How a text becomes a vector: the model (by its sha256) and the settings, as they stand in the index' meta."""

    model: str
    query_prefix: str
    passage_prefix: str
    similarity: Literal["cosine", "dot"]
    max_tokens: int
    batch: int
    dtype: str

    @classmethod
    def of(cls, settings: params.Dense, folder: Path) -> Embedding:
        """From the parameters and the model's folder. Raises ``PipelineError`` if the two contradict each other."""
        models.check_similarity(folder, settings.similarity)
        query, passage = models.prefixes(settings.model, folder, settings.query_prefix, settings.passage_prefix)
        return cls(
            models.identity(folder),
            query,
            passage,
            settings.similarity,
            settings.max_tokens,
            settings.batch,
            settings.dtype,
        )


def embedded_text(title: str, text: str) -> str:
    """What of a passage is embedded: its title on a line of its own, then its text."""
    return f"{title}\n{text}" if title else text


class Encoder:
    """An opened embedding model. Safe with several threads; one of them encodes at a time."""

    def __init__(
        self,
        folder: Path,
        embedding: Embedding,
        device: Literal["cpu", "cuda"],
        where: str = "params.yaml, index.dense",
    ) -> None:
        """Open the model of ``folder``; nothing is fetched and none of its code is run. Raises ``PipelineError``."""
        library = models.library(where)
        import torch

        self.embedding, self.device = embedding, device
        # Half precision is for a GPU: on a CPU it is slower, and no closer.
        dtype = torch.float32 if device == "cpu" else getattr(torch, embedding.dtype)
        with models.opening(str(folder)):
            self._model: Any = library.SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
        longest = self._model.max_seq_length
        self._model.max_seq_length = embedding.max_tokens if longest is None else min(longest, embedding.max_tokens)
        self.dimension: int = self._model.get_embedding_dimension()
        self._lock = threading.Lock()  # a fast tokenizer cannot be used by two threads at once

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of passages (``embedded_text``)."""
        return self._encode([self.embedding.passage_prefix + text for text in texts])

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32 of queries."""
        return self._encode([self.embedding.query_prefix + text for text in texts])

    def _encode(self, texts: list[str]) -> np.ndarray:
        with self._lock:
            vectors: np.ndarray = self._model.encode(
                texts,
                prompt="",  # the prefixes stand in the texts already, whatever the model's own default is
                batch_size=self.embedding.batch,
                normalize_embeddings=self.embedding.similarity == "cosine",
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise PipelineError(
                "the model gives vectors that are not finite",
                where=self.embedding.model[:12],
                fix="try another index.dense.dtype",
            )
        return vectors

    def depends_on(self) -> dict[str, object]:
        """What the bits of a passage's vector depend on, the query's side left out: for keys of stored vectors."""
        import sentence_transformers
        import torch
        import transformers

        settings = {name: value for name, value in vars(self.embedding).items() if name != "query_prefix"}
        return {
            **settings,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "code": artefacts.code_fingerprint("retrieval/dense/encoder.py"),
        }
