"""Parameters: ``params.yaml``, one top-level key a stage, checked once. Unknown keys fail.

No torch here: reading parameters must stay quick. Defaults live in ``params.yaml`` alone, where they
can be seen; a field has a default here only where its absence is a plain "no".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from stages.contract.errors import PipelineError
from stages.contract.grammar import Mode

PARAMS_FILE = Path("params.yaml")

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of params.yaml; unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """A chat model on an OpenAI-compatible server. Prices are of a million tokens, in any one currency."""

    server: str  # base URL, e.g. http://127.0.0.1:8000/v1
    model: str
    key_variable: str = ""  # the environment variable that holds the key; empty: the server needs none
    concurrency: Count  # requests at a time
    requests_a_minute: Annotated[float, Field(ge=0)] = 0.0  # 0: no limit; retries count
    timeout_seconds: Annotated[float, Field(gt=0)]  # of one attempt
    retries: Annotated[int, Field(ge=0)]  # after the first attempt, with growing pauses
    price_prompt: Annotated[float, Field(ge=0)] = 0.0
    price_completion: Annotated[float, Field(ge=0)] = 0.0


class World(Section):
    """Size of a synthetic world."""

    people: Count
    films: Count
    books: Count
    cities: Count


class Kilt(Section):
    """How KILT's pages are cut."""

    words: Count  # a passage


class Corpus(Section):
    """``source: world`` writes a synthetic corpus; every other source reads ``files``.

    ``files``: passages with title and text. ``kilt``: KILT's knowledge source. ``hotpotqa_abstracts``: HotpotQA's
    Wikipedia abstracts. ``contexts``: the paragraphs that HotpotQA, 2Wiki and MuSiQue give with their questions.
    """

    source: Literal["world", "files", "kilt", "hotpotqa_abstracts", "contexts"]
    world: World
    files: list[str] = []
    kilt: Kilt
    rows_a_part: Count  # more passages than this are written as several Parquet files

    @model_validator(mode="after")
    def _files_given(self) -> Corpus:
        if self.source != "world" and not self.files:
            raise ValueError(f"source is {self.source}, but corpus.files names none")
        return self


class QuestionCounts(Section):
    """How many questions a synthetic world is asked, by split."""

    train: Count
    validation: Count
    held_out: Count
    held_out_kind: Count
    comparison: Count


class Questions(Section):
    """``files`` maps a split (train, validation, or a benchmark's name) to a file of the user's."""

    source: Literal["world", "files"]
    world: QuestionCounts
    files: dict[str, str] = {}


class Audit(Section):
    """What is held against training before it begins: leakage into the evaluation, and answerable questions."""

    ngram: Count  # words of an n-gram
    ngram_share: Share  # of a question's n-grams that training must have for the question to count as overlapping
    questions: Count  # at most so many a split are searched for, evenly spaced
    max_overlap: Share  # of a split's questions that training may ask too (same words)
    min_coverage: Share  # of a split's questions that searches can answer, judged where supporting titles are known
    on_fail: Literal["warn", "stop"]


Level = Literal["easy", "medium", "difficult"]


class Labelled(Section):
    """A question file and the policy folder whose rollouts say how difficult each question is."""

    policy: str
    questions: str


class Mix(Section):
    """A training mix: how many questions of a dataset and a difficulty, from a labelled file or a folder of them."""

    questions: str
    counts: dict[str, dict[Level, Count]]  # dataset → difficulty → questions


class Difficulty(Section):
    """How a question's difficulty is found (paper section 4.1: rollouts needed for one right answer)."""

    samples: Count  # rollouts a question
    metric: Literal["em", "cover_em"]  # by which an answer is right
    easy_below: Count  # needed rollouts below this: easy
    medium_up_to: Count  # up to this: medium; above: difficult
    questions_a_chunk: Count  # questions whose counts are kept together; what a kill can cost
    label: dict[str, Labelled] = {}  # name → what becomes data/difficulty/NAME.parquet
    mixes: dict[str, Mix] = {}  # name → what becomes data/mixes/NAME.parquet

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Difficulty:
        if self.easy_below > self.medium_up_to:
            raise ValueError(f"easy_below is {self.easy_below}, above medium_up_to, {self.medium_up_to}")
        if self.samples < self.medium_up_to:
            raise ValueError(
                f"samples is {self.samples}, and too few to tell medium (up to {self.medium_up_to}) from difficult"
            )
        return self


