"""``evaluate``, ``regression``, ``benchmarks``, ``judge`` and ``report``: what is measured, and how it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from r1_searcher.extensions import Point
from r1_searcher.names import Name, PathText
from r1_searcher.params.base import ChatEndpoint, Count, Section, Share
from r1_searcher.params.chosen import Extensible
from r1_searcher.params.questions import QuestionColumn
from r1_searcher.points import ANSWER_METRICS, BENCHMARKS, PROMPTS
from r1_searcher.transcripts.grammar import Mode

# The other columns of an evaluation (types/schemas.py and evaluation/table.py, which load pyarrow).
EVALUATION_NAMES = (
    *("question_id", "question", "answers", "prediction", "em", "f1", "cover_em", "cover_em_contiguous"),
    *("format_right", "num_searches", "num_tokens", "finish_reason", "text", "segments", "violations", "tools"),
    *("n", "format_rate", "searches_per_question", "search_rate", "tokens_per_question"),  # and figures of a summary
)


class ServedPolicy(Section):
    """A policy behind an OpenAI-compatible server, in place of a folder."""

    server: str  # base URL, e.g. http://127.0.0.1:8000/v1
    model: str
    key_variable: str = ""  # environment variable with the key; empty: the server needs none
    interface: Literal["chat", "completions"] = "chat"  # completions: continues the transcript as it is
    price_prompt: Annotated[float, Field(ge=0)] = 0.0  # per million tokens, in any one currency
    price_completion: Annotated[float, Field(ge=0)] = 0.0


class Serving(Section):
    """How policies on servers are called."""

    concurrency: Count  # simultaneous requests
    requests_a_minute: Annotated[float, Field(ge=0)]  # 0: no limit; retries count
    timeout_seconds: Annotated[float, Field(gt=0)]  # of one attempt
    retries: Annotated[int, Field(ge=0)]  # after the first attempt, with growing pauses

    def of(self, policy: ServedPolicy) -> ChatEndpoint:
        """Return the settings of a client of the policy's server."""
        return ChatEndpoint(**self.model_dump(), **policy.model_dump(exclude={"interface"}))


def _kind_of_policy(given: Any) -> str:
    return "folder" if isinstance(given, str) else "served"


EvaluatedPolicy = Annotated[
    Annotated[str, Tag("folder")] | Annotated[ServedPolicy, Tag("served")], Discriminator(_kind_of_policy)
]


class Evaluate(Extensible):
    """Greedy evaluation, with two baselines."""

    points: ClassVar[Mapping[str, Point]] = {"prompts": PROMPTS, "metrics": ANSWER_METRICS}
    section: ClassVar[str] = "evaluate"

    questions: Count  # at most, per benchmark
    k: Count
    batch_questions: Count
    # Share of a set's questions that may be lost to failed searches or tools, and one in any case if above 0. They
    # count as wrong, and the summary has their number and what they cost.
    max_error_share: Share = 0.01
    prompts: dict[Mode, str] = Field(default_factory=dict)  # mode → prompt, if it differs from rollout.prompt
    # Answer metrics of each row beside em, f1, cover_em and cover_em_contiguous: built-in ones, or the user's own.
    metrics: list[Name] = Field(default_factory=lambda: ["em_squad", "f1_squad"])
    served: Serving
    policies: dict[
        Name, EvaluatedPolicy
    ]  # name → folder or server; the baselines' modes are names as well, or ends of names

    @model_validator(mode="after")
    def _metrics_are_columns(self) -> Evaluate:
        for name, number in Counter(self.metrics).items():
            if number > 1:
                raise ValueError(f"metrics: {name!r} is listed twice")
            if name in EVALUATION_NAMES or name.startswith("calls_"):
                raise ValueError(f"metrics: {name!r} is a column of every evaluation; leave it out or rename it")
        return self


class Regression(Section):
    """When a policy counts as worse than another, and when as the same (docs/regression.md)."""

    # Columns of an evaluation, in [0, 1], more is better; the number is the metric's share of the allowed error.
    metrics: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0, lt=1)]  # the largest difference in a mean that does not matter
    # Two samplings of one policy are called better or worse in at most 1 − confidence of all comparisons, over all
    # metrics and benchmarks together; worse_share of that is spent on "worse", the rest on "better".
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)]
    worse_share: Annotated[float, Field(gt=0, lt=1)]


class BenchmarkSet(Section):
    """A benchmark: a released one, or with ``questions`` one of your own. ``index`` is the index folder that its
    questions are searched in."""

    index: PathText
    questions: PathText | None = None  # a file of your own, in any form that questions may have
    columns: dict[QuestionColumn, str | int] = Field(default_factory=dict)  # our names → that file's

    @model_validator(mode="after")
    def _columns_of_a_file(self) -> BenchmarkSet:
        if self.columns and self.questions is None:
            raise ValueError("columns is for a file of your own: name it in questions")
        return self

    @property
    def chooses(self) -> bool:
        """Whether its name is that of a released benchmark."""
        return self.questions is None


class Benchmarks(Extensible):
    """Benchmarks, evaluated for every policy of ``evaluate.policies``: released ones (r1_searcher/benchmarks/released,
    or a user's extension), and a user's files of questions."""

    points: ClassVar[Mapping[str, Point]] = {"sets": BENCHMARKS, "corpora": BENCHMARKS}
    section: ClassVar[str] = "benchmarks"

    mirrors: list[str]  # folders or addresses to try for a released file before its own address
    questions: Count  # at most, per benchmark: the first ones
    corpora: list[Name]  # benchmarks whose own context paragraphs become a corpus and an index
    sets: dict[Name, BenchmarkSet]  # the benchmarks to evaluate

    @model_validator(mode="after")
    def _own_names(self) -> Benchmarks:
        for name in (name for name, one in self.sets.items() if not one.chooses):
            if "-" in name:  # a stage is named policy-benchmark
                raise ValueError(f"sets.{name}: a benchmark's name has no -")
            if name in BENCHMARKS.files(self.extensions):
                raise ValueError(f"sets.{name}: this is a released benchmark; give your own questions another name")
        return self


class Judge(ChatEndpoint):
    """The judge of answers (ACC_L). ``server`` empty: none, and judged accuracy is absent everywhere."""

    prompt: str  # a name in r1_searcher/judging/prompts, or a path to a file with {question}, {gold} and {prediction}
    max_tokens: Count  # per reply: a word or two

    @model_validator(mode="after")
    def _model_given(self) -> Judge:
        if self.server and not self.model:
            raise ValueError("judge.server is given, but judge.model names none")
        return self


class Report(Section):
    """The HTML page."""

    title: str
    example_trajectories: Count
