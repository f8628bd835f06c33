"""Evaluate one policy on every benchmark: greedy rollouts, metrics, one row per question, a protocol card."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.answer_store import AnswerStore
from r1_searcher.evaluation.further_metrics import card_lines, chosen_metrics, with_metrics
from r1_searcher.evaluation.lost import LostQuestions, lost_rows
from r1_searcher.evaluation.table import evaluation_table
from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.files.store import Store
from r1_searcher.params import Params, Rollout, ServedPolicy
from r1_searcher.progress import Paced, Told, nobody
from r1_searcher.protocol_card import make_card, policy_identity, text_sha256
from r1_searcher.transcripts.grammar import Mode
from r1_searcher.types.protocols import Engine, Retriever
from r1_searcher.types.schemas import QUESTIONS
from r1_searcher.types.splits import is_benchmark


def benchmarks(folder: Path) -> dict[str, Path]:
    """Return the question files of ``folder`` by benchmark: all but training and validation sets."""
    found = {file.stem: file for file in sorted(folder.glob("*.parquet")) if is_benchmark(file.stem)}
    if not found:
        raise PipelineError("no benchmark here", where=str(folder), fix="run `dvc repro questions`, which makes them")
    return found


def evaluate(
    engine: Engine,
    retriever: Retriever,
    questions: pa.Table,
    params: Params,
    *,
    mode: Mode,
    batch: int,
    kept: AnswerStore | None = None,
    told: Told = nobody,
) -> tuple[pa.Table, str]:
    """Answer ``questions`` (schema QUESTIONS) greedily, ``batch`` at a time; return one row per question, in order.

    Batches in ``kept`` are not answered again; one with a lost question is not put there. ``told``: called with how
    many are answered, and the total. Also returns the sha256 of the prompt without the question. Raises
    ``PipelineError`` if more than ``evaluate.max_error_share`` of the questions are lost.
    """
    from r1_searcher.rewards.metrics import cover_em_contiguous
    from r1_searcher.rewards.scoring import reward_table
    from r1_searcher.rollout import roll_out

    rollout = rollout_of(params, mode)
    parts, prompts, lost = [], [], LostQuestions(questions.num_rows, params.evaluate.max_error_share)
    for start in range(0, questions.num_rows, batch):
        asked = questions.slice(start, batch)
        found = kept.get(asked) if kept else None
        if found:
            parts.append(found[0])
            prompts.append(found[1])
            continue
        rollouts, _ = roll_out(
            engine,
            retriever,
            asked,
            rollout,
            samples=1,
            seed=params.seed,
            greedy=True,
            mode=mode,
            told=functools.partial(_report_progress, told, start, questions.num_rows),
        )
        lost_here = lost.count(rollouts)
        rewards = reward_table(rollouts, params.reward, None)  # the metrics do not depend on the stage
        parts.append(evaluation_table(rollouts, rewards, cover_em_contiguous))
        first = rollouts.slice(0, 1).to_pylist()[0]
        prompts.append(text_sha256(first["prompt"].replace(first["question"], "{question}")))
        if kept and not lost_here:
            kept.put(asked, parts[-1], prompts[-1])
    return pa.concat_tables(parts), prompts[0]


def rollout_of(params: Params, mode: Mode) -> Rollout:
    """Return the rollout parameters of an evaluation: its own ``k``, and the mode's own prompt if it has one."""
    prompt = params.evaluate.prompts.get(mode, params.rollout.prompt)
    return params.rollout.model_copy(update={"k": params.evaluate.k, "prompt": prompt})


def _report_progress(told: Told, before: int, total: int, done: int, _of_batch: int) -> None:
    told(before + done, total)


def _open_engine(
    policy: Path | ServedPolicy, params: Params, opened: contextlib.ExitStack
) -> tuple[Engine, dict[str, Any]]:
    """Return a policy's engine and its changes to the protocol card. ``opened`` closes a server's connections."""
    if isinstance(policy, ServedPolicy):
        from r1_searcher.evaluation.served import open_served

        return open_served(policy, params.evaluate.served, opened)
    from r1_searcher.rollout import load_engine

    _set_threads(params.threads)
    return load_engine(policy, params.rollout), {}


def _set_threads(threads: int) -> None:
    """Another number of threads rounds differently and may decide a greedy tie differently."""
    import torch

    torch.set_num_threads(threads)


def _mean_hops(questions: pa.Table) -> float | None:
    """Return the mean number of searches that these questions need, over those with a known number."""
    known = [hops for hops in questions["num_hops"].to_pylist() if hops is not None]
    return sum(known) / len(known) if known else None


def run(
    *,
    name: str,
    mode: Mode,
    policy: Path | ServedPolicy,
    files: Mapping[str, Path],
    index: Path,
    corpus: Path | None,
    out: Path,
    params: Params,
    limit: int | None,
    store: Store | None = None,
) -> Iterator[dict[str, Any]]:
    """Evaluate ``policy`` as ``name`` on ``files`` (questions by benchmark); write one Parquet file each to ``out``.

    ``limit``: the first so many questions of each; None: all. With a ``store``, a local policy's answered batches are
    stored (a server's replies are stored one by one). Yields ``{benchmark, n, cover_em, em, lost, seconds, asked}`` per
    benchmark, for the terminal; ``lost``: questions lost to a search or a tool; ``asked``: requests to a policy's
    server so far.
    """
    from r1_searcher.retrieval import identify, open_retriever
    from r1_searcher.rewards.metrics import METRIC_VERSION

    identity = policy_identity(policy)  # first, because it is the cheapest to find missing
    metrics = chosen_metrics(params.evaluate)
    searched = identify(params, index=index)
    retriever = open_retriever(params, index=index, corpus=corpus, fingerprint=searched.fingerprint)
    rollout = rollout_of(params, mode)
    kept = None
    if store is not None and isinstance(policy, Path):
        retrieved = searched.fingerprint
        kept = AnswerStore(store, identity=identity, mode=mode, rollout=rollout, retriever=retrieved, params=params)
    with contextlib.ExitStack() as opened:
        engine, lines = _open_engine(policy, params, opened)
        for benchmark, file in files.items():
            began = time.monotonic()
            asked = read_table(file, QUESTIONS).slice(0, limit)
            if asked.num_rows == 0:
                raise PipelineError("contains no questions", where=str(file))
            with Paced(f"{name} ({mode}) {benchmark}", unit="questions") as paced:
                how: dict[str, Any] = {"mode": mode, "batch": params.evaluate.batch_questions, "kept": kept}
                table, prompt = evaluate(engine, retriever, asked, params, told=paced.told, **how)
            table = with_metrics(table, metrics)
            card = make_card(
                rollout=rollout,
                benchmark=benchmark,
                questions=asked,
                mode=mode,
                prompt_sha256=prompt,
                corpus=searched.corpus,
                index=searched.fingerprint,
                retriever=searched.description,
                engine=engine.name,
                metric_version=METRIC_VERSION,
            )
            metadata = {
                "card": {"policy": name, **identity, **card, **card_lines(params, metrics), **lines},
                "metrics": list(metrics),
                "kinds": sorted(set(asked["kind"].to_pylist())),
                "needed_searches": _mean_hops(asked),
            }
            write_table(out / f"{benchmark}.parquet", table, metadata)
            yield {
                "benchmark": benchmark,
                "n": table.num_rows,
                "em": sum(table["em"].to_pylist()) / table.num_rows,
                "cover_em": sum(table["cover_em"].to_pylist()) / table.num_rows,
                "lost": int(lost_rows(table).sum()),
                "seconds": time.monotonic() - began,
                "asked": getattr(engine, "asked", ""),
            }