class Hnsw(Section):
    """faiss' graph of neighbours, as it is built."""

    links: Count  # a passage (M)
    ef_construction: Count


class IvfPq(Section):
    """faiss' inverted lists with product-quantised codes."""

    lists: Annotated[int, Field(ge=0)]  # 0: 4 · √passages, and fewer for a small corpus
    code_bytes: Count  # a passage; a divisor of the model's dimension
    train: Count  # k-means learns from at most so many passages


class Dense(Section):
    """Vectors of the passages beside the BM25 index (sentence-transformers, faiss). No ``model``: none are made."""

    model: str  # a sentence-transformers folder or hub name, e.g. BAAI/bge-large-en-v1.5 (the paper's)
    query_prefix: str  # before a query; auto: what the model's folder or family says
    passage_prefix: str  # before a passage; auto likewise
    similarity: Literal["cosine", "dot"]
    max_tokens: Count  # what is longer is cut; the model's own limit holds as well
    batch: Count
    device: Literal["auto", "cpu", "cuda"]  # of embedding the passages; auto: the GPU where there is one
    dtype: Literal["float32", "bfloat16", "float16"]  # of the model on a GPU; on a CPU float32
    passages_a_shard: Count  # embedded, and kept in the store, together: what a kill can cost
    kind: Literal["flat", "hnsw", "ivfpq"]
    storage: Literal["float16", "float32"]  # of the vectors, flat and hnsw; of the kept shards in any case
    hnsw: Hnsw
    ivfpq: IvfPq


class Index(Section):
    """BM25 (bm25s) over title and text; ``dense``: vectors beside it."""

    k1: float
    b: float
    title_weight: Count  # how many times the title stands in the indexed text
    stemmer: str  # a Snowball language, e.g. english, or none
    stopwords: str  # a bm25s list, e.g. english, or none
    # Working memory of the build in GB, beside the vocabulary (of two million passages about 1 GB): what it can hold
    # at once is sorted at once. Changes no file of the index.
    memory_gb: Annotated[float, Field(gt=0)] = 1.0
    dense: Dense | None = None


class Searches(Section):
    """Recorded searches: (retriever, query, k) → passages, in one file of ``folder``.

    ``record`` keeps every search and makes none twice; ``replay`` serves from the file alone, and a search
    that is not there stops the run; ``live`` does neither. ``auto``: record where the same search can give
    something else tomorrow (online), else live.
    """

    mode: Literal["auto", "live", "record", "replay"]
    folder: str  # empty: searches/ in the store


class Online(Section):
    """A web search engine's API, and the pages that it names. Keys come from the environment alone."""

    engine: Literal["serper", "tavily", "brave", "searxng"]
    url: str  # of the API; empty: the engine's own. SearXNG is self-hosted: http://localhost:8080/search
    key_variable: str  # environment variable with the key; empty: the engine's usual one
    language: str  # of the results, e.g. en
    pages: bool  # read the pages; false: the engine's snippets are the passages
    passage_words: Count  # a page is cut into passages of so many words
    max_page_bytes: Count  # of a page, decoded; what follows is not read
    allow_private_addresses: bool  # also read pages inside this machine's own networks
    user_agent: str  # who asks for pages; put an address here under which you can be reached
    timeout: Annotated[float, Field(gt=0)]  # seconds for a connection or for an answer to begin, and for a whole page
    attempts: Count  # of one search, the first included
    backoff: Annotated[float, Field(gt=0)]  # seconds before the second attempt, doubled for each after it, with jitter
    max_wait: Annotated[float, Field(ge=0)]  # longest wait in seconds, also where the engine asks for more
    calls_a_second: Annotated[float, Field(gt=0)]
    concurrency: Count  # calls, and pages, at a time
    max_calls: Count  # of all runs that share a record, retries included; then the run stops
    price_a_call: Annotated[float, Field(ge=0)]  # in the currency of max_cost
    max_cost: Annotated[float, Field(ge=0)]


class DenseSearch(Section):
    """How a dense index is searched. The flat one is exact."""

    device: Literal["auto", "cpu", "cuda"]  # of embedding the queries
    ef_search: Count  # hnsw: candidates that are kept while the graph is walked
    probes: Count  # ivfpq: lists that are looked into


class Hybrid(Section):
    """Reciprocal rank fusion of BM25 and dense."""

    rrf_k: Count  # a passage gets 1 / (rrf_k + rank) of each
    depth: Count  # ranks of each that take part


