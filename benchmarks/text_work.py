"""The cost of a rollout's text at the paper's size, without model and search: prompts, turns, document blocks, rows.

    python benchmarks/text_work.py                                # passages that are cut: 60 words, 64 tokens
    python benchmarks/text_work.py --max-passage-tokens 200       # passages that are not

The engine emits random tokens at once, and the retriever finds other passages each time. "Plain" is the same with one
encoding per length tried (tests/blocks_by_search.py); both give the same trajectories.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from blocks_by_search import BlocksBySearch

from r1_searcher import params
from r1_searcher.models.tokenizer import train_tokenizer
from r1_searcher.rollout import loop
from r1_searcher.rollout.blocks import Blocks
from r1_searcher.rollout.codec import Codec
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage, Sampling, Turn

ROOT = Path(__file__).resolve().parents[1]
TURN = 100  # tokens per turn without its last one, a tag
END = 10**6


class RandomEngine:
    """Makes each trajectory's turns of random tokens: some end in a query, the last one in an answer."""

    name, overlaps = "random", False

    def __init__(self, tokenizer: Any, searches: int) -> None:
        self.tokenizer, self._searches = tokenizer, searches
        self.codec = Codec(tokenizer)
        self.encodings = 0
        texts = [tokenizer.decode([number]) for number in range(len(tokenizer))]
        self._words = [number for number, text in enumerate(texts) if re.fullmatch(r" [A-Za-z]+", text)]
        self._query, self._end_query, self._answer, self._end_answer = (
            self.encode(tag) for tag in (grammar.QUERY, grammar.END_QUERY, grammar.ANSWER, grammar.END_ANSWER)
        )

    def encode(self, text: str) -> list[int]:
        self.encodings += 1
        return self.codec.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.codec.decode(token_ids)

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        self._left: dict[int, int] = {}
        self._random: dict[int, random.Random] = {}
        self._ready: list[int] = []

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        self._left[trajectory], self._random[trajectory] = self._searches, random.Random(seed)
        self._ready.append(trajectory)

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        ready, self._ready = self._ready, []
        return [self._turn(trajectory) for trajectory in ready]

    def _turn(self, trajectory: int) -> Turn:
        words = self._random[trajectory].choices(self._words, k=TURN)
        searches = self._left[trajectory] > 0
        self._left[trajectory] -= 1
        begin, end = (self._query, self._end_query) if searches else (self._answer, self._end_answer)
        ids = [*words[:-8], *begin, *words[-8:], *end]
        return Turn(trajectory, ids, [-1.0] * len(ids), grammar.END_QUERY if searches else grammar.END_ANSWER)

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        self._ready.append(trajectory)

    def release(self, trajectory: int) -> None:
        pass


class NewPassages:
    """Finds passages of so many words, every one new."""

    def __init__(self, words: Sequence[str], length: int) -> None:
        self._words, self._length = words, length
        self._random = random.Random(0)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return [[self._passage() for _ in range(k)] for _ in queries]

    def _passage(self) -> Passage:
        text = " ".join(self._random.choices(self._words, k=self._length))
        return Passage(str(self._random.randrange(END)), "A title", text, 1.0)


def main() -> None:
    """Run both ways in turn; the best round counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (
        ("questions", 64), ("samples", 16), ("searches", 2), ("k", 5), ("passage-words", 60),
        ("max-passage-tokens", 64), ("rounds", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"({value})")
    options = parser.parse_args()
    text = " ".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md")))
    words = [word for word in text.split() if "<" not in word]
    settings = params.load(ROOT / "params.yaml")
    tokenizer = train_tokenizer([text], settings.base_model.tiny.vocabulary)
    rollout = settings.rollout.model_copy(
        update={"k": options.k, "max_searches": options.searches, "max_passage_tokens": options.max_passage_tokens}
        | {"max_documents_tokens": 0, "max_turn_tokens": 2 * TURN, "max_total_tokens": END, "max_batch": END}
    )
    table = pa.table(
        {
            "question_id": [f"q{number}" for number in range(options.questions)],
            "question": [f"Who made the film number {number}, and where?" for number in range(options.questions)],
            "answers": [["Trabo"]] * options.questions,
        }
    )
    seconds: dict[str, list[float]] = {"plain": [], "today": []}
    counted, made = {}, {}
    for _ in range(options.rounds):
        for way, blocks in (("plain", BlocksBySearch), ("today", Blocks)):
            engine: Any = RandomEngine(tokenizer, options.searches)
            engine.encodings = 0
            passages: Any = NewPassages(words, options.passage_words)
            with mock.patch("r1_searcher.rollout.toolbox.Blocks", blocks):
                began = time.process_time()
                found, _ = loop.roll_out(engine, passages, table, rollout, samples=options.samples, seed=0)
            seconds[way].append(time.process_time() - began)
            made[way], counted[way] = found, engine.encodings
    assert made["plain"].equals(made["today"]) and counted["plain"] > counted["today"]
    tokens = sum(map(len, made["today"]["token_ids"].to_pylist()))
    print(f"{made['today'].num_rows} trajectories, {tokens / 1e6:.2f} M tokens, alike both ways; CPU seconds a round")
    for way, taken in seconds.items():
        told = ", ".join(f"{one:.2f}" for one in sorted(taken))
        print(f"{way:<6} {told}   encodings {counted[way]:,}")


if __name__ == "__main__":
    main()
