"""The number of tokens that a model was made for, from its config.json; nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.texts import parse_json


def check_window(policy: Path, max_total_tokens: int) -> None:
    """Raise ``PipelineError`` if trajectories may outgrow the positions of the model in folder ``policy``.

    Passes a model without ``max_position_embeddings`` (its positions are unlimited), and a folder without a
    config.json, which opening the model reports.
    """
    file = policy / "config.json"
    if not file.is_file():
        return
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"not JSON: {error}", where=str(file)) from None
    has = positions(config) if isinstance(config, Mapping) else None
    if has is not None and max_total_tokens > has:
        raise PipelineError(
            f"{max_total_tokens:,} tokens, but the model has max_position_embeddings {has:,}",
            where="rollout.max_total_tokens",
            fix=f"at most {has}, or choose a model with a longer context (base_model.source)",
        )


def positions(config: Mapping[str, Any]) -> int | None:
    """Return ``max_position_embeddings`` of a configuration, or of its text part; None if absent."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping) and isinstance(part.get("max_position_embeddings"), int):
            return int(part["max_position_embeddings"])
    return None
