"""Properties of a model's configuration that rollout and update must treat alike. No torch: tensors are passed
through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from r1_searcher.errors import PipelineError


def scaled(logits: Any, config: Any) -> Any:
    """Return the model's own logits from its head's: (…, V) -> (…, V).

    Some models soft-cap them (Gemma 2), multiply them (Cohere) or divide them (Granite) after the head.
    """
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = (logits / cap).tanh() * cap
    if (factor := getattr(config, "logit_scale", None)) is not None:
        logits = logits * factor
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    return logits


def steady_length(config: Any) -> int | None:
    """Return the length up to which rotary positions do not depend on the sequence's length; None if they never do.

    Beyond it the rotary frequencies of ``dynamic`` and ``longrope`` depend on the length of the sequence (and of others
    in its batch), while a cache keeps the keys of shorter ones.
    """
    lengths = [
        int(length)
        for rope in _ropes(config)
        if rope.get("rope_type", rope.get("type")) in ("dynamic", "longrope")
        for length in (
            rope.get("original_max_position_embeddings"),
            getattr(config, "original_max_position_embeddings", None),
            getattr(config, "max_position_embeddings", None),
        )
        if length is not None
    ]
    return min(lengths, default=None)


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rotary parameters: one set, or one per kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(config, name, None)
        if isinstance(found, Mapping):
            nested = [value for value in found.values() if isinstance(value, Mapping)]
            yield from nested or [found]


def check_lengths(config: Any, max_total_tokens: int) -> None:
    """Raise ``PipelineError`` if trajectories may become longer than the model's positions allow
    (``steady_length``)."""
    limit = steady_length(config)
    if limit is not None and max_total_tokens > limit:
        raise PipelineError(
            f"above {limit} tokens this model's rotary positions depend on the length of the sequence, which neither "
            "a cache nor a batch can follow",
            where=f"rollout.max_total_tokens {max_total_tokens}",
            fix=f"at most {limit}",
        )
