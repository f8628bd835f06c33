"""Train the tiny base model from scratch on the library (``library.py``).

Two phases: the main one at a constant, then falling rate; the anneal at a low rate on text with almost no searches.
Texts are bucketed by length and padded on the right, which needs no mask because a causal model never looks right.
Losses are summed and divided by a constant, not by the batch's own count: otherwise batches of long (searching) texts
would weigh more per token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.models.library import Piece
from r1_searcher.models.muon import Muon

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

BUCKET_STEPS = 16  # texts of this many steps are sorted by length together
MAX_LEFT_OUT = 1000  # consecutive texts that are too long
ANNEAL_RATE = 0.1  # of the main learning rate


@dataclass(frozen=True)
class Text:
    """Token ids (T,) and each one's loss weight as a target (T,)."""

    ids: np.ndarray
    weights: np.ndarray


def new_model(
    tiny: params.TinyModel, vocabulary: int, end_of_text: int, max_positions: int, seed: int
) -> Qwen2ForCausalLM:
    """Return a Qwen2 model with random weights, deterministic in ``seed``."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=tiny.hidden,
        intermediate_size=tiny.feed_forward,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
    )
    return Qwen2ForCausalLM(config)


def encode(pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerFast, given_weight: float) -> Text:
    """Encode piece by piece, as the rollout does, with an end-of-text token."""
    ids: list[int] = []
    weights: list[float] = []
    for piece in pieces:
        tokens = tokenizer.encode(piece.text, add_special_tokens=False)
        ids += tokens
        weights += [given_weight if piece.given else 1.0] * len(tokens)
    return Text(np.array([*ids, tokenizer.eos_token_id]), np.array([*weights, 1.0], dtype=np.float32))


def batches(
    texts: Iterator[Text], tokens_a_step: int, max_tokens: int, random: np.random.Generator
) -> Iterator[list[Text]]:
    """Yield batches of about ``tokens_a_step`` tokens of texts of similar length, in random order.

    Texts of more than ``max_tokens`` are left out. Raises ``PipelineError`` if no shorter ones come.
    """
    while True:
        pool: list[Text] = []
        held = left_out = 0
        while held < tokens_a_step * BUCKET_STEPS:
            text = next(texts)
            if len(text.ids) <= max_tokens:
                pool.append(text)
                held += len(text.ids)
                left_out = 0
            elif (left_out := left_out + 1) == MAX_LEFT_OUT:
                raise PipelineError(
                    f"no text for the base model has {max_tokens} tokens or fewer",
                    where="rollout.max_total_tokens",
                    fix="raise it",
                )
        pool.sort(key=lambda text: len(text.ids))
        cut: list[list[Text]] = [[]]
        for text in pool:
            if cut[-1] and (len(cut[-1]) + 1) * len(text.ids) > tokens_a_step:
                cut.append([])
            cut[-1].append(text)
        for number in random.permutation(len(cut)):
            yield cut[number]


class Pretraining:
    """The optimisers and one step: Muon for matrices, AdamW for embeddings, biases and norms."""

    def __init__(self, model: Qwen2ForCausalLM, tiny: params.TinyModel, seed: int) -> None:
        self.model, self.tiny = model, tiny
        self.random = np.random.default_rng([seed, 3])
        inner = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
        chosen = {id(weight) for weight in inner}
        rest = [weight for weight in model.parameters() if id(weight) not in chosen]
        self.muon = Muon(inner)
        self.adam = torch.optim.AdamW(rest, lr=tiny.learning_rate_other, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, batch: list[Text], rate: float) -> float:
        """Take one step at ``rate`` times the full learning rates; return the loss per weighted token."""
        longest = max(len(text.ids) for text in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        targets: list[np.ndarray] = []  # flat positions of the tokens to predict
        weights: list[np.ndarray] = []
        for row, text in enumerate(batch):
            ids[row, : len(text.ids)] = torch.from_numpy(text.ids)
            # A small weight is a small chance of weight 1: equal on average, with less of the head to compute.
            kept = np.flatnonzero(self.random.random(len(text.ids) - 1) < text.weights[1:])
            targets.append(kept + row * longest)
            weights.append(np.ones(len(kept), dtype=np.float32))
        places = torch.from_numpy(np.concatenate(targets))
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)  # (B*T, D)
        logits = self.model.lm_head(hidden[places]).float()  # (P, V)
        loss = torch.nn.functional.cross_entropy(logits, ids.flatten()[places + 1], reduction="sum")
        (loss / (0.4 * self.tiny.tokens_a_step)).backward()
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        self.muon.step(self.tiny.learning_rate * rate)
        self.adam.param_groups[0]["lr"] = self.tiny.learning_rate_other * rate
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        return loss.item() / len(places)


def rate_at(done: float) -> float:
    """Return the main phase's learning rate after the share ``done``: constant, then falling to a tenth."""
    return 1.0 if done < 0.5 else 1.0 - 0.9 * (done - 0.5) / 0.5