class Rerank(Section):
    """A cross-encoder over what the retriever finds, whatever its kind. No ``model``: none."""

    model: str  # a sentence-transformers CrossEncoder folder or hub name, e.g. BAAI/bge-reranker-base
    depth: Count  # passages of a query that are reranked
    max_tokens: Count  # of query and passage together
    batch: Count
    device: Literal["auto", "cpu", "cuda"]


class Service(Section):
    """A retrieval service (``python -m stages.index serve``), where the index lives elsewhere."""

    url: str
    fingerprint: str  # the retriever that it must serve; empty: whichever it serves when a run begins
    timeout: Annotated[float, Field(gt=0)]  # seconds for an answer
    wait: Annotated[float, Field(ge=0)]  # seconds for which one that does not answer is asked again


class Retriever(Section):
    """Which retriever searches, in training and evaluation alike."""

    kind: str  # a key of KINDS in stages/index/retrievers.py
    threads: Count = 1  # bm25: queries of a call that are searched at once
    dense: DenseSearch
    hybrid: Hybrid
    rerank: Rerank
    searches: Searches
    online: Online
    service: Service


class TinyModel(Section):
    """A tiny Qwen2 model trained from scratch, and what it is shown (docs/design.md says it in full)."""

    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    feed_forward: Count
    vocabulary: Count
    worlds: Count  # worlds that contradict each other, none of them the one that RL asks about
    tokens: Count  # training tokens
    tokens_a_step: Count
    learning_rate: float  # Muon, matrices
    learning_rate_other: float  # AdamW, embeddings and norms
    passage_weight: Share  # loss weight of inserted passages' tokens
    share_reading: Share  # of the documents: passages and plain question answering, the rest transcripts
    share_malformed: Share  # of the transcripts
    share_without_search: Share  # of the transcripts
    share_right_chain: Share  # of the transcripts that search: both hops and the right answer
    anneal_tokens: int  # the last phase, which sets the prior of the base policy; its shares:
    anneal_share_reading: Share
    anneal_share_malformed: Share
    anneal_share_without_search: Share
    anneal_share_right_chain: Share

    @model_validator(mode="after")
    def _heads_fit(self) -> TinyModel:
        for large, small in (("hidden", "heads"), ("heads", "kv_heads")):
            if getattr(self, large) % getattr(self, small):
                raise ValueError(f"{large} must be a multiple of {small}")
        return self


class BaseModelParams(Section):
    """``source``: ``tiny``, or a local folder or hub name of a causal language model."""

    source: str
    tiny: TinyModel
    measure_questions: Count  # validation questions on which the base policy is measured
    measure_samples: Count  # sampled trajectories a question in that measurement


