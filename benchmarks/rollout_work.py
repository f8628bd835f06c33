"""The workload of benchmarks/rollout.py: turn lengths, documents, and models of a given size with random weights.

Numbers of searches and turn lengths follow the 1,000 trajectories that the paper released of its trained Qwen-2.5-7B
(2Wiki and HotpotQA): 2.2 searches on average, a median of 106 tokens per turn, a tenth of the turns below 69 and a
tenth above 160. Documents are this project's own docs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher.rollout.prompt import load_prompt
from r1_searcher.transcripts import grammar

ROOT = Path(__file__).resolve().parent.parent
SEARCHES = (0.012, 0.020, 0.786, 0.145, 0.036, 0.001)  # shares of trajectories with 0, 1, … searches
MEDIAN, SPREAD = 106, 0.33  # mean and deviation of the logarithm of a turn's tokens
SIZES = {  # of the laptop's model and of Qwen2.5: hidden, layers, heads, key-value heads, feed-forward
    "laptop": (128, 4, 4, 4, 320),
    "0.5b": (896, 24, 14, 2, 4864),
    "1.5b": (1536, 28, 12, 2, 8960),
    "3b": (2048, 36, 16, 2, 11008),
}
QWEN_VOCABULARY = 151936
STEADY = 3.0


@dataclass(frozen=True)
class Work:
    """One trajectory: its prompt, the lengths of its turns, and the documents between them."""

    prompt: str
    turns: tuple[int, ...]
    documents: tuple[str, ...]  # one fewer


def make_work(trajectories: int, samples: int, passages: int, *, words: int, scale: float, seed: int) -> list[Work]:
    """Draw so many trajectories, ``samples`` per question; ``scale`` shortens all turns."""
    chosen, prompt = random.Random(seed), load_prompt("base")
    text = " ".join((ROOT / "docs/design.md").read_text(encoding="utf-8").split()).replace("<", "(").split()
    made = []
    for number in range(trajectories):
        searches = chosen.choices(range(len(SEARCHES)), SEARCHES)[0]
        turns = [max(4, round(scale * MEDIAN * chosen.lognormvariate(0, SPREAD))) for _ in range(searches + 1)]
        found = []
        for _ in range(searches):
            starts = [chosen.randrange(len(text) - words) for _ in range(passages)]
            found.append(grammar.render_documents([" ".join(text[start : start + words]) for start in starts]))
        question = f"Who directed the film number {number // samples} of the list, and where was that person born?"
        made.append(Work(prompt.render(question), tuple(turns), tuple(found)))
    return made


class Search:
    """A retriever with a fixed latency per call, regardless of the number of queries."""

    def __init__(self, latency: float) -> None:
        self.latency, self.calls = latency, 0

    def wait(self) -> None:
        self.calls += 1
        time.sleep(self.latency)


@dataclass
class Spent:
    """Wall seconds, and this process' CPU seconds."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Spent]:
    """Measure a block of code."""
    spent = Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, time.process_time() - cpu


def write_random_model(folder: Path, size: str, tokenizer: Any, dtype: Any, seed: int = 0) -> Path:
    """Write a Qwen2 of a given size with random weights that emits words of the tokenizer, so that its text can be
    tokenised again.

    One hidden channel is the same for every token, and the head's weight on it suppresses all tokens but words.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, heads, kv_heads, feed_forward = SIZES[size]
    config = Qwen2Config(
        vocab_size=len(tokenizer) if size == "laptop" else max(QWEN_VOCABULARY, len(tokenizer)),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    texts: Sequence[str] = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    words = torch.tensor([text.startswith(" ") and text[1:].isalpha() and text.isascii() for text in texts])
    with torch.no_grad():
        model = Qwen2ForCausalLM(config).to(dtype)
        model.model.embed_tokens.weight[:, 0] = STEADY
        model.lm_head.weight[:, 0] = -20.0
        model.lm_head.weight[: len(texts), 0][words] = 0.0
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
