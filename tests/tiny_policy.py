"""Tiny random policies and scripted ones, for the tests of rollout and base model.

Everything is made once per session and kept (``functools.cache``): a tokenizer with the tags as tokens and one that
splits them, and a random Qwen2 model that writes tags often enough to search.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

import r1_searcher.rollout.engine
from r1_searcher import params
from r1_searcher.models.tokenizer import train_tokenizer
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Passage, RetrieverError, Sampling, Turn

ROOT = Path(__file__).resolve().parents[1]
WORDS = "Ada Kolm was born in Trabo and made Silent Harbor , a film of 1931 about the river".split()
# A tag and what follows it in one token, as in Qwen's tokenizer, wherever the tags are not tokens themselves.
GLUED_QUERY, GLUED_ANSWER = f"{grammar.END_QUERY}?!", f"{grammar.END_ANSWER}..."


@functools.cache
def _params_file() -> str:
    return (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")


def params_with(**changes: Any) -> params.Params:
    """Return params.yaml with changed values, given by dotted names with ``__`` for the dot."""
    raw = yaml.safe_load(_params_file())
    for name, value in changes.items():
        *sections, key = name.split("__")
        place = raw
        for section in sections:
            place = place[section]
        assert key in place, name
        place[key] = value
    return params.check(raw)


def rollout_params(**changes: Any) -> params.Rollout:
    """Return a ``rollout`` section with room for some searches."""
    values: dict[str, Any] = {
        "engine": "transformers",
        "prompt": "short",
        "passages": "text",
        "k": 2,
        "max_searches": 3,
        "max_turn_tokens": 40,
        "max_total_tokens": 400,
        "max_passage_tokens": 30,
        "max_documents_tokens": 0,
        "max_batch": 100,
        "max_error_share": 0.2,
        "dtype": "float32",
        "temperature": 1.0,
        "top_p": 1.0,
    }
    return params_with().rollout.model_copy(update=values | changes)


@functools.cache
def tokenizer(tags_are_tokens: bool) -> PreTrainedTokenizerBase:
    """Make a byte-level BPE tokenizer; without tags as tokens, one of its tokens ends a tag and goes on."""
    texts = [" ".join(WORDS), *([f"{GLUED_QUERY} {GLUED_ANSWER}"] * 9), " ".join(grammar.TAGS)] * 4
    made = train_tokenizer(texts, 440, tags_are_tokens=tags_are_tokens)
    assert (len(made.encode(grammar.QUERY)) == 1) == tags_are_tokens
    return made


def random_model(tags_are_tokens: bool = True, seed: int = 0) -> Qwen2ForCausalLM:
    """Make a 2-layer Qwen2 with random weights, sharp enough that probabilities differ, and with a bias in the head:
    tags that are tokens, and the end of text, occur every few tokens."""
    names = tokenizer(tags_are_tokens)
    config = Qwen2Config(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config).eval()
        head = torch.nn.Linear(config.hidden_size, config.vocab_size)
        head.weight.data.copy_(model.lm_head.weight.data)
        head.bias.data.zero_()
        wanted = {grammar.QUERY: 5.0, grammar.END_QUERY: 3.6, grammar.END_ANSWER: 2.0, names.eos_token: 1.0}
        for tag, bias in wanted.items():
            ids = names.encode(tag, add_special_tokens=False)
            if len(ids) == 1:
                head.bias.data[ids[0]] = bias
        model.lm_head = head
    return model


def write_policy(folder: Path) -> None:
    """Make a policy folder: one layer of random weights, and the tokenizer whose tags are tokens."""
    names = tokenizer(True)
    config = Qwen2Config(
        vocab_size=len(names),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    names.save_pretrained(folder)


@functools.cache
def random_engine(tags_are_tokens: bool = True) -> TransformersEngine:
    """Return the transformers engine on ``random_model``."""
    return TransformersEngine(random_model(tags_are_tokens), tokenizer(tags_are_tokens))


@functools.cache
def _in_double(engine: TransformersEngine) -> Any:
    return copy.deepcopy(engine._model).double()


@torch.inference_mode()
def forward_logprobs(engine: TransformersEngine, token_ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Return (T,) log-probability of every token given those before it, by one plain forward in float64; the first is
    0."""
    ids = torch.tensor([token_ids])
    logits = _in_double(engine)(input_ids=ids, use_cache=False).logits[0, :-1] / temperature
    found = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    return torch.cat([torch.zeros(1, dtype=torch.double), found])


