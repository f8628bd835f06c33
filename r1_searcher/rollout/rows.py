"""Write rollouts as a table with metadata of everything that they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.files.artefacts import code_fingerprint, fingerprint, sha256_tree
from r1_searcher.files.code import chosen_code, named_files
from r1_searcher.points import ENGINES
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.transcripts.grammar import Mode
from r1_searcher.types.protocols import Engine, Retriever

_CODE = (
    *("rollout", "model_folders.py", "transcripts/documents.py", "transcripts/grammar.py", "transcripts/scripts.py"),
    "types/model_config.py",
    *("types/protocols.py", "tools/protocol.py", "tools/guard.py"),
)


def inputs(
    rollout: params.Rollout,
    *,
    policy_sha256: str,
    index_fingerprint: str,
    questions: pa.Table,
    samples: int,
    seed: int,
    greedy: bool,
    mode: Mode = "search",
) -> dict[str, Any]:
    """Return all that a rollouts file depends on, as metadata with one ``fingerprint`` over it."""
    parts: dict[str, Any] = {
        "policy": policy_sha256,
        "index": index_fingerprint,
        "questions": fingerprint(questions.select(["question_id", "question", "answers"]).to_pylist()),
        "rollout": rollout.model_dump(),
        "samples": samples,
        "seed": seed,
        "greedy": greedy,
        "mode": mode,
        "prompt": prompt_of(rollout).hash,  # the text: the parameter is only a name or a path
        "code": code_fingerprint(*_CODE, without=named_files(ENGINES)),
        "chosen": chosen_parts(rollout),
    }
    return parts | {"fingerprint": fingerprint(parts)}


def chosen_parts(rollout: params.Rollout) -> list[str]:
    """Return fingerprints of the code that ``rollout`` chooses by name (engine and tools), part of every key of
    rollouts."""
    return [
        chosen_code(rollout.chosen_files("engine"), room="rollout"),
        chosen_code(rollout.chosen_files("tools"), room="tools"),
    ]


def versions(engine: Engine) -> dict[str, str]:
    """Return versions of the engine and of the libraries that can change a rollout."""
    import torch
    import transformers

    return {"engine": engine.name, "torch": torch.__version__, "transformers": transformers.__version__}


def metadata(
    engine: Engine,
    retriever: Retriever,
    policy: Path,
    questions: pa.Table,
    rollout: params.Rollout,
    *,
    samples: int,
    seed: int,
    greedy: bool,
    mode: Mode = "search",
) -> dict[str, Any]:
    """Return the metadata of a rollouts file that ``roll_out`` made with the same arguments."""
    made_from = inputs(
        rollout,
        policy_sha256=sha256_tree(policy),
        index_fingerprint=retriever.fingerprint,
        questions=questions,
        samples=samples,
        seed=seed,
        greedy=greedy,
        mode=mode,
    )
    return made_from | {"versions": versions(engine)}
