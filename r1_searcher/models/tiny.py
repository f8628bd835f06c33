"""Train the tiny base model: worlds, library, tokenizer, two phases, and the resulting folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.errors import PipelineError
from r1_searcher.models import library, pretrain
from r1_searcher.models.library import Shares, Shelf
from r1_searcher.models.manifest import write_manifest
from r1_searcher.models.tokenizer import train_tokenizer
from r1_searcher.progress import Paced
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.shown import Log

NUM_TOKENIZER_TEXTS = 3000
STEPS_OF_A_LOSS = 100  # the reported loss is the mean over this many steps
WORLD_SEEDS = 1000  # the base model's worlds are numbered from here, far from the one that RL asks about


def open_shelf(world: params.WorldSize, index: params.Index, k: int, seed: int) -> Shelf:
    """Return a base-model world with its own index, with all possible searches already made."""
    made = make_world(world, seed)
    passages = made.passages()
    with tempfile.TemporaryDirectory() as folder:
        build_index(passages, index, Path(folder) / "index", "base-model-world")
        retriever = open_index(Path(folder) / "index")
        titles = passages["title"].to_pylist()
        found = retriever.search(titles, k)
    shown = {title: [passage.text for passage in hits] for title, hits in zip(titles, found, strict=True)}
    return Shelf.of(made, shown.__getitem__)


def make_tiny(settings: params.Params, folder: Path, log: Log) -> None:
    """Train the model and write it as a Hugging Face folder into the existing ``folder``. Raises ``PipelineError``."""
    tiny, seed = settings.base_model.tiny, settings.seed
    prompt = prompt_of(settings.rollout)
    if prompt.is_chat:
        raise PipelineError(
            f"prompt {prompt.name!r} is for instruct models", where="rollout.prompt", fix="choose short"
        )
    with Paced("base model, its worlds", unit="worlds") as paced:
        shelves = []
        for number in range(tiny.worlds):
            paced.told(number, tiny.worlds)
            world_seed = WORLD_SEEDS * (seed + 1) + number
            shelves.append(open_shelf(settings.corpus.world, settings.index, settings.rollout.k, world_seed))
    template = prompt.template
    random = np.random.default_rng([seed, 4])
    main = Shares(tiny.share_reading, tiny.share_malformed, tiny.share_without_search, tiny.share_right_chain)
    sample = islice(library.write_library(shelves, main, template, random), NUM_TOKENIZER_TEXTS)
    with Paced("base model, its tokenizer"):
        tokenizer = train_tokenizer(("".join(piece.text for piece in text) for text in sample), tiny.vocabulary)
    limit = settings.rollout.max_total_tokens
    model = pretrain.new_model(tiny, len(tokenizer), tokenizer.eos_token_id, limit, seed)
    log(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f}M parameters, {tiny.worlds} worlds to read")

    training = pretrain.Pretraining(model, tiny, seed)
    anneal = Shares(
        tiny.anneal_share_reading,
        tiny.anneal_share_malformed,
        tiny.anneal_share_without_search,
        tiny.anneal_share_right_chain,
    )
    phases: list[tuple[str, Shares, int, Callable[[float], float]]] = [
        ("base model", main, tiny.tokens, pretrain.rate_at),
        ("anneal", anneal, tiny.anneal_tokens, lambda done: pretrain.ANNEAL_RATE),
    ]
    for number, (name, shares, tokens, rate) in enumerate(phases):
        texts = library.write_library(shelves, shares, template, np.random.default_rng([seed, 5, number]))
        encoded = (pretrain.encode(text, tokenizer, tiny.passage_weight) for text in texts)
        batches = pretrain.batches(encoded, tiny.tokens_a_step, limit, np.random.default_rng([seed, 6, number]))
        with Paced(name, unit="tokens") as paced:
            log(f"{name}: {_run_phase(training, batches, tokens, rate, paced.told)}")

    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_manifest(folder, parent=None, source="tiny", seed=seed)


def _run_phase(
    training: pretrain.Pretraining,
    batches: Iterator[list[pretrain.Text]],
    tokens: int,
    rate: Callable[[float], float],
    told: Callable[[int, int, str], None],
) -> str:
    """Train on at least ``tokens`` tokens; return a summary line. Calls ``told`` after every step."""
    began, seen, losses = time.perf_counter(), 0, []
    while seen < tokens:
        batch = next(batches)
        losses.append(training.step(batch, rate(seen / tokens)))
        seen += sum(len(text.ids) for text in batch)
        if not np.isfinite(losses[-1]):
            fix = "lower base_model.tiny.learning_rate"
            raise PipelineError("the base model's loss is not finite", where=f"after {seen} tokens", fix=fix)
        loss, speed = float(np.mean(losses[-STEPS_OF_A_LOSS:])), seen / (time.perf_counter() - began)
        left = max(0.0, (tokens - seen) / speed)
        told(seen, tokens, f"loss {loss:.3f}, {speed:,.0f} tokens/s, {left:.0f} s left")
    return f"{seen / 1e6:.2f}M tokens, loss {loss:.3f}, {speed:,.0f} tokens/s"
