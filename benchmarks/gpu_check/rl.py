"""Reinforcement learning for the time that is left, by the library's own rollout, reward and update."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from r1_searcher import params as contract
from r1_searcher.corpus.world import make_world
from r1_searcher.questions.compose import compose
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.training.figures import means
from r1_searcher.types.protocols import Passage
from r1_searcher.update import update_policy
from r1_searcher.update.trainers import TorchTrainer

from . import tiny
from .bare import ROOT
from .figures import Figures

BASE, COMMITTED = ROOT / "data/base_model", ROOT / "baselines/code/policy"
SHARE_OF_STAGE1, RESERVE = 0.35, 10.0  # of the time; seconds kept for the end
# The settings for a model that was made elsewhere.
_REAL = ROOT / "profiles/smollm2-135m-instruct.yaml"


def run(figures: Figures) -> None:
    """Train in stage 1 and then in stage 2, one row of the curves per iteration."""
    with tempfile.TemporaryDirectory() as folder:
        policy, params = _beginning(figures, Path(folder))
        world = make_world(params.corpus.world, params.seed)
        questions = compose(world.facts(), params.questions.world, params.seed)["train"]
        retriever = WordSearch(world.passages().to_pylist())
        began = figures.left()
        for stage, until in (("stage1", (1 - SHARE_OF_STAGE1) * began), ("stage2", RESERVE)):
            policy = _train(
                *(figures, policy, params, questions, retriever),
                name=stage,
                until=until,
                folder=Path(folder) / stage,
            )
    _summary(figures)


def _summary(figures: Figures) -> None:
    """Note where each stage began and ended."""
    for name in ("reward", "f1"):
        for number in (1, 2):
            rows = [row[name] for row in figures.report.curves if row["stage"] == number]
            about = f"first {rows[0]:.3f}, {len(rows)} iterations" if rows else "no time left for an iteration"
            figures.note(f"{name} of stage {number}", rows[-1] if rows else None, about=about)


def _beginning(figures: Figures, folder: Path) -> tuple[Path, contract.Params]:
    """Return the first policy and the parameters."""
    base = contract.shipped()
    if figures.machine.rehearsal:
        few = {"questions_an_iteration": 2, "samples_a_question": 2}
        stages = {name: getattr(base.train, name).model_copy(update=few) for name in ("stage1", "stage2")}
        small = base.questions.world.model_copy(
            update={"train": 8, "validation": 1, "held_out": 1, "held_out_kind": 1, "comparison": 1}
        )
        size = base.corpus.world.model_copy(update={"people": 100, "films": 60, "books": 60, "cities": 20})
        figures.note("model", "random weights, for the rehearsal")
        changes = {
            "train": base.train.model_copy(update=stages),
            "questions": base.questions.model_copy(update={"world": small}),
            "corpus": base.corpus.model_copy(update={"world": size}),
        }
        return tiny.write_policy(folder / "base", "qwen2"), base.model_copy(update=changes)
    model = figures.machine.model
    if not model:
        chosen = BASE if BASE.is_dir() else COMMITTED
        figures.note("model", chosen.relative_to(ROOT).as_posix(), about="" if chosen == BASE else "already trained")
        return chosen, base
    figures.note("model", model)
    profile = yaml.safe_load(_REAL.read_text(encoding="utf-8"))
    stages = {
        name: getattr(base.train, name).model_copy(update=profile["train"][name]) for name in ("stage1", "stage2")
    }
    changes = {
        "rollout": base.rollout.model_copy(update={**profile["rollout"], "engine": "transformers"}),
        "update": base.update.model_copy(update={**profile["update"], "trainer": "torch", "layout": "packed"}),
        "train": base.train.model_copy(update=stages),
    }
    return _opened(Path(model), folder / "base"), base.model_copy(update=changes)


def _opened(model: Path, folder: Path) -> Path:
    """Return a model's folder; of a GGUF file one that is made of it."""
    if model.is_dir():
        return model
    from r1_searcher.models.gguf import open_gguf

    made, tokenizer = open_gguf(str(model), "bfloat16")
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train(
    figures: Figures,
    policy: Path,
    params: contract.Params,
    questions: Any,
    retriever: WordSearch,
    *,
    name: str,
    until: float,
    folder: Path,
) -> Path:
    """Train from ``policy`` until ``until`` seconds are left; return the folder of the policy then."""
    stage, reward = getattr(params.train, name), int(name[-1])
    engine: Any = load_engine(policy, params.rollout)
    trainer = TorchTrainer(
        policy,
        params.update,
        learning_rate=stage.learning_rate,
        temperature=params.rollout.temperature,
        seed=params.seed,
    )
    order = np.random.default_rng([params.seed, reward]).permutation(questions.num_rows)
    number, taken = stage.questions_an_iteration, 0.0
    for iteration in range(1 if figures.machine.rehearsal else 10_000):
        if figures.left() - 2 * taken < until:
            break
        began = time.perf_counter()
        drawn = questions.take([order[(iteration * number + place) % len(order)] for place in range(number)])
        rollouts, _ = roll_out(
            engine, retriever, drawn, params.rollout, samples=stage.samples_a_question, seed=1000 * reward + iteration
        )
        sampled = time.perf_counter()
        rewards = reward_table(rollouts, params.reward, stage.reward_stage)
        _, metrics = update_policy(trainer, rollouts, rewards, params.update)
        engine.load_state(trainer.export_weights())
        taken = time.perf_counter() - began
        found = means(rewards)
        shown = {key: found[key] for key in ("reward", "f1", "em", "format_rate", "searches", "response_length")}
        figures.curve(
            stage=reward,
            iteration=iteration,
            **shown,
            gap=metrics["logprob_gap_mean"],
            seconds=taken,
            rollout_seconds=sampled - began,
        )
    trainer.save_policy(folder, step=0, parent="gpu_check")
    trainer.close()
    return folder


class WordSearch:
    """BM25 over whole words in plain Python: the kit's retriever, because bm25s may be missing."""

    fingerprint = "gpu_check"

    def __init__(self, passages: Sequence[dict[str, Any]]) -> None:
        self._passages = passages
        counts = [Counter(self._words(f"{row['title']} {row['text']}")) for row in passages]
        mean = sum(map(Counter.total, counts)) / len(counts)
        self._holding: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, words in enumerate(counts):
            norm = 1.5 * (0.25 + 0.75 * words.total() / mean)
            for word, count in words.items():
                self._holding[word].append((number, 2.5 * count / (count + norm)))

    @staticmethod
    def _words(text: str) -> list[str]:
        return ["".join(filter(str.isalnum, word)) for word in text.lower().split()]

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """See ``protocols.Retriever``."""
        return [self._best(query, k) for query in queries]

    def _best(self, query: str, k: int) -> list[Passage]:
        scores: dict[int, float] = defaultdict(float)
        for word in set(self._words(query)):
            holding = self._holding.get(word, [])
            rarity = math.log(1 + (len(self._passages) - len(holding) + 0.5) / (len(holding) + 0.5))
            for number, score in holding:
                scores[number] += rarity * score
        best = sorted(scores, key=lambda number: (-scores[number], number))[:k]
        rows = [(self._passages[number], scores[number]) for number in best]
        return [Passage(row["passage_id"], row["title"], row["text"], score) for row, score in rows]