def questions_table(questions: Sequence[str]) -> pa.Table:
    """Return questions q0, q1, … (schema QUESTIONS)."""
    rows = [
        {"question_id": f"q{number}", "question": question, "answers": ["Trabo"], "dataset": "test", "kind": "test"}
        for number, question in enumerate(questions)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


class ScriptedRetriever:
    """Finds ``find``'s result for a query; fails on queries that contain "fail". Records every call."""

    fingerprint = "scripted"

    def __init__(self, find: Callable[[str], Iterable[str]] | None = None) -> None:
        self.find = find or (lambda query: [f"{query} was born in Trabo.", "Ada made Silent Harbor."])
        self.calls: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.calls.append(list(queries))
        if any("fail" in query for query in queries):
            raise RetrieverError("the search server is down")
        return [
            [Passage(f"p{place}", f"Title {place}", text, 9.0 - place) for place, text in enumerate(self.find(query))][
                :k
            ]
            for query in queries
        ]


END = "␃"  # in a script: the model's end token


class ScriptedEngine:
    """``Engine`` whose tokens are characters and whose policy writes a script, chosen by the question.

    A script is all that the policy will write, turn after turn; endless dots follow.
    """

    name = "scripted"
    overlaps = False

    def __init__(self, scripts: Mapping[str, str]) -> None:
        self.scripts = scripts
        self.started: list[int] = []  # trajectories per batch

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        self.sampling, self.stops = sampling, stops
        self.rows: dict[int, tuple[Iterator[str], int]] = {}  # text still to be written, tokens so far
        self.waiting: set[int] = set()
        self.started.append(0)

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        assert len(prompt_ids) < self.sampling.max_total_tokens, "no room for a token"
        question = self.decode(prompt_ids).removeprefix("User: ").partition("\nAssistant: <think>")[0]
        self.rows[trajectory] = itertools.chain(self.scripts[question], itertools.repeat(".")), len(prompt_ids)
        self.started[-1] += 1

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        self.waiting.remove(trajectory)
        script, length = self.rows[trajectory]
        self.rows[trajectory] = script, length + len(token_ids)

    def release(self, trajectory: int) -> None:
        self.waiting.remove(trajectory)
        del self.rows[trajectory]

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        assert not self.waiting, "an ended turn was neither extended nor released"
        turns = [self._turn(trajectory) for trajectory in self.rows]
        shortest = min((len(turn.token_ids) for turn in turns), default=0)
        self.waiting = {turn.trajectory for turn in turns}
        assert shortest > 0 or not turns
        return turns

    def _turn(self, trajectory: int) -> Turn:
        script, length = self.rows[trajectory]
        text, stop = "", ""
        while not stop:
            text += next(script)
            stop = next((stop for stop in self.stops if text.endswith(stop)), "")
            if text[-1] == END:
                stop = grammar.FINISH_END_OF_TEXT
            elif not stop and length + len(text) >= self.sampling.max_total_tokens:
                stop = grammar.FINISH_LENGTH_LIMIT
            elif not stop and len(text) >= self.sampling.max_turn_tokens:
                stop = grammar.FINISH_TURN_LIMIT
        self.rows[trajectory] = script, length + len(text)
        return Turn(trajectory, self.encode(text), [-0.5] * len(text), stop)

    def load_weights(self, policy: Path) -> None:
        raise AssertionError("a script has no weights")

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        return [[0.0] + [-0.5] * (len(ids) - 1) for ids in token_ids]

    def sleep(self) -> None: ...

    def wake(self) -> None: ...


def force_tokens(monkeypatch: pytest.MonkeyPatch, scripts: Mapping[int, Sequence[int]], end_of_text: int) -> None:
    """Make the transformers engine sample given tokens: ``scripts`` maps a trajectory's seed to all its policy tokens.

    Each token's log-probability is still the model's.
    """

    class Script:
        def __init__(self, tokens: Sequence[int]) -> None:
            self.tokens = itertools.chain(tokens, itertools.repeat(end_of_text))

        def __getitem__(self, position: int) -> torch.Tensor:
            return torch.tensor(float(next(self.tokens)))

    def draw(
        logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = uniform.long()
        return tokens, (logits / temperature).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]

    monkeypatch.setattr(r1_searcher.rollout.engine, "uniforms", lambda seed, positions: Script(scripts[seed]))
    monkeypatch.setattr(r1_searcher.rollout.engine, "draw", draw)


def check_rollouts(table: pa.Table, engine: Engine, rollout: params.Rollout, end_ids: Collection[int] = ()) -> None:
    """Check what holds of every rollout: provenance token by token, text by segments, lengths, names."""
    assert table.schema.equals(schemas.rollouts_schema(table.column_names))
    rows = table.to_pylist()
    assert len({row["trajectory_id"] for row in rows}) == len({row["seed"] for row in rows}) == len(rows)
    authors = {grammar.POLICY: "policy", grammar.DOCUMENT: "document", grammar.FORCED: "forced"}
    for row in rows:
        ids, sources = row["token_ids"], row["token_source"]
        prompt_ids = engine.encode(row["prompt"])
        start = len(prompt_ids)
        assert row["trajectory_id"] == f"{row['question_id']}#{row['sample']}"
        assert row["finish_reason"] in grammar.FINISH_REASONS
        assert ids[:start] == prompt_ids and sources[:start] == [grammar.PROMPT] * start
        assert grammar.PROMPT not in sources[start:]
        assert len(ids) == len(sources) <= rollout.max_total_tokens
        assert len(row["policy_logprobs"]) == sources.count(grammar.POLICY)
        # The segments are the tokens, author by author. The end token is the policy's, but no text.
        runs = [(source, len(list(run))) for source, run in itertools.groupby(sources[start:])]
        assert [authors[source] for source, _ in runs] == [part["source"] for part in row["segments"]]
        place = start
        for (source, length), part in zip(runs, row["segments"], strict=True):
            run = ids[place : place + length]
            place += length
            if source == grammar.POLICY:
                assert engine.decode(run[:-1] if run[-1] in end_ids else run) == part["text"]
                assert not set(run[:-1]) & set(end_ids)
            else:
                assert run == engine.encode(part["text"])
        by_policy = [part["text"] for part in row["segments"] if part["source"] != "document"]
        assert row["answer"] == grammar.extract_answer("".join(by_policy))
        inserted_blocks = [part["text"] for part in row["segments"] if part["source"] == "document"]
        found = [turn for turn in row["turns"] if turn["error"] is None]
        assert len(inserted_blocks) in (len(found), len(found) - (row["finish_reason"] == grammar.FINISH_LENGTH_LIMIT))
        for block in inserted_blocks:
            assert block.startswith(f"\n\n{grammar.DOCUMENTS}\n") and block.endswith(f"{grammar.END_DOCUMENTS}\n\n")
            assert sum(block.count(tag) for tag in grammar.TAGS) == 2
            assert not any(tag in block for tool in row.get("tools", ()) for tag in (tool["begin"], tool["end"]))
