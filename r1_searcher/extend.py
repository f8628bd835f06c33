"""What a user's own file imports: one decorator per extension point.

    from r1_searcher.extend import reward_set

``extensions: [my_rewards.py]`` in params.yaml or a profile names the file.
"""

from collections.abc import Callable
from typing import TypeVar

from r1_searcher.points import (
    ANSWER_METRICS,
    BENCHMARKS,
    CORPUS_SOURCES,
    ENGINES,
    ESTIMATORS,
    LOSSES,
    PROMPTS,
    QUESTION_SOURCES,
    RETRIEVERS,
    REWARD_SETS,
    TOOLS,
    TRACKERS,
    TRAINERS,
)

__all__ = [
    "advantage_estimator",
    "answer_metric",
    "benchmark",
    "corpus_source",
    "engine",
    "policy_loss",
    "prompt",
    "question_source",
    "retriever",
    "reward_set",
    "tool",
    "tracker",
    "trainer",
]

T = TypeVar("T")

reward_set = REWARD_SETS.register
answer_metric = ANSWER_METRICS.register
advantage_estimator = ESTIMATORS.register
policy_loss = LOSSES.register
retriever = RETRIEVERS.register
corpus_source = CORPUS_SOURCES.register
question_source = QUESTION_SOURCES.register

engine = ENGINES.register
trainer = TRAINERS.register
tool = TOOLS.register
tracker = TRACKERS.register


def benchmark(name: str) -> Callable[[T], T]:
    """Decorate a function that returns a ``Release``; it takes no parameters of its own."""
    return BENCHMARKS.register(name)


def prompt(name: str) -> Callable[[T], T]:
    """Decorate a function that returns a template. It has no parameters of its own: the tiny model's stage depends on
    the prompt's file, but not on all of ``rollout``."""
    return PROMPTS.register(name)
