"""The trainer: an engine around the policy, one epoch over a batch at a time.

The engine is DeepSpeed's or, on one process, torch alone (``trainers``). The trainer deviates from DeepSpeed's usual
way for these reasons:

- a torch AdamW, never one named in DeepSpeed's configuration, which would be compiled first;
- the accumulation boundary is set by hand before each backward pass, because minibatches need different numbers of
  passes;
- a pass's loss is a weighted sum whose weights already contain every mean, so nothing is divided afterwards (DeepSpeed
  averages gradients over ranks; the loss is multiplied by their number).

Every rank is given the whole batch and takes its share of the passes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r1_searcher.errors import PipelineError
from r1_searcher.files.weights import weights_sha256
from r1_searcher.params import Update
from r1_searcher.points import LOSSES
from r1_searcher.types.arrays import Ints
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update import checkpoint, distributed, lora, losses, state
from r1_searcher.update.arrays import Arrays
from r1_searcher.update.finite_step import take_step
from r1_searcher.update.model import COPIED_FILES, load_model
from r1_searcher.update.packing import Pass, lay_out, token_offsets
from r1_searcher.update.policy import TokenPolicy, run_pass
from r1_searcher.update.shards import TensorEntry, Tensors
from r1_searcher.update.tensor_check import check_tensors


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """The part of a batch that a forward pass needs."""

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]


Tokens = TrainingBatch | _Tokens


class PolicyTrainer:
    """Implements ``protocols.Trainer`` on the engine of a subclass.

    Only one per process: ``close`` it before making another.

    Args:
        policy: Hugging Face folder to start from.
        update: the ``update`` section of the parameters.
        learning_rate, warmup_iterations: AdamW's rate, reached linearly over the first iterations.
        temperature: the sampling temperature; the policy trained is the tempered one.
        seed: with the iteration's number it assigns trajectories to minibatches.
        threads: torch's threads on a CPU, for the whole process; None: unchanged.
        reference: policy folder of the KL anchor, read only if ``kl_coefficient`` > 0. None: ``policy``.
        reference_apart: another process holds the anchor; it is not loaded here.
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
        reference_apart: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.settings, self.learning_rate, self.warmup_iterations = update, learning_rate, warmup_iterations
        self.seed, self.temperature = seed, temperature
        self._loss = update.chosen(LOSSES)
        self.iteration = 0  # updates done
        self.optimizer_steps = 0
        self._copied = {
            name: (policy / name).read_bytes() for name in COPIED_FILES if (policy / name).is_file()
        }  # read now: the parent's folder may be gone when this policy is saved
        self.rank, self.world_size, self.device = self._start()
        model = load_model(policy, update, trained=True)
        if update.lora.rank:
            lora.add(model, update.lora, seed)
            self._base_sha256 = weights_sha256(policy)
        module = TokenPolicy(model, temperature).to(self.device)
        self.engine = self._initialize(module)
        if hasattr(self.engine.optimizer, "check_grad_overflow"):  # skip a step with non-finite gradients
            self.engine.optimizer.check_grad_overflow = True
        self._anchor = reference or policy
        self._reference: TokenPolicy | None = None
        if update.kl_coefficient > 0 and not update.lora.rank and not reference_apart:
            self._reference = self._load_reference()

    def _start(self) -> tuple[int, int, torch.device]:
        """Return rank, world size and device."""
        raise NotImplementedError

    def _initialize(self, module: TokenPolicy) -> Any:
        """Return the engine around ``module``."""
        raise NotImplementedError

    def _load_reference(self) -> TokenPolicy:
        frozen = load_model(self._anchor, self.settings, trained=False)
        return TokenPolicy(frozen, self.temperature).to(self.device)

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Return log-probabilities (P_b,) of the policy tokens under the current weights, without gradient."""
        batch = _Tokens(token_ids, policy_mask)
        return _split(self._forward(self.engine, batch, range(len(token_ids))), policy_mask)

    def reference_logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        """Return the same under the frozen reference policy. Raises ``PipelineError`` if there is none.

        With adapters the reference is the model without them. A second copy is loaded only if the base is older than
        the reference: in a segment that continues another one's adapters.
        """
        if self.settings.kl_coefficient == 0:
            raise PipelineError("there is no reference policy", where="update.kl_coefficient", fix="set it above 0")
        batch, members = _Tokens(token_ids, policy_mask), range(len(token_ids))
        if self._reference is None and self._base_sha256 == self._anchor_sha256:
            with lora.disabled(self.engine.module):
                return _split(self._forward(self.engine, batch, members), policy_mask)
        if self._reference is None:
            self._reference = self._load_reference()
        return _split(self._forward(self._reference, batch, members), policy_mask)

    @functools.cached_property
    def _anchor_sha256(self) -> str:
        return weights_sha256(self._anchor)

    def update(self, batch: TrainingBatch) -> dict[str, float]:
        """Train one epoch over the batch: ``minibatches`` optimiser steps.

        Returns means over the policy tokens of the trajectories that were not dropped; no such means if all were.
        Raises ``PipelineError``, without that step, if a loss or gradient is not finite.
        """
        settings, offsets = self.settings, token_offsets(batch.policy_mask)
        order = np.random.default_rng([self.seed, self.iteration]).permutation(len(batch.token_ids))
        minibatches = [part.tolist() for part in np.array_split(order, settings.minibatches) if len(part)]
        # The first minibatch's training pass itself gives the trainer's log-probabilities before any step: only later
        # minibatches need an extra pass for them, and only for the correction. A dropped trajectory has loss and
        # gradient 0: it keeps its place and weight but has no pass.
        working = [[b for b in members if b not in batch.dropped] for members in minibatches]
        late = [b for members in working[1:] for b in members]
        engine_old = self._flat(batch.old_logprobs)
        arrays = Arrays(
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
            self._set_loss_weights(arrays.weights, members, offsets, len(minibatches))
            passes = self._share(batch, working[number] or members[:1], counted=bool(working[number]))
            loss = torch.zeros((), device=self.device)
            for index, piece in enumerate(passes):
                self.engine.set_gradient_accumulation_boundary(index == len(passes) - 1)
                loss += self._train_pass(piece, arrays, stepped=number > 0)
            distributed.sum_over_ranks(loss)
            norms.append(take_step(self.engine, loss, settings.max_gradient_norm, f"iteration {self.iteration}"))
            self.optimizer_steps += 1
            step_losses.append(loss.item())
        self.iteration += 1
        distributed.sum_over_ranks(arrays.new)
        distributed.sum_over_ranks(arrays.entropy)
        return {
            "loss": float(np.mean(step_losses)),
            "gradient_norm": float(np.mean(norms)),
            "gradient_norm_max": float(np.max(norms)),
            "learning_rate": learning_rate,
            "num_policy_tokens": float(offsets[-1]),
            "num_optimizer_steps": float(len(minibatches)),
            **arrays.metrics(working, offsets, clip=settings.clip, cap=settings.importance_cap),
        }

    def _train_pass(self, piece: Pass, arrays: Arrays, *, stepped: bool) -> Tensor:
        """Run forward and backward over one pass; return this rank's part of the minibatch's loss.

        ``stepped``: whether the weights have changed since the update began. If not, the pass's own log-probabilities
        are the trainer's old ones.
        """
        slots = torch.from_numpy(piece.slots).to(self.device)
        logprobs, entropies = run_pass(self.engine, piece, self.device)  # (N,), (N,)
        engine_old, advantages = arrays.engine_old[slots], arrays.advantages[slots]
        if self.settings.importance_cap > 0:
            old = arrays.trainer_old[slots] if stepped and arrays.trainer_old is not None else logprobs.detach()
            token = self._losses(logprobs, old, advantages)  # (N,)
            token = token * losses.importance_weights(old, engine_old, self.settings.importance_cap)
        else:
            token = self._losses(logprobs, engine_old, advantages)  # (N,)
        loss = (token * arrays.weights[slots]).sum() * float(piece.counted)
        self.engine.backward(loss * self.world_size)  # DeepSpeed averages over ranks
        if piece.counted:
            arrays.new[slots], arrays.entropy[slots] = logprobs.detach(), entropies
        return loss.detach()

    def _losses(self, logprobs: Tensor, anchor: Tensor, advantages: Tensor) -> Tensor:
        return losses.token_losses(self._loss, logprobs, anchor, advantages, self.settings)

    def _set_learning_rate(self) -> float:
        """Set the learning rate: linear warm-up over iterations, then constant."""
        share = min(1.0, (self.iteration + 1) / max(1, self.warmup_iterations))
        for group in self.engine.optimizer.param_groups:
            group["lr"] = self.learning_rate * share
        return self.learning_rate * share

    def _set_loss_weights(self, weights: Tensor, members: list[int], offsets: Ints, minibatches: int) -> None:
        """Write the loss weights of a minibatch's tokens into ``weights`` (P,)."""
        parts = losses.loss_weights(
            [int(offsets[b + 1] - offsets[b]) for b in members],
            self.settings.loss_mean,
            batch_tokens=int(offsets[-1]),
            minibatches=minibatches,
        )
        for b, part in zip(members, parts, strict=True):
            weights[offsets[b] : offsets[b + 1]] = part

    def _share(self, batch: Tokens, members: Sequence[int], *, counted: bool = True) -> list[Pass]:
        """Return this rank's passes.

        Every rank has equally many, because collectives need it: a rank without work of its own repeats the first pass
        without counting it. ``counted`` False: no pass counts.
        """
        longest_row = self.settings.max_tokens_a_pass
        if self.world_size > 1:
            tokens = sum(len(batch.token_ids[b]) for b in members)
            longest_row = min(longest_row, math.ceil(tokens / self.world_size))
        passes = lay_out(
            batch.token_ids, batch.policy_mask, members, max_tokens=longest_row, layout=self.settings.layout
        )
        idle = dataclasses.replace(passes[0], counted=False)
        if not counted:
            passes = [idle]
        passes += [idle] * (-len(passes) % self.world_size)
        return passes[self.rank :: self.world_size]

    def _forward(self, policy: Any, batch: Tokens, members: Sequence[int]) -> Tensor:
        """Return log-probabilities (P,) of the members' policy tokens, 0 for the others; no gradient."""
        flat = torch.zeros(int(token_offsets(batch.policy_mask)[-1]), device=self.device)
        with torch.no_grad():
            for piece in self._share(batch, members) if members else ():
                logprobs, _ = run_pass(policy, piece, self.device)
                if piece.counted:
                    flat[torch.from_numpy(piece.slots).to(self.device)] = logprobs
        distributed.sum_over_ranks(flat)
        return flat

    def _flat(self, rows: list[list[float]]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(row, dtype=np.float32) for row in rows])).to(self.device)

    def export_weights(self) -> Mapping[str, Tensor]:
        """Return the policy's tensors by their Hugging Face names, for an engine in the same process.

        They are the trainer's own (no copy below ZeRO stage 3): the next update changes them in place, so copy what
        must last. Adapters are merged on access. All ranks must call.
        """
        return state.weights(self.engine)

    def save_policy(self, policy: Path, *, step: int, parent: str) -> str:
        """Write a policy folder (safetensors, tokenizer, manifest); returns the sha256 of its weights on rank 0.

        All ranks must call it. Tensors are gathered and written one shard at a time: besides its part of the model,
        rank 0 holds one shard twice, however large the model is.
        """
        weights, model = state.weight_entries(self.engine), self.engine.module.model
        sha256 = checkpoint.write_policy(
            policy, model, weights, self._copied, step=step, parent=parent, writes=self.rank == 0
        )
        distributed.barrier()
        return sha256

    def save(self, policy: Path, *, step: int, parent: str, trainer_state: Path | None = None) -> None:
        """Write a policy folder as ``save_policy`` does, and the trainer state beside it.

        ``trainer_state`` None: the folder ``trainer_state`` beside ``policy``. All ranks must call.
        """
        sha256 = self.save_policy(policy, step=step, parent=parent)
        moments = state.moment_entries(self.engine) if self.optimizer_steps else []
        numbers: dict[str, Any] = {"iteration": self.iteration, "optimizer_steps": self.optimizer_steps}
        numbers |= {"seed": self.seed, "policy_sha256": sha256}
        base: list[TensorEntry] = []
        if self.settings.lora.rank:
            numbers |= {"lora": self.settings.lora.model_dump(), "base_sha256": self._base_sha256}
            base, moments = state.base_entries(self.engine), moments + state.adapter_entries(self.engine)
        folder = trainer_state or policy.parent / checkpoint.STATE_FOLDER
        checkpoint.write_state(folder, moments, numbers, base=base, writes=self.rank == 0)
        distributed.barrier()

    def load(self, policy: Path, trainer_state: Path | None = None) -> None:
        """Load weights and trainer state from a ``save``: training continues as if never interrupted.

        Raises ``PipelineError`` if the state belongs to other weights, another seed, other adapters or another model.
        """
        folder = trainer_state or policy.parent / checkpoint.STATE_FOLDER
        tensors, moments, numbers = checkpoint.read(policy, folder, checks=self.rank == 0)
        if numbers["seed"] != self.seed:
            raise PipelineError(
                f"the trainer state was made with seed {numbers['seed']}, not {self.seed}", where=str(folder)
            )
        lora.check_same(numbers.get("lora"), self.settings.lora, folder)
        self._check_model(tensors, policy)
        trained: Mapping[str, Tensor] = tensors
        if self.settings.lora.rank:
            base = checkpoint.read_base(folder)
            self._check_model(base, folder)
            self._base_sha256 = numbers["base_sha256"]
            state.set_weights(self.engine, base)
            trained = {
                name: moments[f"{state.ADAPTER_STATE}/{name}"] for name, _ in state.trained_parameters(self.engine)
            }
            state.set_adapters(self.engine, trained)
        else:
            state.set_weights(self.engine, tensors)
        if numbers["optimizer_steps"]:
            if state.makes_state_by_a_step(self.engine):
                self._step_at_rest()
            state.set_optimizer_state(self.engine, moments, trained, numbers["optimizer_steps"])
        self.iteration, self.optimizer_steps = numbers["iteration"], numbers["optimizer_steps"]

    def _check_model(self, tensors: Tensors, folder: Path) -> None:
        fix = "the checkpoint is of another model than the trainer: begin with the policy that it was made from"
        check_tensors(tensors, self.engine.module.model, where=str(folder), fix=fix)

    def _step_at_rest(self) -> None:
        """Take an optimiser step that changes nothing: DeepSpeed's optimisers create their state in the first one."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = 0.0
        piece = lay_out([[0, 0]], [[False, True]], [0], max_tokens=1, layout=self.settings.layout)[0]
        self.engine.set_gradient_accumulation_boundary(True)
        logprobs, _ = run_pass(self.engine, piece, self.device)
        self.engine.backward(logprobs.sum() * 0.0)
        self.engine.step()

    def close(self) -> None:
        """Release the engine's hooks and buffers."""
        self.engine.destroy()


def _split(flat: Tensor, policy_mask: Sequence[Sequence[bool]]) -> list[list[float]]:
    """Split (P,) into (P_b,) per trajectory."""
    values, offsets = flat.cpu().numpy(), token_offsets(policy_mask)
    return [values[start:end].tolist() for start, end in itertools.pairwise(offsets)]
