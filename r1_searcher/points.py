"""The extension points: everything in params.yaml that is chosen by a name that may be the user's own.

Their decorators are in ``r1_searcher.extend``.
"""

from __future__ import annotations

from r1_searcher.extensions import Point

REWARD_SETS = Point("reward_set", "reward set", "r1_searcher.rewards.sets", "reward.set")
ANSWER_METRICS = Point("answer_metric", "answer metric", "r1_searcher.rewards.answer_metrics", "reward.answer_metric")
ESTIMATORS = Point("advantage_estimator", "advantage estimator", "r1_searcher.update.estimators", "update.estimator")
LOSSES = Point("policy_loss", "policy loss", "r1_searcher.update.policy_losses", "update.loss")
RETRIEVERS = Point("retriever", "retriever kind", "r1_searcher.retrieval.kinds", "retriever.kind")
CORPUS_SOURCES = Point("corpus_source", "corpus source", "r1_searcher.corpus.sources", "corpus.source")
QUESTION_SOURCES = Point("question_source", "question source", "r1_searcher.questions.sources", "questions.source")
BENCHMARKS = Point("benchmark", "released benchmark", "r1_searcher.benchmarks.released", "benchmarks.sets")
PROMPTS = Point("prompt", "prompt", "r1_searcher.rollout.prompts", "rollout.prompt", texts=True)
ENGINES = Point("engine", "engine", "r1_searcher.rollout.engine_kinds", "rollout.engine")
TRAINERS = Point("trainer", "trainer", "r1_searcher.update.trainer_kinds", "update.trainer")
TOOLS = Point("tool", "tool", "r1_searcher.tools.kinds", "rollout.tools")
TRACKERS = Point("tracker", "tracker", "r1_searcher.tracking.kinds", "tracking.trackers")

POINTS = (
    *(REWARD_SETS, ANSWER_METRICS, ESTIMATORS, LOSSES, RETRIEVERS, CORPUS_SOURCES, QUESTION_SOURCES),
    *(BENCHMARKS, PROMPTS, ENGINES, TRAINERS, TOOLS, TRACKERS),
)
