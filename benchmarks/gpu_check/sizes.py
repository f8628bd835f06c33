"""Models with the published shapes and random weights, made on the device; settings and batches for them."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from r1_searcher import params as contract
from r1_searcher.plan.architecture import Architecture, known, of_config
from r1_searcher.plan.work import Workload
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update import attention
from r1_searcher.update.model import quiet
from r1_searcher.update.trainers import TorchTrainer

from . import timing
from .figures import Figures

SMALL = ("qwen2.5-0.5b", "smollm2-135m")
LARGE = ("qwen2.5-3b", "qwen2.5-0.5b", "smollm2-135m")
WORK = Workload()


def shape(name: str, *, rehearsal: bool) -> Architecture:
    """Return a published shape; in a rehearsal a tiny one in its place."""
    if not rehearsal:
        return known(name)
    from transformers import Qwen2Config

    config = Qwen2Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    )
    return of_config(config, f"{name}, rehearsed")


def largest_that_works(
    figures: Figures,
    names: tuple[str, ...],
    needs: Callable[[Architecture], float],
    run: Callable[[Architecture], None],
) -> None:
    """Call ``run`` with the first shape that fits by the plan's ``needs`` in bytes, and that the device really has the
    memory for. What did not fit is noted; if nothing fits, the last error is raised."""
    device = figures.machine.device
    failed: Exception | None = None
    for name in names:
        size = shape(name, rehearsal=figures.machine.rehearsal)
        wanted, there = needs(size), timing.free(device)
        if wanted > there:
            figures.note(
                f"{name} fits", False, about=f"needs {wanted / timing.GIB:.1f} GiB, {there / timing.GIB:.1f} free"
            )
            continue
        try:
            figures.note("model", size.name)
            run(size)
            return
        except torch.cuda.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # its frames hold the tensors
            figures.note(f"{name} fits", False, about="torch ran out of memory: " + str(error).partition("\n")[0][:160])
        gc.collect()
        timing.forget(device)
    raise failed or RuntimeError("no size fits into this device's memory")


def settings(size: Architecture, *, update: dict[str, Any] | None = None, **rollout: Any) -> contract.Params:
    """Return the shipped parameters for one GPU, with a sequence limit as in the small profiles."""
    base = contract.shipped()
    packed = {"trainer": "torch", "layout": "packed", "dtype": "bfloat16", "minibatches": 1, "loss_mean": "trajectory"}
    changes = {
        "hardware": base.hardware.model_copy(update={"gpus": 1, "trainer_gpus": 1, "engine_gpus": 1}),
        "rollout": base.rollout.model_copy(
            update={"dtype": "bfloat16", "k": 3, "max_total_tokens": 4096, "max_passage_tokens": 256} | rollout
        ),
        "update": base.update.model_copy(update=packed | (update or {})),
    }
    made: contract.Params = base.model_copy(update=changes)
    return made


def new_model(size: Architecture, dtype: str, device: str, **more: Any) -> Any:
    """Return the model on the device, with random weights from seed 0."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(size.config)
    config.max_position_embeddings = 32768
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), **more).eval()


@functools.cache
def tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with as many words as the model has tokens; none of them ends a text."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number} ": number for number in range(vocabulary)}
    made = Tokenizer(models.WordLevel(words, unk_token="w0 "))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0 ")


@contextlib.contextmanager
def trainer(
    size: Architecture, params: contract.Params, device: str, *, blocks: bool = False
) -> Iterator[TorchTrainer]:
    """Yield the torch trainer on a model of random weights. No weights are read: only ``load_model`` is replaced.

    ``blocks``: use the attention registered as ``attention.BLOCKS``, also where flash-attn is installed.
    """

    def load(policy: Path, update: contract.Update, *, trained: bool) -> Any:
        name = attention.implementation(update, size.config)
        if blocks and update.layout == "packed":
            name = attention.BLOCKS
        model = new_model(size, update.dtype, device, attn_implementation=name)
        return quiet(model, checkpointing=trained and update.gradient_checkpointing)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("r1_searcher.update.trainer.load_model", load),
        mock.patch("r1_searcher.update.trainer.weights_sha256", lambda policy: ""),
    ):
        made = TorchTrainer(Path(folder), params.update, learning_rate=1e-6)
        try:
            yield made
        finally:
            made.close()


def batch(size: Architecture, tokens: int, *, length: float) -> TrainingBatch:
    """Return about ``tokens`` random tokens in trajectories of ``length`` tokens in the mean, 0.4 to 1.6 of it, with
    the plan's share of policy tokens, in the middle and at the end."""
    generator = np.random.default_rng(0)
    share = WORK.policy_tokens / (WORK.policy_tokens + WORK.prompt_tokens + WORK.searches * 3 * WORK.passage_tokens)
    ids, masks = [], []
    for _ in range(max(round(tokens / length), 2)):
        number = int(generator.uniform(0.4 * length, 1.6 * length))
        own = max(int(number * share), 2)
        mask = np.zeros(number, dtype=bool)
        mask[number - own // 2 :] = True
        mask[number // 3 : number // 3 + own - own // 2] = True
        ids.append(generator.integers(0, size.vocabulary, number).tolist())
        masks.append(mask.tolist())
    counts = [sum(mask) for mask in masks]
    old = [[-float(np.log(size.vocabulary))] * count for count in counts]
    return TrainingBatch(ids, masks, [generator.normal(0, 1, count).tolist() for count in counts], old)
