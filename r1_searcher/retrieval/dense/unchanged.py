"""A dense index is searched with the settings that it was built with; changed parameters are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.dense import models
from r1_searcher.retrieval.word_settings import REBUILD

_EMBEDDING = ("similarity", "max_tokens", "dtype")


def check_unchanged_dense(meta: Mapping[str, Any], dense: params.Dense | None, index: Path) -> None:
    """Raise ``PipelineError`` if the vectors in ``index`` were built with other settings than ``index.dense`` now says.

    ``meta``: of the dense index. Nothing is compared if ``dense`` names no model; another model is found when it is
    opened; a faiss index that was taken over keeps its own kind and storage.
    """
    if dense is None or not dense.model:
        return
    built, folder = meta["embedding"], models.locate(dense.model, "params.yaml, index.dense.model")
    query, passage = models.prefixes(dense.model, folder, dense.query_prefix, dense.passage_prefix)
    asked = {"query_prefix": query, "passage_prefix": passage, **dense.model_dump(include=set(_EMBEDDING))}
    changed = [(name, built[name], now) for name, now in asked.items() if name in built and built[name] != now]
    if "taken_over" not in meta:
        now = dense.model_dump()
        changed += [(name, value, now[name]) for name, value in meta["settings"].items() if value != now.get(name)]
    if changed:
        shown = ", ".join(f"index.dense.{name} {was!r} (now {now!r})" for name, was, now in changed)
        raise PipelineError(f"the vectors were built with {shown}", where=str(index), fix=f"{REBUILD}, or set it back")
