"""The trainer: a DeepSpeed engine around the policy, one epoch over a batch at a time.

Deviations from DeepSpeed's usual way, each for a reason:
- a torch AdamW, never one named in DeepSpeed's configuration, which would be compiled first;
- the accumulation boundary is set by hand before each backward pass, because minibatches differ in how
  many passes they need;
- the loss of a pass is a weighted sum whose weights already hold every mean, so nothing is divided
  afterwards (DeepSpeed averages gradients over ranks; the loss is multiplied by their number).

Every rank is given the whole batch and takes its share of the passes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.contract.errors import PipelineError
from stages.contract.params import Update
from stages.contract.protocols import TrainingBatch
from stages.update import checkpoint, distributed, losses, state
from stages.update.model import COPIED_FILES, TokenPolicy, load_model, run_pass
from stages.update.packing import Ints, Pass, lay_out, token_offsets


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """What a forward pass needs of a batch."""

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]


Tokens = TrainingBatch | _Tokens


@dataclasses.dataclass
class _Arrays:
    """An update's numbers, each (P,) over all policy tokens of the batch; the last two are filled by its passes."""

    engine_old: Tensor  # the engine's log-probabilities, when it sampled
    trainer_old: Tensor | None  # the trainer's before the first step, where a minibatch needs them
    advantages: Tensor
    weights: Tensor  # of the loss, for the present minibatch
    new: Tensor  # the trainer's log-probabilities in the training pass
    entropy: Tensor


