"""Tokens per second of the update: packed, padded, and a plain torch step on the same packed passes, in turn.

    python benchmarks/update.py                                         the laptop's model and batch, float32
    python benchmarks/update.py --model smollm2-135m --trajectories 8 --tokens 250 --minibatches 1 [--dtype bfloat16]
    python benchmarks/update.py --model qwen2.5-0.5b --dtype bfloat16 --trajectories 64 --tokens 1259
        --pass-tokens 16384 --checkpointing --peak 989e12               on a GPU: not run yet by anybody

Models have random weights. Tokens are those of the trajectories, without padding. The plain step is the minimum: the
same model, attention, passes and loss, torch's AdamW on the weights as they are, no DeepSpeed, no metrics (in bfloat16
without the float32 weights that the trainer keeps). The share of the peak (MFU) counts the operations that the model
needs, three forward passes, without those that checkpointing repeats.

On a CPU, seconds are processor time over all threads, which other load disturbs little; ``--wall`` uses the clock. On a
GPU they are always wall time.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher import params as contract
from r1_searcher.params import Update
from r1_searcher.plan.architecture import KNOWN, Architecture, known, of_source
from r1_searcher.plan.work import forward_operations
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update import distributed
from r1_searcher.update.model import load_model
from r1_searcher.update.optimizer import make_optimizer
from r1_searcher.update.packing import lay_out, token_offsets
from r1_searcher.update.policy import TokenPolicy, run_pass
from r1_searcher.update.policy_losses.ppo import ppo
from r1_searcher.update.trainers import DeepSpeedTrainer

LEARNING_RATE = 1e-6


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    params = contract.load()
    size = of_source(params.base_model) if options.model == "tiny" else known(options.model)
    changes: dict[str, Any] = {
        "dtype": options.dtype,
        "zero_stage": options.zero_stage,
        "minibatches": options.minibatches,
        "max_tokens_a_pass": options.pass_tokens,
        "gradient_checkpointing": options.checkpointing,
        "layout": "packed",
    }
    packed = Update.model_validate(params.update.model_dump() | changes)
    adapters = packed.lora.model_copy(update={"rank": options.lora})
    batch = made_up(options.trajectories, options.tokens, options.policy_share, size.vocabulary)
    tokens = sum(len(ids) for ids in batch.token_ids)
    with tempfile.TemporaryDirectory() as folder:
        policy = write_policy(Path(folder) / "policy", size, options.dtype)
        contenders: dict[str, Callable[[TrainingBatch], Any]] = {
            "plain": Plain(policy, packed).update,
            "packed": DeepSpeedTrainer(policy, packed, learning_rate=LEARNING_RATE).update,
            "padded": DeepSpeedTrainer(
                policy, packed.model_copy(update={"layout": "padded"}), learning_rate=LEARNING_RATE
            ).update,
        }
        if options.lora:
            low = packed.model_copy(update={"lora": adapters})
            contenders[f"lora {options.lora}"] = DeepSpeedTrainer(policy, low, learning_rate=LEARNING_RATE).update
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds + 1):
        for name, update in contenders.items():
            taken = timed(update, batch, wall=options.wall)
            if turn:  # the first is a warm-up
                seconds[name].append(taken)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{options.threads} threads"
    print(
        f"{size.name}, {size.parameters:,} parameters, {options.dtype}, ZeRO {options.zero_stage}, {where}; "
        f"{options.trajectories} trajectories, {tokens:,} tokens, {options.rounds} rounds, "
        f"{'clock' if options.wall or torch.cuda.is_available() else 'processor'} seconds"
    )
    plain = median(seconds["plain"])
    print(f"{'':<10}{'tokens/s':>12}{'slowest':>10}{'quickest':>10}{'of plain':>10}{'MFU':>8}")
    operations = 3 * forward_operations(size, tokens / options.trajectories) * tokens
    for name, own in seconds.items():
        rates = [tokens / one for one in (median(own), max(own), min(own))]
        share = f"{operations / median(own) / options.peak:>8.1%}" if options.peak else f"{'':>8}"
        print(f"{name:<10}{rates[0]:>12,.0f}{rates[1]:>10,.0f}{rates[2]:>10,.0f}{plain / median(own):>10.2f}{share}")
    if torch.cuda.is_available():
        print(f"memory, all contenders together: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def timed(update: Callable[[TrainingBatch], Any], batch: TrainingBatch, *, wall: bool) -> float:
    clock = time.perf_counter if wall or torch.cuda.is_available() else time.process_time
    _wait()
    began = clock()
    update(batch)
    _wait()
    return clock() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Plain:
    """Run the same update with torch alone."""

    def __init__(self, policy: Path, update: Update) -> None:
        _, _, self.device = distributed.start()
        self.settings = update
        self.policy = TokenPolicy(load_model(policy, update, trained=True), 1.0).to(self.device)
        self.optimizer = make_optimizer(list(self.policy.parameters()), update, LEARNING_RATE)

    def update(self, batch: TrainingBatch) -> None:
        settings, offsets = self.settings, token_offsets(batch.policy_mask)
        order = np.random.default_rng(0).permutation(len(batch.token_ids))
        old, advantages = (
            torch.from_numpy(np.concatenate([np.asarray(row, dtype=np.float32) for row in rows])).to(self.device)
            for rows in (batch.old_logprobs, batch.advantages)
        )
        weight = settings.minibatches / float(offsets[-1])
        for part in np.array_split(order, settings.minibatches):
            for piece in lay_out(
                batch.token_ids,
                batch.policy_mask,
                part.tolist(),
                max_tokens=settings.max_tokens_a_pass,
                layout="packed",
            ):
                slots = torch.from_numpy(piece.slots).to(self.device)
                logprobs, _ = run_pass(self.policy, piece, self.device)
                token = ppo(logprobs, old[slots], advantages[slots], settings)
                (token.sum() * weight).backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), settings.max_gradient_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()


def made_up(trajectories: int, tokens: float, policy_share: float, vocabulary: int) -> TrainingBatch:
    """Draw random tokens; lengths are uniform from 0.4 to 1.6 of the mean, as spread as the released ones. The last
    turn and one in the middle are the policy's."""
    generator = np.random.default_rng(0)
    ids, masks = [], []
    for length in generator.uniform(0.4 * tokens, 1.6 * tokens, trajectories).astype(int).tolist():
        ids.append(generator.integers(0, vocabulary, length).tolist())
        own = int(length * policy_share)
        mask = np.zeros(length, dtype=bool)
        mask[length - own // 2 :] = True
        mask[length // 3 : length // 3 + own - own // 2] = True
        masks.append(mask.tolist())
    counts = [sum(mask) for mask in masks]
    usual = -float(np.log(vocabulary))  # what random weights give
    old = [[usual] * count for count in counts]
    advantages = [generator.normal(0, 1, count).tolist() for count in counts]
    return TrainingBatch(ids, masks, advantages, old)


def write_policy(folder: Path, size: Architecture, dtype: str) -> Path:
    """Write a policy folder of the architecture with random weights and an available tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    config = copy.deepcopy(size.config)
    config.max_position_embeddings = 32768
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="a").save_pretrained(folder)
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/update.py", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", choices=["tiny", *KNOWN], default="tiny", help="(default: %(default)s)")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="(default: %(default)s)")
    add("--zero-stage", type=int, choices=range(4), default=0, help="(default: %(default)s)")
    add("--trajectories", type=int, default=128, help="(default: %(default)s)")
    add("--tokens", type=float, default=120, help="of a trajectory, mean (default: %(default)s)")
    add("--policy-share", type=float, default=0.4, help="of the tokens (default: %(default)s)")
    add("--minibatches", type=int, default=2, help="optimiser steps of an update (default: %(default)s)")
    add("--pass-tokens", type=int, default=2048, help="budget of a pass (default: %(default)s)")
    add("--checkpointing", action="store_true", help="of activations")
    add("--lora", type=int, default=0, metavar="RANK", help="adapters of this rank beside the others; 0: none")
    add("--rounds", type=int, default=7, help="(default: %(default)s)")
    add("--threads", type=int, default=1, help="on a CPU (default: %(default)s)")
    add("--wall", action="store_true", help="seconds by the clock, on a CPU too")
    add("--peak", type=float, default=0.0, help="operations a second of the device, for the share of it; 0: none")
    return parser


if __name__ == "__main__":
    main()
