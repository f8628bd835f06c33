"""Start vLLM: its environment, its arguments, and one clear line for each thing that can go wrong.

vLLM is configured by environment variables as much as by arguments. All of them are set here, before it is imported;
none that the user has set is changed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_config
from r1_searcher.types.model_config import check_lengths, steady_length

# Tokens per cache block, the fewest that the kernels allow: the prefix cache reuses only whole blocks.
BLOCK_ON_GPU, BLOCK_ON_CPU = 16, 32

TOLD = 200  # characters of vLLM's own message in an error

_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
_ON_CPU = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # a process of its own costs 20 s at the start and gains nothing
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else vLLM binds this process, which the trainer shares, to its cores
    "GLOO_LOG_LEVEL": "ERROR",
}

# Words in vLLM's own errors, and what to do. The first match counts.
_FIXES = (
    (("max_model_len", "max_position"), "lower rollout.max_total_tokens, or choose a model with more room"),
    (("kv cache", "memory"), "free memory, or change rollout.vllm.gpu_memory_utilization or cpu_cache_gb"),
    (("architecture", "not supported"), "rollout.engine: transformers"),
    (("divisible", "tensor parallel"), "choose hardware.tensor_parallel so that it divides the model's heads"),
)


def start_core(view: Path, rollout: params.Rollout, *, tensor_parallel: int) -> Any:
    """Return a running ``vllm.LLMEngine`` on the (untied) model folder ``view``, for trajectories as long as
    ``rollout`` allows."""
    import torch

    on_gpu = torch.cuda.is_available()
    settings = rollout.vllm
    for name, value in _ENVIRONMENT.items() if on_gpu else (_ENVIRONMENT | _ON_CPU).items():
        os.environ.setdefault(name, value)
    threads = torch.set_num_threads
    with _starting(view):
        try:
            from vllm import EngineArgs, LLMEngine
        except ImportError as error:
            raise _not_installed(error, on_gpu=on_gpu) from error
        arguments: dict[str, Any] = {
            "model": str(view),
            "trust_remote_code": False,
            "skip_tokenizer_init": True,  # only tokens: r1_searcher.rollout.stops finds the stops
            "generation_config": "vllm",  # not the folder's, which may cut by top-k
            "dtype": rollout.dtype,
            "max_model_len": room(view, rollout.max_total_tokens),
            "max_num_seqs": settings.max_num_seqs,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
            "enable_prefix_caching": True,
            "block_size": BLOCK_ON_GPU if on_gpu else BLOCK_ON_CPU,
            "enforce_eager": settings.enforce_eager,
            "logprobs_mode": "raw_logprobs",
            "worker_extension_cls": "r1_searcher.rollout.vllm_worker.TemperedLogits",
            "tensor_parallel_size": tensor_parallel,
            "seed": 0,  # for what its request does not seed: nothing
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if on_gpu:
            arguments |= {
                "gpu_memory_utilization": settings.gpu_memory_utilization,
                "enable_sleep_mode": settings.sleep,
            }
        else:
            # VLLM_CPU_KVCACHE_SPACE takes whole GiB and applies to every engine of the process; vLLM prefers it if the
            # user has set it.
            arguments["kv_cache_memory_bytes"] = int(settings.cpu_cache_gb * 2**30)
            # A seeded prompt prefilled in chunks makes vLLM rewind its generator, which is impossible on a CPU.
            arguments["enable_chunked_prefill"] = False
            longest: int = arguments["max_model_len"]
            arguments["max_num_batched_tokens"] = max(settings.max_num_batched_tokens, longest)
            _shield_llvmlite()
        try:
            with warnings.catch_warnings():  # vLLM's walk through all modules touches names that torch is about to drop
                warnings.simplefilter("ignore", FutureWarning)
                core = LLMEngine.from_engine_args(EngineArgs(**arguments))
        finally:
            torch.set_num_threads = threads  # vLLM's CPU worker replaces it for the whole process
    _end_alone(core)
    return core


def _end_alone(core: Any) -> None:
    """Let an in-process engine end without its shutdown, which would take torch.distributed down for the whole process,
    including a later engine and a trainer."""
    from vllm.v1.engine.core_client import InprocClient

    if isinstance(core.engine_core, InprocClient):
        core.engine_core._finalizer.detach()
        weakref.finalize(core, gc.unfreeze)  # collect again what vLLM froze at its start


def _shield_llvmlite() -> None:
    """Let vLLM's CPU worker walk through all modules if numba, which bm25s imports, is among them.

    llvmlite's library object answers any name with a function, `__dict__` too, whose entries vLLM then asks for.
    """
    ffi: Any = sys.modules.get("llvmlite.binding.ffi")
    if ffi is not None:
        ffi.lib._fntab.setdefault("__dict__", {})


def room(view: Path, max_total_tokens: int) -> int:
    """Return the positions that the engine needs: for a whole trajectory, plus one to score it if there is one."""
    config = load_config(view)
    check_lengths(config, max_total_tokens)
    lengths = (getattr(config, "max_position_embeddings", None), steady_length(config))
    has = min((length for length in lengths if length is not None), default=None)
    if has is None:
        return max_total_tokens + 1
    if has < max_total_tokens:
        raise PipelineError(
            f"the model has {has} positions, and a trajectory may have {max_total_tokens} tokens",
            where="rollout.max_total_tokens",
            fix="lower it, or choose a model with more room",
        )
    return min(max_total_tokens + 1, int(has))


def _not_installed(error: ImportError, *, on_gpu: bool) -> PipelineError:
    target = "setup-vllm" if on_gpu else "setup-vllm-cpu"
    if error.name == "vllm":
        return PipelineError("vLLM is not installed", where="rollout.engine: vllm", fix=f"make {target}")
    return PipelineError(f"vLLM cannot be imported: {error}", where="rollout.engine: vllm", fix=f"make {target}")


@contextlib.contextmanager
def _starting(view: Path) -> Iterator[None]:
    """Turn any vLLM error about models, memory or arguments into one line."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # ValueError, RuntimeError, pydantic's, torch's: the user is told all of them
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = next((line for line in lines if "Value error" in line), lines[0] if lines else "").partition(" [type=")[
            0
        ]
        if len(told) > TOLD:
            told = f"{told[:TOLD]}…"  # for an unknown architecture, vLLM lists all known ones
        fix = next((fix for words, fix in _FIXES if any(word in str(error).lower() for word in words)), None)
        raise PipelineError(
            f"vLLM did not start: {type(error).__name__}: {told}", where="rollout.engine: vllm", fix=fix
        ) from error