class Vllm(Section):
    """The vLLM engine; nothing of it changes what is sampled, but for float rounding."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]  # of a GPU: weights and cache
    cpu_cache_gb: Annotated[float, Field(gt=0)]  # the cache on a CPU, in 2^30 bytes
    max_num_seqs: Count  # trajectories that are generated at once; more wait
    max_num_batched_tokens: Count  # of a step, read and sampled
    enforce_eager: bool  # no compilation, no CUDA graphs: starts sooner, runs slower on a GPU
    sleep: bool  # give the GPU back while the trainer has it

    @model_validator(mode="after")
    def _a_token_a_trajectory(self) -> Vllm:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs: each samples a token a step")
        return self


class Rollout(Section):
    """How a trajectory is made, in training and, greedy, in evaluation."""

    engine: Literal["transformers", "vllm"]
    vllm: Vllm  # where the engine is
    prompt: str  # a name in stages/rollout/prompts, or a path to a file with {question}
    passages: Literal["text", "title_and_text"]  # what of a passage is shown
    k: Count
    max_searches: Count
    max_turn_tokens: Count
    max_total_tokens: Count
    max_passage_tokens: Count  # a longer passage is cut
    max_documents_tokens: Annotated[int, Field(ge=0)]  # all passages of a search; 0: no limit of their own
    max_batch: Count  # trajectories generated together
    max_error_share: Share  # of trajectories lost to the retriever before an iteration stops
    dtype: Literal["float32", "bfloat16"]
    temperature: float
    top_p: float

    @model_validator(mode="after")
    def _room_for_every_passage(self) -> Rollout:
        if 0 < self.max_documents_tokens < self.k:
            raise ValueError(
                f"max_documents_tokens = {self.max_documents_tokens} leaves no token for each of k = {self.k}"
            )
        return self


class Reward(Section):
    """A named set of reward rules (RECIPE in docs/design.md) and its answer metric (stage 2)."""

    set: Literal["paper", "released-base", "released-instruct"]
    answer_metric: Literal["f1", "em", "cover_em"]


class Lora(Section):
    """Low-rank adapters (peft): they alone are trained, and a policy folder has them merged. There is no dropout: the
    policy that is trained is the policy that sampled."""

    rank: Annotated[int, Field(ge=0)]  # 0: none, all weights are trained
    alpha: Annotated[float, Field(gt=0)]  # an adapter counts alpha / rank times
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]  # layers by name; never the output head


class Update(Section):
    """One policy update. The learning rate stands with the stage in ``train``."""

    layout: Literal["padded", "packed"]  # packed: trajectories end to end, by flash attention where it is installed

    estimator: Literal["reinforce++", "grpo", "rloo"]
    clip: float
    kl_coefficient: Annotated[float, Field(ge=0)]
    loss_mean: Literal["trajectory", "token"]  # token: sum over tokens by a constant
    importance_cap: Annotated[float, Field(ge=0)]  # truncation of engine/trainer ratios; 0: not corrected
    flat_groups: Literal["kept", "dropped"]  # questions whose samples all have the same reward
    overlong: Literal["kept", "left_out"]  # trajectories that ended at rollout.max_total_tokens
    minibatches: Count  # optimiser steps an iteration, one epoch over the rollouts
    max_tokens_a_pass: Count  # tokens of one forward and backward pass, padding included
    max_gradient_norm: float
    weight_decay: float
    betas: tuple[float, float]
    dtype: Literal["float32", "bfloat16"]
    zero_stage: Literal[0, 1, 2, 3]
    offload: Literal["none", "optimizer", "all"]  # to main memory: moments and float32 weights, or all parameters too
    gradient_checkpointing: bool
    lora: Lora

    @model_validator(mode="after")
    def _can_be_offloaded(self) -> Update:
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError(
                f"offload is {self.offload}: it needs zero_stage 1, 2 or 3, which keep the optimizer apart"
            )
        if self.offload == "all" and self.zero_stage != 3:
            raise ValueError(
                "offload is all: parameters can leave the device in zero_stage 3 alone; or offload: optimizer"
            )
        return self


class TrainStage(Section):
    """What differs between the recipe's two stages."""

    reward_stage: Literal[1, 2]
    learning_rate: float
    warmup_iterations: int
    questions_an_iteration: Count
    samples_a_question: Count
    evaluate_every: Count  # iterations between two watches on validation questions
    evaluate_questions: Count
    checkpoint_every: Count  # iterations between two resumable checkpoints in the store
    collapse: Collapse


class Collapse(Section):
    """When a run stops itself: its means stay on the wrong side for ``patience`` iterations."""

    min_format_rate: Share
    max_tokens_growth: float  # mean policy tokens against the segment's first iteration
    patience: Count


class Segment(Section):
    """What DVC versions of training: ``iterations`` iterations of a stage, from the policy ``prev``."""

    stage: Literal["stage1", "stage2"]
    prev: str  # a policy folder
    iterations: Count
    iteration_offset: int  # iterations of this stage that earlier segments did
    questions: str = "data/questions/train.parquet"  # what is asked; dvc.yaml needs it said


class Train(Section):
    """The two stages and the chain of segments."""

    overlap: Literal[0, 1]  # 1: an iteration is sampled while the update before it runs, off-policy by that update
    stage1: TrainStage
    stage2: TrainStage
    segments: dict[str, Segment]


class ServedPolicy(Section):
    """A policy behind an OpenAI-compatible server, in the place of a folder."""

    server: str  # base URL, e.g. http://127.0.0.1:8000/v1
    model: str
    key_variable: str = ""  # the environment variable that holds the key; empty: the server needs none
    interface: Literal["chat", "completions"] = "chat"  # completions: the transcript is continued as it stands
    price_prompt: Annotated[float, Field(ge=0)] = 0.0  # a million tokens, in any one currency
    price_completion: Annotated[float, Field(ge=0)] = 0.0


class Serving(Section):
    """How policies on servers are asked."""

    concurrency: Count  # requests at a time
    requests_a_minute: Annotated[float, Field(ge=0)]  # 0: no limit; retries count
    timeout_seconds: Annotated[float, Field(gt=0)]  # of one attempt
    retries: Annotated[int, Field(ge=0)]  # after the first attempt, with growing pauses

    def of(self, policy: ServedPolicy) -> Server:
        """All that a client of the policy's server needs to know."""
        return Server(**self.model_dump(), **policy.model_dump(exclude={"interface"}))


