"""Memory of a rollout engine: transformers grows a cache with its batch, vLLM fills the share that it is given.

Source: vLLM 0.32. On a GPU it measures weights and the largest step, and makes a cache of the rest of
`rollout.vllm.gpu_memory_utilization` of the card; on a CPU, one of `rollout.vllm.cpu_cache_gb`. It does not start if
the cache cannot hold one trajectory of full length. Scoring a probe (r1_searcher/rollout/sync.py) is not measured and
comes on top of its share.
"""

from __future__ import annotations

import math

from r1_searcher.params import Params
from r1_searcher.plan import search
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.memory import GIB, HEAD_BYTES, Use, named
from r1_searcher.plan.work import WIDTHS

CACHE = "KV cache"
SCORE_BYTES = 8  # per scored token's logit, besides the logit itself: as float32, and its log-softmax
_BLOCK = 32  # tokens per cache block of vLLM on a CPU; 16 on a GPU, which differs by less than a block per trajectory


def engine(model: Architecture, params: Params, memory: float) -> Use:
    """Return an engine's device of ``memory`` bytes, which is ignored without GPUs."""
    parts = _vllm(model, params, memory) if params.rollout.kind.fixed_cache else _transformers(model, params)
    parts |= search.on_gpu(params)
    return Use(named("engine", params.hardware.engine_gpus if params.hardware.gpus else 0), parts)


def _transformers(model: Architecture, params: Params) -> dict[str, int]:
    """The cache is a rectangle: `rollout.max_batch` rows, as long as the longest."""
    rollout = params.rollout
    width, rows = WIDTHS[rollout.dtype], rollout.max_batch
    return {
        "weights": width * model.parameters,
        CACHE: model.cache_bytes(width) * rollout.max_total_tokens * rows,
        "logits": rows * model.vocabulary * (HEAD_BYTES + width),
    }


def _vllm(model: Architecture, params: Params, memory: float) -> dict[str, int]:
    """Weights with an output head of their own (r1_searcher/rollout/untied.py), the largest step, and the cache: what
    vLLM is given, but at least one trajectory of full length."""
    rollout, settings, on_gpu = params.rollout, params.rollout.vllm, params.hardware.gpus > 0
    width, gpus = WIDTHS[rollout.dtype], _gpus_together(params)
    step = settings.max_num_batched_tokens
    if not on_gpu:
        step = max(step, rollout.max_total_tokens)  # on a CPU a prompt is prefilled in one pass
    measured = {
        "weights": width * (model.parameters + model.tied * model.vocabulary * model.hidden) // gpus,
        "activations": model.layer_activations(width) * step,
        "logits": settings.max_num_seqs * model.vocabulary * (HEAD_BYTES + width),
    }
    given = settings.gpu_memory_utilization * memory - sum(measured.values()) if on_gpu else settings.cpu_cache_gb * GIB
    scored = min(step, rollout.max_total_tokens)
    return {
        **measured,
        CACHE: max(int(given), _cached(model, params, rollout.max_total_tokens)),
        "scoring": scored * model.vocabulary * (SCORE_BYTES + width),
    }


def least(model: Architecture, params: Params, memory: float) -> list[Use]:
    """Return what vLLM needs to start at all, and what it is given; empty for an engine that grows."""
    settings = params.rollout.vllm
    if not params.rollout.kind.fixed_cache:
        return []
    one = {"one trajectory": _cached(model, params, params.rollout.max_total_tokens)}
    if not params.hardware.gpus:
        return [Use("vLLM's cache", one, memory=settings.cpu_cache_gb * GIB, share=1.0)]
    fixed = {name: size for name, size in _vllm(model, params, memory).items() if name not in (CACHE, "scoring")}
    return [Use("vLLM's share of a GPU", fixed | one, memory=memory, share=settings.gpu_memory_utilization)]


def _cached(model: Architecture, params: Params, tokens: float) -> int:
    """Return the bytes per device that a trajectory takes in vLLM's cache: whole blocks, with room for the next
    token."""
    blocks = math.ceil((tokens + 1) / _BLOCK)
    spread = min(_gpus_together(params), model.kv_heads)  # with more GPUs than key-value heads, some hold copies
    return model.cache_bytes(WIDTHS[params.rollout.dtype]) * blocks * _BLOCK // spread


def _gpus_together(params: Params) -> int:
    return params.hardware.tensor_parallel if params.hardware.gpus else 1


def trajectories_at_a_time(model: Architecture, params: Params, memory: float, tokens: float) -> int:
    """Return how many trajectories of ``tokens`` tokens one engine samples at once, with ``memory`` bytes per
    device."""
    rollout = params.rollout
    if not rollout.kind.fixed_cache:
        return rollout.max_batch
    held = engine(model, params, memory).parts[CACHE] // _cached(model, params, tokens)
    return min(held, rollout.vllm.max_num_seqs, rollout.max_batch)