class DeepSpeedTrainer:
    """Implements ``protocols.Trainer``. One at a time in a process: ``close`` before making another of another size.

    Args:
        policy: Hugging Face folder to start from.
        update: the ``update`` section of the parameters.
        learning_rate, warmup_iterations: AdamW's rate, reached linearly over the first iterations.
        temperature: of the sampling; the trained policy is the tempered one.
        seed: together with the iteration's number it decides which trajectory is in which minibatch.
        threads: torch's threads on a CPU, for the whole process; None: as they are.
        reference: policy folder of the KL anchor; read only where ``kl_coefficient`` > 0. None: ``policy``.
    """

    def __init__(
        self,
        policy: Path,
        update: Update,
        *,
        learning_rate: float,
        warmup_iterations: int = 0,
        temperature: float = 1.0,
        seed: int = 0,
        threads: int | None = None,
        reference: Path | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.settings, self.learning_rate, self.warmup_iterations = update, learning_rate, warmup_iterations
        self.seed, self.temperature = seed, temperature
        self.iteration = 0  # updates done
        self.optimizer_steps = 0
        self._copied = {
            name: (policy / name).read_bytes() for name in COPIED_FILES if (policy / name).is_file()
        }  # read now: the parent's folder may be gone when this policy is saved
        self.rank, self.world_size, self.device = distributed.start()
        module = TokenPolicy(load_model(policy, update, trained=True), temperature).to(self.device)
        self.engine = distributed.initialize(module, update, learning_rate)
        if hasattr(self.engine.optimizer, "check_grad_overflow"):  # a step with broken gradients is not taken
            self.engine.optimizer.check_grad_overflow = True
        self._reference: TokenPolicy | None = None
        if update.kl_coefficient > 0:
            frozen = load_model(reference or policy, update, trained=False)
            self._reference = TokenPolicy(frozen, temperature).to(self.device)

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Log-probabilities (P_b,) of the policy tokens under the present weights, without gradient."""
        batch = _Tokens(token_ids, policy_mask)
        return _split(self._forward(self.engine, batch, range(len(token_ids))), policy_mask)

    def reference_logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """The same under the frozen reference policy. ``PipelineError`` where none was loaded."""
        if self._reference is None:
            raise PipelineError("there is no reference policy", where="update.kl_coefficient", fix="set it above 0")
        batch = _Tokens(token_ids, policy_mask)
        return _split(self._forward(self._reference, batch, range(len(token_ids))), policy_mask)

    def update(self, batch: TrainingBatch) -> dict[str, float]:
        """One epoch over the batch: ``minibatches`` optimiser steps. Returns means over the batch's policy tokens.

        Raises ``PipelineError`` for a loss or gradient that is not finite; that step is not taken.
        """
        settings, offsets = self.settings, token_offsets(batch.policy_mask)
        order = np.random.default_rng([self.seed, self.iteration]).permutation(len(batch.token_ids))
        minibatches = [part.tolist() for part in np.array_split(order, settings.minibatches) if len(part)]
        # The first minibatch's training pass itself gives the trainer's log-probabilities before any
        # step: only the later minibatches need a pass of their own for them, and only to correct.
        late = [b for members in minibatches[1:] for b in members]
        engine_old = self._flat(batch.old_logprobs)
        arrays = _Arrays(
            engine_old=engine_old,
            trainer_old=self._forward(self.engine, batch, late) if settings.importance_cap > 0 and late else None,
            advantages=self._flat(batch.advantages),
            weights=torch.zeros_like(engine_old),
            new=torch.zeros_like(engine_old),
            entropy=torch.zeros_like(engine_old),
        )
        learning_rate = self._set_learning_rate()
        step_losses, norms = [], []
        for number, members in enumerate(minibatches):
            self._weigh(arrays.weights, members, offsets, len(minibatches))
            passes = self._share(batch, members)
            loss = torch.zeros((), device=self.device)
            for index, piece in enumerate(passes):
                self.engine.set_gradient_accumulation_boundary(index == len(passes) - 1)
                loss += self._train_pass(piece, arrays, stepped=number > 0)
            distributed.sum_over_ranks(loss)
            norms.append(self._step(loss))
            step_losses.append(loss.item())
        self.iteration += 1
        distributed.sum_over_ranks(arrays.new)
        distributed.sum_over_ranks(arrays.entropy)
        first = torch.cat([torch.arange(offsets[b], offsets[b + 1]) for b in minibatches[0]]).to(self.device)
        return {
            "loss": float(np.mean(step_losses)),
            "gradient_norm": float(np.mean(norms)),
            "gradient_norm_max": float(np.max(norms)),
            "learning_rate": learning_rate,
            "num_policy_tokens": float(offsets[-1]),
            "num_optimizer_steps": float(len(minibatches)),
            **self._token_metrics(arrays, first),
        }

    def _token_metrics(self, arrays: _Arrays, first: Tensor) -> dict[str, float]:
        """Metrics over policy tokens; ``first`` are the slots of the first minibatch, before which no step was."""
        metrics = {"entropy": arrays.entropy.double().mean().item()}
        engine_old, cap = arrays.engine_old, self.settings.importance_cap
        if cap == 0:
            metrics |= losses.ratio_metrics(arrays.new, engine_old, arrays.advantages, self.settings.clip)
            return metrics | losses.gap_metrics(arrays.new[first], engine_old[first])
        old = arrays.new.clone() if arrays.trainer_old is None else arrays.trainer_old
        old[first] = arrays.new[first]
        metrics |= losses.ratio_metrics(arrays.new, old, arrays.advantages, self.settings.clip)
        return metrics | losses.gap_metrics(old, engine_old) | losses.importance_metrics(old, engine_old, cap)

    def _train_pass(self, piece: Pass, arrays: _Arrays, *, stepped: bool) -> Tensor:
        """Forward and backward over one pass; this rank's part of the minibatch's loss.

        ``stepped``: whether the weights have moved since the update began. Where they have not, the pass's
        own log-probabilities are the trainer's old ones.
        """
        slots = torch.from_numpy(piece.slots).to(self.device)
        logprobs, entropies = run_pass(self.engine, piece, self.device)  # (N,), (N,)
        engine_old, advantages = arrays.engine_old[slots], arrays.advantages[slots]
        if self.settings.importance_cap > 0:
            old = arrays.trainer_old[slots] if stepped and arrays.trainer_old is not None else logprobs.detach()
            token = losses.token_losses(logprobs, old, advantages, self.settings.clip)  # (N,)
            token = token * losses.importance_weights(old, engine_old, self.settings.importance_cap)
        else:
            token = losses.token_losses(logprobs, engine_old, advantages, self.settings.clip)  # (N,)
        loss = (token * arrays.weights[slots]).sum() * float(piece.counted)
        self.engine.backward(loss * self.world_size)  # DeepSpeed averages over ranks
        if piece.counted:
            arrays.new[slots], arrays.entropy[slots] = logprobs.detach(), entropies
        return loss.detach()

    def _step(self, loss: Tensor) -> float:
        """Clip and step; the gradient's norm before clipping. Broken numbers stop the run before the step."""
        limit = self.settings.max_gradient_norm
        if state.is_plain(self.engine):  # DeepSpeed clips in float32 stage 0 too, but keeps the norm to itself
            norm = float(torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), limit))
            finite = bool(torch.isfinite(loss)) and math.isfinite(norm)
            if finite:
                self.engine.step()
        else:
            finite = bool(torch.isfinite(loss))
            if finite:
                self.engine.step()
                norm = float(self.engine.get_global_grad_norm() or 0.0)
                finite = math.isfinite(norm) and self.engine.was_step_applied()
        if not finite:
            self.engine.optimizer.zero_grad()
            raise PipelineError(
                f"the update's loss ({loss.item():g}) or its gradient is not finite; the step was not taken",
                where=f"iteration {self.iteration}",
                fix="lower the learning rate, or look for broken log-probabilities in the rollouts",
            )
        self.optimizer_steps += 1
        return norm

    def _set_learning_rate(self) -> float:
        """Linear warm-up over iterations, then constant."""
        share = min(1.0, (self.iteration + 1) / max(1, self.warmup_iterations))
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.learning_rate * share
        return self.learning_rate * share

    def _weigh(self, weights: Tensor, members: list[int], offsets: Ints, minibatches: int) -> None:
        """Put the loss weights of a minibatch's tokens into ``weights`` (P,)."""
        parts = losses.loss_weights(
            [int(offsets[b + 1] - offsets[b]) for b in members],
            self.settings.loss_mean,
            batch_tokens=int(offsets[-1]),
            minibatches=minibatches,
        )
        for b, part in zip(members, parts, strict=True):
            weights[offsets[b] : offsets[b + 1]] = part

    def _share(self, batch: Tokens, members: Sequence[int]) -> list[Pass]:
        """This rank's passes. Every rank has equally many, as collectives need: one without work of its own
        runs the first pass again and does not count it."""
        longest_row = self.settings.max_tokens_a_pass
        if self.world_size > 1:
            tokens = sum(len(batch.token_ids[b]) for b in members)
            longest_row = min(longest_row, math.ceil(tokens / self.world_size))
        passes = lay_out(
            batch.token_ids, batch.policy_mask, members, max_tokens=longest_row, layout=self.settings.layout
        )
        idle = dataclasses.replace(passes[0], counted=False)
        passes += [idle] * (-len(passes) % self.world_size)
        return passes[self.rank :: self.world_size]

    def _forward(self, policy: Any, batch: Tokens, members: Sequence[int]) -> Tensor:
        """Log-probabilities (P,) of the members' policy tokens, 0 on the others'; no gradient."""
        flat = torch.zeros(int(token_offsets(batch.policy_mask)[-1]), device=self.device)
        with torch.no_grad():
            for piece in self._share(batch, members):
                logprobs, _ = run_pass(policy, piece, self.device)
                if piece.counted:
                    flat[torch.from_numpy(piece.slots).to(self.device)] = logprobs
        distributed.sum_over_ranks(flat)
        return flat

    def _flat(self, rows: list[list[float]]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(row, dtype=np.float32) for row in rows])).to(self.device)

    def export_weights(self) -> dict[str, Tensor]:
        """The policy's tensors by their Hugging Face names, for an engine in the same process.

        They are the trainer's own (no copy below ZeRO stage 3): the next update changes them in place, so
        copy what is to be kept. All ranks must call.
        """
        return state.weights(self.engine)

    def save_policy(self, policy: Path, *, step: int, parent: str) -> str:
        """Write a policy folder (safetensors, tokenizer, manifest) alone; returns the sha256 of its weights on rank 0.

        All ranks must call. Tensors are gathered and written one by one: rank 0 holds one of them beside its part of
        the model, however many there are.
        """
        weights, model = state.weight_entries(self.engine), self.engine.module.model
        sha256 = checkpoint.write_policy(
            policy, model, weights, self._copied, step=step, parent=parent, writes=self.rank == 0
        )
        distributed.barrier()
        return sha256

    def save(self, policy: Path, *, step: int, parent: str, trainer_state: Path | None = None) -> None:
        """Write a policy folder as ``save_policy`` does, and trainer state beside it.

        ``trainer_state`` None: the folder ``trainer_state`` beside ``policy``. All ranks must call.
        """
        sha256 = self.save_policy(policy, step=step, parent=parent)
        moments = state.moment_entries(self.engine) if self.optimizer_steps else []
        numbers = {"iteration": self.iteration, "optimizer_steps": self.optimizer_steps, "seed": self.seed}
        folder = trainer_state or policy.parent / checkpoint.STATE_FOLDER
        checkpoint.write_state(folder, moments, {**numbers, "policy_sha256": sha256}, writes=self.rank == 0)
        distributed.barrier()

    def load(self, policy: Path, trainer_state: Path | None = None) -> None:
        """Take up weights and trainer state where a ``save`` left them: what follows is as if never interrupted."""
        folder = trainer_state or policy.parent / checkpoint.STATE_FOLDER
        tensors, moments, numbers = checkpoint.read(policy, folder)
        if numbers["seed"] != self.seed:
            raise PipelineError(
                f"the trainer state was made with seed {numbers['seed']}, not {self.seed}", where=str(folder)
            )
        state.set_weights(self.engine, tensors)
        if numbers["optimizer_steps"]:
            if not state.is_plain(self.engine):
                self._step_at_rest()
            state.set_optimizer_state(self.engine, moments, tensors, numbers["optimizer_steps"])
        self.iteration, self.optimizer_steps = numbers["iteration"], numbers["optimizer_steps"]

    def _step_at_rest(self) -> None:
        """An optimiser step that moves nothing: DeepSpeed's optimisers make their state in the first one."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = 0.0
        piece = lay_out([[0, 0]], [[False, True]], [0], max_tokens=1, layout=self.settings.layout)[0]
        self.engine.set_gradient_accumulation_boundary(True)
        logprobs, _ = run_pass(self.engine, piece, self.device)
        self.engine.backward(logprobs.sum() * 0.0)
        self.engine.step()

    def close(self) -> None:
        """Let go of the engine's hooks and buffers."""
        self.engine.destroy()


def _split(flat: Tensor, policy_mask: Sequence[Sequence[bool]]) -> list[list[float]]:
    """(P,) -> [b] (P_b,)."""
    values, offsets = flat.cpu().numpy(), token_offsets(policy_mask)
    return [values[start:end].tolist() for start, end in itertools.pairwise(offsets)]