def _kind_of_policy(given: Any) -> str:
    return "folder" if isinstance(given, str) else "served"


Policy = Annotated[
    Annotated[str, Tag("folder")] | Annotated[ServedPolicy, Tag("served")], Discriminator(_kind_of_policy)
]


class Evaluate(Section):
    """Greedy evaluation, and the two baselines that a user asks for first."""

    questions: Count  # at most so many a benchmark
    k: Count
    batch_questions: Count
    prompts: dict[Mode, str] = {}  # mode → prompt, where it is not rollout.prompt
    served: Serving
    policies: dict[str, Policy]  # name → folder or server; the baselines' modes are names as well, or ends of names


class Regression(Section):
    """When a policy counts as worse than another, and when as the same (docs/design.md, Verdicts)."""

    policies: Annotated[list[str], Field(min_length=1)]  # of `evaluate.policies`: held against baselines/
    # Columns of an evaluation, in [0, 1], more is better; the number is the part of the allowed error that it gets.
    metrics: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0, lt=1)]  # a difference in a mean that is too small to matter
    # Two samplings of one policy are called better or worse in at most 1 − confidence of all comparisons, over
    # all metrics and benchmarks together; worse_share of that is spent on "worse", the rest on "better".
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)]
    worse_share: Annotated[float, Field(gt=0, lt=1)]


class BenchmarkSet(Section):
    """A released benchmark: ``index`` is the index folder that its questions are answered from."""

    index: str


class Benchmarks(Section):
    """Released benchmarks (stages/benchmarks/releases.py), evaluated with every policy of ``evaluate.policies``."""

    mirrors: list[str]  # folders or addresses that are tried for a released file before its own address
    questions: Count  # at most so many a benchmark, the first ones
    corpora: list[str]  # benchmarks whose own context paragraphs become a corpus and an index
    sets: dict[str, BenchmarkSet]  # the benchmarks that are evaluated


class Judge(Server):
    """The judge of answers (ACC_L). ``server`` empty: there is none, and judged accuracy is absent everywhere."""

    prompt: str  # a name in stages/evaluate/prompts, or a path to a file with {question}, {gold} and {prediction}
    max_tokens: Count  # of a reply; a word or two

    @model_validator(mode="after")
    def _model_given(self) -> Judge:
        if self.server and not self.model:
            raise ValueError("judge.server is given, but judge.model names none")
        return self


class Report(Section):
    """The HTML page."""

    title: str
    example_trajectories: Count


class Hardware(Section):
    """The machine that a profile is meant for. `python -m stages.plan` holds the parameters against it, and `make train
    PROFILE=…` begins only where it is there. It places no process: the run still does what its parameters say."""

    gpus: Annotated[int, Field(ge=0)]  # of one machine; 0: none is needed
    gpu_memory_gib: Annotated[float, Field(ge=0)]  # of one GPU, in 2^30 bytes, as its maker counts
    trainer_gpus: Annotated[int, Field(ge=0)]  # a rank each
    engine_gpus: Annotated[int, Field(ge=0)]  # of all engines together
    tensor_parallel: Count  # GPUs of one engine
    reference_gpus: Literal[0, 1]  # of the frozen reference policy; 0: it stands with the trainer

    @model_validator(mode="after")
    def _adds_up(self) -> Hardware:
        if not self.gpus:
            return self
        if not (self.gpu_memory_gib and self.trainer_gpus and self.engine_gpus):
            raise ValueError("gpu_memory_gib, trainer_gpus and engine_gpus must be above 0 where gpus is")
        used = self.trainer_gpus + self.engine_gpus + self.reference_gpus
        if self.gpus == 1 and used != 2:
            raise ValueError("one GPU is shared: trainer_gpus 1, engine_gpus 1, reference_gpus 0")
        if self.gpus > 1 and used > self.gpus:
            raise ValueError(f"trainer, engine and reference need {used} GPUs of {self.gpus}")
        if self.engine_gpus % self.tensor_parallel:
            raise ValueError(f"engine_gpus, {self.engine_gpus}, is no multiple of tensor_parallel")
        return self


