"""The policy as the trainer sees it: a pass in, log-probabilities and entropies of policy tokens out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.contract.errors import PipelineError
from stages.contract.params import Update
from stages.contract.weights import check_loaded, check_policy
from stages.update import attention, distributed
from stages.update.packing import Pass
from stages.update.partitioned import load_partitioned

COPIED_FILES = (  # what a new policy takes over from its parent as it is
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "generation_config.json",
)
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")  # one of them is a tokenizer


class TokenPolicy(nn.Module):
    """A causal language model with its output head applied only where a policy token is predicted.

    Args:
        model: a transformers causal language model whose logits are its output embedding applied to the
            last hidden state (Qwen2, Llama, Mistral and their like).
        temperature: logits are divided by it, so that the policy trained is the policy that sampled.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None,
        predict: Tensor,
        targets: Tensor,
        lengths: tuple[int, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(R, T), (R, T) or None, (N,), (N,) -> log-probabilities (N,), entropies (N,; no gradient).

        ``lengths``: of a packed row's trajectories, which sum to T.
        """
        body = self.model.get_decoder()
        blocks = attention.arguments(lengths, self.model.config._attn_implementation, input_ids.device)
        found = body(input_ids=input_ids, position_ids=position_ids, use_cache=False, **blocks)
        hidden = found.last_hidden_state  # (R, T, D)
        chosen = hidden.flatten(0, 1).index_select(0, predict)  # (N, D)
        logits = self.model.get_output_embeddings()(chosen).float()  # (N, V)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return _TokenLogprobs.apply(logits, targets)


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(logits)[target] and the entropy, with one (N, V) array kept and one made in the backward pass.

    The plain composition makes four; over a vocabulary they are most of the head's cost on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_all = logits.log_softmax(-1)  # (N, V)
        probabilities = log_all.exp()  # (N, V)
        entropy = -torch.linalg.vecdot(probabilities, log_all)  # (N,)
        ctx.save_for_backward(probabilities, targets)
        ctx.mark_non_differentiable(entropy)
        return log_all.gather(-1, targets[:, None]).squeeze(-1), entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        probabilities, targets = ctx.saved_tensors
        gradient = probabilities * -grad[:, None]  # (N, V)
        gradient.scatter_add_(-1, targets[:, None], grad[:, None])
        return gradient, None


def run_pass(policy: nn.Module, batch: Pass, device: torch.device) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) and entropies (N,) of a pass's policy tokens."""
    positions = None if batch.position_ids is None else torch.from_numpy(batch.position_ids).to(device)
    ids, predict, targets = (
        torch.from_numpy(array).to(device) for array in (batch.input_ids, batch.predict, batch.targets)
    )
    return policy(ids, positions, predict, targets, batch.lengths)


def load_model(policy: Path, update: Update, *, trained: bool) -> Any:
    """The causal language model of a Hugging Face folder, without dropout; under ZeRO 3 divided among the ranks.

    ``trained``: false for a frozen one, which is whole on every rank. Raises ``PipelineError`` for a folder without
    config, weights or tokenizer, for weights that are not all and only those of its config, and for a model whose
    logits are more than its output embedding applied to the last hidden state.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    check_folder(policy)
    logging.disable_progress_bar()  # the terminal shows one line an iteration
    dtype, attending = update.dtype, attention.implementation(update)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what does not fit is one line here, and a table of every weight there
    try:
        if trained and update.zero_stage == 3:
            model = load_partitioned(policy, dtype, attending, distributed.config(update))
        else:
            model, report = AutoModelForCausalLM.from_pretrained(
                policy,
                dtype=getattr(torch, dtype),
                attn_implementation=attending,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
            check_loaded(model, report, where=str(policy))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"not a causal language model that transformers opens: {reason}", where=str(policy)
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) is not None:
            raise PipelineError(
                f"the update does not know how to apply this model's {name}",
                where=str(policy),
                fix="use a model of the Qwen2, Llama or Mistral kind",
            )
    for module in model.modules():  # the policy that is trained is the policy that sampled: no dropout
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    if not trained:
        return model.eval().requires_grad_(False)
    if update.gradient_checkpointing:  # which transformers does in training mode only
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def check_folder(policy: Path) -> None:
    """A policy folder has config.json, safetensors and a tokenizer; the first that lacks stops."""
    if not policy.is_dir():
        raise PipelineError("no such policy folder", where=str(policy), fix="run `dvc repro`, which makes it")
    if not (policy / "config.json").is_file():
        raise PipelineError("config.json is missing", where=str(policy), fix="give a Hugging Face model folder")
    if not any(policy.glob("*.safetensors")):
        raise PipelineError("the weights (*.safetensors) are missing", where=str(policy))
    if not any((policy / name).is_file() for name in TOKENIZERS):
        raise PipelineError(
            "the tokenizer is missing", where=str(policy), fix="copy tokenizer.json and tokenizer_config.json into it"
        )
    check_policy(policy)
