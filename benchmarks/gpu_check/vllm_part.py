"""vLLM: the engine contract, speed, new weights by folder and by its own interface, memory before and after sleep."""

from __future__ import annotations

import base64
import functools
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from engine_jobs import GREEDY, SAMPLING, check_ends, jobs, run

from r1_searcher import params as contract
from r1_searcher.model_folders import load_model
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.sync import check_sync, tolerance
from r1_searcher.types.protocols import Sampling

from . import sizes, timing, tiny
from .contract import settings, true_logprobs
from .figures import Figures

_NEVER = ["this text never comes"]
ROWS, PROMPT, NEW = 256, 200, 64
PROBES = [list(range(40, 140)), [5, 9, 40, 41, 7, 120, 3]]
MASKS = [[False] + [True] * (len(ids) - 1) for ids in PROBES]


def run_part(figures: Figures) -> None:
    """The contract on a tiny policy; on a GPU then speed, weights and sleep at the small shape."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # of what this process itself sends to its engine
    dtype = "bfloat16" if figures.machine.device == "cuda" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        policies = [tiny.write_policy(Path(folder) / str(number), "qwen2", seed=number) for number in range(2)]
        engine = _engine(policies[0], settings(dtype).rollout, 0.2)
        _contract(figures, engine, policies[0], dtype)
        _load(figures, engine, policies, dtype)
        if figures.machine.device == "cuda":
            _transfer(figures, engine, policies, dtype)
            _sleep(figures, engine, "tiny")
            engine._core.engine_core.shutdown()
            del engine
            timing.forget("cuda")
            _speed(figures, Path(folder))


def _engine(policy: Path, rollout: contract.Rollout, share: float, **changes: Any) -> Any:
    vllm = rollout.vllm.model_copy(
        update={"sleep": True, "gpu_memory_utilization": share, "cpu_cache_gb": 0.2, **changes}
    )
    chosen = rollout.model_copy(update={"engine": "vllm", "vllm": vllm})
    if not torch.cuda.is_available():
        return load_engine(policy, chosen)
    import vllm as library

    configured = functools.partial(library.EngineArgs, weight_transfer_config={"backend": "ipc"})
    with mock.patch.object(library, "EngineArgs", configured):
        return load_engine(policy, chosen)


def _contract(figures: Figures, engine: Any, policy: Path, dtype: str) -> None:
    plain = load_model(policy, dtype="float32").double()
    made = run(engine, jobs(), SAMPLING)
    ends = {end for one in made for end in check_ends(engine, one, SAMPLING, set(engine._end_ids))}
    figures.note(f"turns end where they must, {dtype}", True, about=", ".join(sorted(ends)))
    expected = [true_logprobs(plain, one.ids) for one in made]
    gaps = [abs(value - true[place]) for one, true in zip(made, expected, strict=True) for place, value in one.logprobs]
    figures.note(f"gap of samples to float64, {dtype}", float(np.mean(gaps)), about=f"largest {max(gaps):.2g}")
    again = [one.ids == other.ids for one, other in zip(made, run(engine, jobs(), SAMPLING), strict=True)]
    figures.note("trajectories that are the same again", float(np.mean(again)))


def _gap(engine: Any, policy: Path, dtype: str) -> float:
    """Return the mean gap to a policy's weights in float64. Raises ``PipelineError`` if the engine has others."""
    plain = load_model(policy, dtype="float32").double()
    expected = [true_logprobs(plain, ids)[1:] for ids in PROBES]
    return check_sync(engine, PROBES, MASKS, expected, temperature=1.0, allowed=tolerance(dtype, 1.0)).mean


def _load(figures: Figures, engine: Any, policies: list[Path], dtype: str) -> None:
    for number in (1, 0):
        taken = timing.seconds(functools.partial(engine.load_weights, policies[number]), "cpu")
        figures.note(f"weights {number} by folder, gap", _gap(engine, policies[number], dtype), about=f"{taken:.2f} s")


