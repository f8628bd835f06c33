"""The commands that evaluate: all policies of the parameters, one policy, or one on a released benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.run import benchmarks, run
from r1_searcher.files.artefacts import atomic, read_json, write_json
from r1_searcher.files.store import Store
from r1_searcher.protocol_card import mode_of
from r1_searcher.retrieval.retrievers import is_lasting
from r1_searcher.shown import show
from r1_searcher.transcripts.grammar import Mode


def run_one(options: argparse.Namespace) -> None:
    """Evaluate one policy on every benchmark."""
    params = contract.load_or_shipped(options.params)
    with atomic(options.out, folder=True) as draft:  # so that a removed benchmark leaves no file behind
        store = Store() if _searches_may_fail(params) else None
        _evaluate_here(options, params, options.name, _policy_of_options(options), draft, store=store)


def run_all(options: argparse.Namespace) -> None:
    """Evaluate every policy of ``evaluate.policies`` on the questions of the corpus."""
    params = contract.load_or_shipped(options.params)
    policies = params.evaluate.policies
    # A server may fail, also one that searches; the other answers must not be lost with it.
    local = not _searches_may_fail(params) and all(isinstance(policy, str) for policy in policies.values())
    store = None if local else Store()
    with atomic(options.out, folder=True) as draft:
        for name, policy in policies.items():
            (draft / name).mkdir()
            _evaluate_here(options, params, name, _policy_of(policy), draft / name, store=store)
    write_json(options.policies, params.evaluate.model_dump(mode="json")["policies"])
    show(f"{options.out}: {len(policies)} policies")


def run_benchmark(options: argparse.Namespace) -> None:
    """Evaluate one policy of ``evaluate.policies`` on one released benchmark of ``benchmarks.sets``."""
    params = contract.load_or_shipped(options.params)
    policies, known = params.evaluate.policies, params.benchmarks.sets
    if options.name not in policies:
        raise PipelineError(
            f"unknown policy {options.name!r}", where="evaluate.policies", fix=f"known: {', '.join(policies)}"
        )
    if options.benchmark not in known:
        names = ", ".join(known) or "none; `python -m stages.benchmarks list` shows what could be"
        raise PipelineError(f"unknown benchmark {options.benchmark!r}", where="benchmarks.sets", fix=f"known: {names}")
    folder = options.benchmarks / options.benchmark
    with atomic(options.out / options.benchmark / options.name, folder=True) as draft:
        _evaluate(
            options.name,
            mode_of(options.name),
            _policy_of(policies[options.name]),
            files={options.benchmark: folder / "questions.parquet"},
            index=Path(read_json(folder / "search.json")["index"]),
            corpus=None,  # the index has its own passages
            out=draft,
            params=params,
            limit=None,
            store=Store(),
        )


def _searches_may_fail(params: contract.Params) -> bool:
    """Return whether searches leave this machine, so that answers are kept for the next attempt."""
    return not is_lasting(params.retriever) and params.retriever.searches.mode != "replay"


def _policy_of(policy: str | contract.ServedPolicy) -> Path | contract.ServedPolicy:
    return Path(policy) if isinstance(policy, str) else policy


def _policy_of_options(options: argparse.Namespace) -> Path | contract.ServedPolicy:
    """Return the policy that the command line names: a folder, or a model on a server."""
    if options.server is None:
        return Path(options.policy)
    if options.model is None:
        raise PipelineError("a server needs the name of a model", where="--server", fix="add --model NAME")
    key, interface = options.key_variable, options.interface
    return contract.ServedPolicy(server=options.server, model=options.model, key_variable=key, interface=interface)


def _evaluate_here(
    options: argparse.Namespace,
    params: contract.Params,
    name: str,
    policy: Path | contract.ServedPolicy,
    out: Path,
    *,
    store: Store | None = None,
) -> None:
    """Evaluate one policy on every question set of the corpus."""
    _evaluate(
        name,
        options.mode or mode_of(name),
        policy,
        files=benchmarks(options.questions),
        index=options.index,
        corpus=options.corpus,
        out=out,
        params=params,
        limit=params.evaluate.questions,
        store=store,
    )


def _evaluate(name: str, mode: Mode, policy: Path | contract.ServedPolicy, **given: Any) -> None:
    """Evaluate one policy on some benchmarks, printing one line each."""
    for line in run(name=name, mode=mode, policy=policy, **given):
        show(
            f"{name} ({mode}) {line['benchmark']}: {line['n']} questions, EM {line['em']:.3f}, "
            f"Cover-EM {line['cover_em']:.3f}, {line['seconds']:.1f} s"
            + (f"; {line['lost']} lost to failed searches or tools, counted as wrong" if line["lost"] else "")
            + (line["asked"] and f"; {line['asked']}"),
        )
