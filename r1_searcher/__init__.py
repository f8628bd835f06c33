"""R1-Searcher as a library: retrieval, rollouts, rewards, updates, evaluation, statistics.

The names that other projects use most are available here and imported on first use, so that ``import r1_searcher``
loads nothing: ``r1_searcher.open_index("data/index").search(["who directed Silent River"], 3)``.
"""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Type checkers read this block directly, and ``__getattr__`` parses it; ruff keeps ``__all__`` in line with it.
if TYPE_CHECKING:
    from r1_searcher.errors import PipelineError
    from r1_searcher.evaluation.evaluate_policy import evaluate_policy
    from r1_searcher.evaluation.score import score_files
    from r1_searcher.extend import advantage_estimator, answer_metric, policy_loss, retriever, reward_set, tool
    from r1_searcher.files.rollouts import read_rollouts
    from r1_searcher.params import Params
    from r1_searcher.params import load as load_params
    from r1_searcher.params import shipped as shipped_params
    from r1_searcher.questions.files import read_questions
    from r1_searcher.retrieval import build_index, open_index, open_retriever
    from r1_searcher.retrieval.library import index_passages, open_service, serve_retriever
    from r1_searcher.retrieval.searches import RecordingRetriever, ReplayRetriever, SearchRecord
    from r1_searcher.rewards.columns import read_rewards
    from r1_searcher.rewards.metrics import cover_em, em, f1
    from r1_searcher.rewards.scoring import reward_table
    from r1_searcher.rollout import load_engine
    from r1_searcher.rollout.loop import roll_out
    from r1_searcher.statistics.bootstrap import intervals as bootstrap_intervals
    from r1_searcher.statistics.compare import compare_evaluations
    from r1_searcher.statistics.pairs import read_evaluated as read_evaluations
    from r1_searcher.statistics.verdict import verdicts
    from r1_searcher.tools.protocol import Tool
    from r1_searcher.transcripts.documents import neutralise
    from r1_searcher.transcripts.grammar import Transcript, extract_answer, extract_query, format_violations
    from r1_searcher.types.protocols import Engine, Passage, Retriever, RetrieverError, Trainer
    from r1_searcher.update import load_trainer, update_policy
    from r1_searcher.update.advantages import compute_advantages
    from r1_searcher.update.losses import loss_weights, token_losses

__all__ = [
    "Engine",
    "Params",
    "Passage",
    "PipelineError",
    "RecordingRetriever",
    "ReplayRetriever",
    "Retriever",
    "RetrieverError",
    "SearchRecord",
    "Tool",
    "Trainer",
    "Transcript",
    "advantage_estimator",
    "answer_metric",
    "bootstrap_intervals",
    "build_index",
    "compare_evaluations",
    "compute_advantages",
    "cover_em",
    "em",
    "evaluate_policy",
    "extract_answer",
    "extract_query",
    "f1",
    "format_violations",
    "index_passages",
    "load_engine",
    "load_params",
    "load_trainer",
    "loss_weights",
    "neutralise",
    "open_index",
    "open_retriever",
    "open_service",
    "policy_loss",
    "read_evaluations",
    "read_questions",
    "read_rewards",
    "read_rollouts",
    "retriever",
    "reward_set",
    "reward_table",
    "roll_out",
    "score_files",
    "serve_retriever",
    "shipped_params",
    "token_losses",
    "tool",
    "update_policy",
    "verdicts",
]


@functools.cache
def _names() -> dict[str, tuple[str, str]]:
    """Return each public name with its module and its name there."""
    blocks = [node for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: (line.module or "", alias.name)
        for block in blocks
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in _names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _names()[name]
    found = globals()[name] = getattr(importlib.import_module(module), there)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