def _transfer(figures: Figures, engine: Any, policies: list[Path], dtype: str) -> None:
    """Send weights from this process's GPU memory: vLLM's interface of CUDA IPC handles."""
    try:
        model = load_model(policies[1], dtype=dtype).to("cuda")
        weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
        taken = timing.seconds(lambda: _send(engine, weights), "cuda")
        figures.note("weights 1 by CUDA IPC, gap", _gap(engine, policies[1], dtype), about=f"{taken:.2f} s")
    except Exception as error:  # this interface is not used by the library: its faults are a finding, no more
        figures.note("weights 1 by CUDA IPC, gap", None, about=f"{type(error).__name__}: {error}"[:300])
    engine.load_weights(policies[0])


def _send(engine: Any, weights: dict[str, torch.Tensor]) -> None:
    from torch.multiprocessing.reductions import reduce_tensor

    card = str(torch.cuda.get_device_properties(0).uuid)
    sent = {name: tensor.contiguous() for name, tensor in weights.items()}  # alive until the update is finished
    told = {
        "names": list(sent),
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in sent.values()],
        "shapes": [list(tensor.shape) for tensor in sent.values()],
        "ipc_handles_pickled": base64.b64encode(
            pickle.dumps([{card: reduce_tensor(tensor)[1]} for tensor in sent.values()])
        ).decode(),
    }
    call: Callable[..., Any] = engine._core.collective_rpc
    call("init_weight_transfer_engine", kwargs={"init_info": {"packed": False}})
    call("start_weight_update")
    call("update_weights", kwargs={"update_info": told})
    call("finish_weight_update")
    engine._core.reset_prefix_cache(reset_running_requests=True)
    torch.cuda.synchronize()


def _sleep(figures: Figures, engine: Any, what: str) -> None:
    before, awake = run(engine, jobs(), GREEDY), timing.free("cuda")
    slept = timing.seconds(engine.sleep, "cuda")
    asleep = timing.free("cuda")
    woke = timing.seconds(engine.wake, "cuda")
    figures.note(f"sleep gives back, {what}", (asleep - awake) / timing.GIB, "GiB", about=f"{slept:.2f} s")
    figures.note(f"wake takes again, {what}", (asleep - timing.free("cuda")) / timing.GIB, "GiB", about=f"{woke:.2f} s")
    after = run(engine, jobs(), GREEDY)
    figures.note(f"greedy tokens are the same after sleep, {what}", [o.ids for o in before] == [o.ids for o in after])


def _speed(figures: Figures, folder: Path) -> None:
    if figures.left() < 50:
        figures.note("sampling, 256 rows", None, "tokens/s", about="no time left")
        return
    size = sizes.shape(sizes.SMALL[0], rehearsal=False)
    policy = folder / "small"
    model = sizes.new_model(size, "bfloat16", "cuda")
    model.save_pretrained(policy)
    sizes.tokenizer(size.vocabulary).save_pretrained(policy)
    params = sizes.settings(size, max_batch=ROWS)
    began = time.perf_counter()
    engine = _engine(policy, params.rollout, 0.4, max_num_batched_tokens=8192, enforce_eager=True)
    engine._end_ids = frozenset()
    figures.note("engine started in", time.perf_counter() - began, "s")
    random = np.random.default_rng(0)
    for rows in (1, 16, 64, ROWS):
        engine.start(Sampling(1.0, 1.0, max_turn_tokens=NEW, max_total_tokens=PROMPT + NEW), _NEVER)
        for row in range(rows):
            engine.add(row, random.integers(0, size.vocabulary, PROMPT).tolist(), row)
        taken = timing.seconds(lambda: _all_turns(engine), "cpu")
        figures.note(f"sampling, {rows} rows", rows * NEW / taken, "tokens/s", about="prefill included")
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    if "lm_head.weight" not in weights:
        weights["lm_head.weight"] = model.get_output_embeddings().weight.detach()
    taken = timing.seconds(lambda: engine.load_weights(policy), "cuda")
    figures.note("weights by folder", taken, "s", about=f"{size.parameters:,} parameters")
    try:
        figures.note("weights by CUDA IPC", timing.seconds(lambda: _send(engine, weights), "cuda"), "s")
    except Exception as error:  # as above
        figures.note("weights by CUDA IPC", None, "s", about=f"{type(error).__name__}: {error}"[:300])
    _sleep(figures, engine, size.name)


def _all_turns(engine: Any) -> None:
    while turns := engine.step():
        for turn in turns:
            engine.release(turn.trajectory)
