"""The protocol card: everything that an evaluation's figures depend on besides the policy, line by line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint, read_json, sha256_file
from r1_searcher.params import Rollout as RolloutParams
from r1_searcher.params import ServedPolicy
from r1_searcher.transcripts.grammar import MODES, Mode

SUBJECT = (
    "policy",
    "policy_sha256",
    "policy_step",
    "policy_model",
)  # the card's subject; everything else is how it was measured
GOLD_ALIASES = "the best match of all gold answers"  # how r1_searcher/rewards/metrics.py scores several


def mode_of(name: str) -> Mode:
    """Return how a policy of this name is run.

    ``no_search`` and ``base_no_search``: without search; ``plain_rag`` and ``base_plain_rag``: one search of the
    question itself; ``ircot`` and ``base_ircot``: a search after every sentence of reasoning; all others as trained.
    """
    for mode in MODES[1:]:
        if name == mode or name.endswith(f"_{mode}"):
            return mode
    return "search"


def policy_identity(policy: Path | ServedPolicy) -> dict[str, Any]:
    """Return ``policy_sha256`` and, if the manifest has it, ``policy_step`` of a policy folder.

    A user's own folder has no manifest: its weights are hashed. Of a policy on a server only the name is known,
    ``policy_model``: the model behind it may change, and its address is private.
    """
    if isinstance(policy, ServedPolicy):
        return {"policy_sha256": None, "policy_step": None, "policy_model": policy.model}
    folder = policy
    if not folder.is_dir():
        raise PipelineError("no such policy folder", where=str(folder), fix="run `dvc repro`, which makes it")
    manifest = folder / "manifest.json"
    if manifest.is_file():
        facts = read_json(manifest)
        if "sha256" in facts:
            return {"policy_sha256": facts["sha256"], "policy_step": facts.get("step")}
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise PipelineError("no *.safetensors in this policy folder", where=str(folder))
    if len(weights) == 1:
        return {"policy_sha256": sha256_file(weights[0]), "policy_step": None}
    parts = [[file.name, sha256_file(file)] for file in weights]
    return {"policy_sha256": fingerprint(parts), "policy_step": None}


def questions_fingerprint(questions: pa.Table) -> str:
    """Return the sha256 of questions and correct answers: ids, questions, gold answers, in order."""
    return fingerprint(questions.select(["question_id", "question", "answers"]).to_pylist())


def text_sha256(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_card(
    *,
    rollout: RolloutParams,
    benchmark: str,
    questions: pa.Table,
    mode: str,
    prompt_sha256: str,
    corpus: str,
    index: str,
    retriever: str,
    engine: str,
    metric_version: str,
) -> dict[str, Any]:
    """Return the card of one benchmark in one mode, without the policy's own lines.

    ``rollout``: the parameters in force (evaluation has its own ``k``); ``corpus`` and ``index`` are fingerprints,
    ``retriever`` names the method and its settings. Every value is a plain string or number, so that cards are compared
    line by line.
    """
    offered = _offered(rollout) if mode == "search" else ""  # the baselines can only search
    return {
        "benchmark": benchmark,
        "num_questions": questions.num_rows,
        "questions_sha256": questions_fingerprint(questions),
        "gold_aliases": GOLD_ALIASES,
        "num_gold_answers": sum(map(len, questions["answers"].to_pylist())),
        "corpus": corpus,
        "index": index,
        "retriever": retriever,
        "k": rollout.k,
        "max_searches": rollout.max_searches,
        "max_turn_tokens": rollout.max_turn_tokens,
        "max_total_tokens": rollout.max_total_tokens,
        "max_passage_tokens": rollout.max_passage_tokens,
        "max_documents_tokens": rollout.max_documents_tokens,
        "passages": rollout.passages,
        **({"tools": offered} if offered else {}),
        "mode": mode,
        "prompt": rollout.prompt,
        "prompt_sha256": prompt_sha256,
        "decoding": "greedy",
        "engine": engine,
        "dtype": rollout.dtype,
        "metric_version": metric_version,
    }


def _offered(rollout: RolloutParams) -> str:
    """Return the tools beside search with their parameters; empty if there are none."""
    parts = []
    for name in rollout.tools:
        if name != "search":
            parameters = rollout.parameters_of("tools", name)
            parts.append(name if parameters is None else f"{name} {parameters.model_dump_json()}")
    return ", ".join(parts)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *, besides: Iterable[str] = SUBJECT) -> list[str]:
    """Return the lines in which two cards differ, each as ``name: this, that``; empty: they may be compared."""
    left_out = set(besides)
    names = [name for name in {**one, **other} if name not in left_out]
    absent = "absent"
    return [
        f"{name}: {one.get(name, absent)}, {other.get(name, absent)}"
        for name in names
        if one.get(name, absent) != other.get(name, absent)
    ]