class Workers(Section):
    """Where rollout engines and trainer ranks run (docs/workers.md).

    ``inside``: one process holds both. ``local``: a process each on this machine. ``ray``: the same on a Ray cluster.
    """

    place: Literal["inside", "local", "ray"]
    engines: Count
    shards: Count  # parts of an iteration's rollouts, each sampled by one engine; part of the keys
    ranks: Count  # of the trainer
    reference: Literal[0, 1]  # 1: the frozen reference policy (update.kl_coefficient) is a process of its own
    ray_address: str  # host:port of a running cluster, or auto; empty: one is started on this machine

    @model_validator(mode="after")
    def _can_be_placed(self) -> Workers:
        if self.place == "inside" and (self.engines, self.ranks, self.reference) != (1, 1, 0):
            raise ValueError(
                f"engines is {self.engines}, ranks {self.ranks} and reference {self.reference}, but place inside has "
                "one process for all"
            )
        if self.shards < self.engines:
            raise ValueError(f"shards is {self.shards}: of {self.engines} engines some would have nothing to do")
        return self


class Params(Section):
    """All of params.yaml."""

    profile: str
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    hardware: Hardware
    workers: Workers
    corpus: Corpus
    questions: Questions
    audit: Audit
    difficulty: Difficulty
    index: Index
    retriever: Retriever
    base_model: BaseModelParams
    rollout: Rollout
    reward: Reward
    update: Update
    train: Train
    evaluate: Evaluate
    regression: Regression
    benchmarks: Benchmarks
    judge: Judge
    report: Report

    @model_validator(mode="after")
    def _workers_fit(self) -> Params:
        hardware, workers = self.hardware, self.workers
        if hardware.gpus == 1 and (workers.engines, workers.ranks) != (1, 1):
            raise ValueError("workers: one GPU is for one engine and one rank")
        if hardware.gpus > 1:
            if workers.place == "inside":
                raise ValueError("workers.place inside is one process, on one GPU; local or ray")
            if workers.reference != hardware.reference_gpus:
                raise ValueError(
                    f"workers.reference is {workers.reference}, hardware.reference_gpus {hardware.reference_gpus}"
                )
            if hardware.tensor_parallel > 1 and self.rollout.engine != "vllm":
                raise ValueError("hardware.tensor_parallel above 1 needs rollout.engine vllm")
            if workers.ranks != hardware.trainer_gpus:
                raise ValueError(f"workers.ranks is {workers.ranks}, hardware.trainer_gpus {hardware.trainer_gpus}")
            if workers.engines * hardware.tensor_parallel != hardware.engine_gpus:
                raise ValueError(
                    f"workers.engines ({workers.engines}) × hardware.tensor_parallel ({hardware.tensor_parallel}) "
                    f"is not hardware.engine_gpus ({hardware.engine_gpus})"
                )
        if self.train.overlap and hardware.gpus == 1:
            raise ValueError("train.overlap: on one GPU engine and trainer take turns")
        if self.train.overlap and workers.place == "inside":
            raise ValueError("train.overlap needs workers.place local or ray: inside, one process does both in turn")
        if self.train.overlap and not self.update.importance_cap:
            raise ValueError("train.overlap is off-policy: it needs update.importance_cap above 0, e.g. 2.0")
        return self


def parse(text: str, *, where: str = "params.yaml") -> Params:
    """Check the text of a params file. The first fault stops, with its key and what was allowed."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"not YAML: {' '.join(str(error).split())}", where=where) from None
    return check(raw, where=where)


def check(raw: Any, *, where: str = "params.yaml") -> Params:
    """Check parameters that are already a dictionary."""
    if not isinstance(raw, dict):
        raise PipelineError("holds no parameters", where=where, fix="restore it with git")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A mistyped key is also a missing one: name what was written.
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise PipelineError("unknown parameter", where=f"{where}, {key}", fix=_near(raw, fault["loc"])) from None
        known = fault["type"] == "missing" or isinstance(fault["input"], dict)  # a whole section is no help
        given = "" if known else f", got {fault['input']!r}"
        raise PipelineError(f"{fault['msg']}{given}", where=f"{where}, {key}") from None


def load(path: Path | str = PARAMS_FILE) -> Params:
    """Read and check a params file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path), fix="run from the project's root folder") from None
    return parse(text, where=str(path))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation names, inside a dict or a choice too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _near(raw: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """Which keys are known where an unknown one stands."""
    import difflib

    known: list[str] = []
    model: Any = Params
    for part in loc[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:  # inside a dict of sections: its values' model
            continue
        model = next(_models(field.annotation), field.annotation)
    if hasattr(model, "model_fields"):
        known = list(model.model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"


TrainStage.model_rebuild()
