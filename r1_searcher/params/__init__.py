"""Parameters: ``params.yaml``, one top-level key per stage, checked once. Unknown keys fail.

No torch here: reading parameters must stay quick. Defaults live only in ``params.yaml``, where they are visible; a
field has a default here only if its absence is a plain "no".
"""

from __future__ import annotations

from r1_searcher.params.base import ChatEndpoint, Count, Section, Share
from r1_searcher.params.base_model import BaseModelParams, TinyModel
from r1_searcher.params.corpus import Corpus, Kilt, WorldSize
from r1_searcher.params.evaluate import (
    Benchmarks,
    BenchmarkSet,
    Evaluate,
    EvaluatedPolicy,
    Judge,
    Regression,
    Report,
    ServedPolicy,
    Serving,
)
from r1_searcher.params.index import Dense, Hnsw, Index, IvfPq
from r1_searcher.params.questions import Audit, Difficulty, Labelled, Level, Mix, QuestionCounts, Questions
from r1_searcher.params.reading import PARAMS_FILE, SHIPPED, check, load, load_or_shipped, parse, shipped
from r1_searcher.params.retriever import DenseSearch, Hybrid, Online, Rerank, RetrieverParams, Searches, Service
from r1_searcher.params.rollout import Rollout, Vllm
from r1_searcher.params.tracking import TrackingParams
from r1_searcher.params.train import Collapse, Lora, Reward, Train, TrainSegment, TrainStage, Update
from r1_searcher.params.whole import Params
from r1_searcher.params.workers import Hardware, WorkersParams

__all__ = [
    "PARAMS_FILE",
    "SHIPPED",
    "Audit",
    "BaseModelParams",
    "BenchmarkSet",
    "Benchmarks",
    "ChatEndpoint",
    "Collapse",
    "Corpus",
    "Count",
    "Dense",
    "DenseSearch",
    "Difficulty",
    "Evaluate",
    "EvaluatedPolicy",
    "Hardware",
    "Hnsw",
    "Hybrid",
    "Index",
    "IvfPq",
    "Judge",
    "Kilt",
    "Labelled",
    "Level",
    "Lora",
    "Mix",
    "Online",
    "Params",
    "QuestionCounts",
    "Questions",
    "Regression",
    "Report",
    "Rerank",
    "RetrieverParams",
    "Reward",
    "Rollout",
    "Searches",
    "Section",
    "ServedPolicy",
    "Service",
    "Serving",
    "Share",
    "TinyModel",
    "TrackingParams",
    "Train",
    "TrainSegment",
    "TrainStage",
    "Update",
    "Vllm",
    "WorkersParams",
    "WorldSize",
    "check",
    "load",
    "load_or_shipped",
    "parse",
    "shipped",
]
