"""Expected tokens, time and disk of a run, from a workload and a device's stated speed."""

from __future__ import annotations

from dataclasses import dataclass

from r1_searcher.params import Params, Update
from r1_searcher.plan import search
from r1_searcher.plan.architecture import Architecture

WIDTHS = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Device:
    """Speed of one device: dense operations in the training precision (a multiply-add counts as 2), and memory
    bandwidth."""

    name: str
    flops: float  # operations per second
    bandwidth: float  # bytes per second
    source: str


DEVICES = {
    "a100": Device("a100", 312e12, 2.039e12, "NVIDIA's data sheet of the A100 80GB SXM, dense bfloat16"),
    "h100": Device("h100", 989e12, 3.35e12, "NVIDIA's data sheet of the H100 SXM, dense bfloat16"),
    "h200": Device("h200", 989e12, 4.8e12, "NVIDIA's data sheet of the H200 SXM, dense bfloat16"),
    "rtx4090": Device("rtx4090", 165e12, 1.008e12, "NVIDIA's data sheet of the RTX 4090, dense bfloat16"),
    # 138e9 was measured: forward and backward of 512 tokens of a 135M model in 3.0 s on one core. The plan multiplies
    # by the same share of the peak as for a GPU, so the peak here is that figure over 0.35; memory likewise.
    "cpu-core": Device("cpu-core", 394e9, 20e9, "a 135M model in bfloat16 on one x86-64 core with AVX-512, measured"),
}


@dataclass(frozen=True)
class Workload:
    """An expected trajectory, and how well a device is used.

    The trajectory's defaults are the means of the released ones (1,000 trajectories of the trained Qwen-2.5-7B: 1,236
    characters by the policy, 2.2 searches, 480 characters per passage), at about 4.2 characters per token. The usage
    figures are assumptions, common for training and decoding at this size. Give your own.
    """

    prompt_tokens: float = 200
    policy_tokens: float = 300
    searches: float = 2.2
    passage_tokens: float = 115
    update_use: float = 0.35  # of the peak, counting only the operations that the model needs (MFU)
    decode_use: float = 0.5  # of the memory bandwidth
    prefill_use: float = 0.5  # of the peak
    padding: float = 0.1  # extra share of an update's tokens in the padded layout
    passages: float = 0.0  # of the corpus, for a dense index; 0: what the corpus is known to have

    def trajectory_tokens(self, params: Params) -> float:
        """Return the mean tokens of a trajectory, within the profile's limit."""
        return min(self._unlimited(params), params.rollout.max_total_tokens)

    def policy_part(self, params: Params) -> float:
        """Return the policy tokens of such a trajectory; a limit shrinks all parts alike."""
        return self.policy_tokens * self.trajectory_tokens(params) / self._unlimited(params)

    def _unlimited(self, params: Params) -> float:
        rollout = params.rollout
        passages = self.searches * rollout.k * min(self.passage_tokens, rollout.max_passage_tokens)
        return self.prompt_tokens + self.policy_tokens + passages

    def pass_tokens(self, params: Params) -> int:
        """Return the tokens of the update's largest pass: its budget, or one longer trajectory."""
        return max(params.update.max_tokens_a_pass, params.rollout.max_total_tokens)

    def pass_policy_tokens(self, params: Params) -> int:
        """Return the policy tokens of such a pass: all turns of one longest trajectory, or a pass of mean ones."""
        rollout, tokens = params.rollout, self.pass_tokens(params)
        longest = (rollout.max_searches + 1) * rollout.max_turn_tokens
        usual = tokens * self.policy_part(params) / self.trajectory_tokens(params)
        return int(min(tokens, max(longest, usual)))


@dataclass(frozen=True)
class IterationEstimate:
    """One iteration's tokens and seconds, without searches."""

    trajectories: int
    tokens: float
    policy_tokens: float
    read_seconds: float  # prefill of prompts and passages in the engine
    decode_seconds: float
    update_seconds: float

    @property
    def seconds(self) -> float:
        """Sum of the steps, which run one after the other."""
        return self.read_seconds + self.decode_seconds + self.update_seconds


def iteration(
    model: Architecture, params: Params, work: Workload, device: Device, *, stage: str, at_a_time: int
) -> IterationEstimate:
    """Return an iteration of ``stage`` with ``at_a_time`` trajectories per engine."""
    settings = getattr(params.train, stage)
    trajectories = settings.questions_an_iteration * settings.samples_a_question
    mean, by_policy = work.trajectory_tokens(params), work.policy_part(params)
    hardware = params.hardware
    trainers, engine_gpus = max(hardware.trainer_gpus, 1), max(hardware.engine_gpus, 1)
    if not hardware.gpus:
        trainers = engine_gpus = params.threads
    embedding = 0 if model.tied else model.vocabulary * model.hidden  # an embedding is only looked up
    matrices, active = model.parameters - embedding, model.active - embedding
    read = trajectories * (mean - by_policy) * 2 * active / (engine_gpus * device.flops * work.prefill_use)
    a_group = hardware.tensor_parallel if hardware.gpus > 1 else engine_gpus
    engines = max(engine_gpus // a_group, 1)
    rows = max(min(at_a_time, -(-trajectories // engines)), 1)
    width = WIDTHS[params.rollout.dtype]
    # A decode step reads all weights once and each row's cache, half full on average, and writes one token per row; its
    # operations are another lower bound.
    moved = width * matrices + rows * model.cache_bytes(width) * mean / 2
    step = max(
        moved / (a_group * device.bandwidth * work.decode_use),
        rows * 2 * active / (a_group * device.flops * work.prefill_use),
    )
    decode = trajectories * by_policy / (engines * rows) * step
    positions = trajectories * mean * (1 + (work.padding if params.update.layout == "padded" else 0))
    flops = operations_a_token(model, params.update, mean) * positions
    return IterationEstimate(
        trajectories=trajectories,
        tokens=trajectories * mean,
        policy_tokens=trajectories * by_policy,
        read_seconds=read,
        decode_seconds=decode,
        update_seconds=flops / (trainers * device.flops * work.update_use),
    )


def operations_a_token(model: Architecture, update: Update, length: float) -> float:
    """Return the operations of an update per token (arXiv 2001.08361, section 2.1).

    2 per parameter for a forward pass and 4 for a backward one; one more forward pass each for checkpointing, the
    reference policy and the importance correction; attention over half the length. With adapters, frozen weights need
    no gradient of their own, which is half of a backward pass; the adapters' own operations are not counted.
    """
    passes = 3 + update.gradient_checkpointing + (update.kl_coefficient > 0) + (update.importance_cap > 0)
    return forward_operations(model, length) * (passes - (update.lora.rank > 0))


def forward_operations(model: Architecture, length: float) -> float:
    """Return the operations of a forward pass per token of a trajectory of ``length`` tokens."""
    return 2 * model.active + 2 * model.layers * model.heads * model.head_dim * length


# Of the peak: the laptop profile's base model takes 206 s on two threads (docs/benchmarks.md). A tiny model's small
# matrices use a core less well than a Workload's update_use.
TINY_USE = 0.1


def base_training_seconds(model: Architecture, params: Params, device: Device) -> float:
    """Return the seconds to train the tiny base model from scratch on all threads; 0 for an imported model.

    Its sequences are packed to the trajectory's limit. Worlds, their searches and the tokenizer are not counted.
    """
    if params.base_model.source != "tiny":
        return 0.0
    tiny = params.base_model.tiny
    flops = 3 * forward_operations(model, params.rollout.max_total_tokens) * (tiny.tokens + tiny.anneal_tokens)
    return flops / (params.threads * device.flops * TINY_USE)


@dataclass(frozen=True)
class Disk:
    """Bytes of a whole run by content."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())


TEXT_BYTES = 8.4  # per token: its characters, stored twice, as text and in segments


def disk(model: Architecture, params: Params, work: Workload) -> Disk:
    """Return the base model, each segment's policy and trainer state, checkpoints in the store, rollouts with
    advantages, and a dense index with its vectors.

    DVC's cache holds a second copy of a stage's outputs, unless the file system can share it (reflink). Parquet's
    compression is not counted.
    """
    update, segments = params.update, params.train.segments.values()
    width = WIDTHS[update.dtype]
    policy = width * model.parameters
    adapters = model.adapter_parameters(update.lora)
    state = (8 if update.dtype == "float32" and update.zero_stage == 0 else 12) * (adapters or model.parameters)
    if adapters:
        state += width * (model.parameters + adapters)  # the base, and the adapters themselves
    checkpoints = rollouts = 0
    for segment in segments:
        settings = getattr(params.train, segment.stage)
        checkpoints += -(-segment.iterations // settings.checkpoint_every)
        rollouts += segment.iterations * settings.questions_an_iteration * settings.samples_a_question
    token_bytes = 4 + 1 + TEXT_BYTES  # its id, source and text
    policy_bytes = 4 * (3 + (update.kl_coefficient > 0))  # log-probability, advantage, return, reference
    trajectory = work.trajectory_tokens(params) * token_bytes + work.policy_part(params) * policy_bytes
    parts = {
        "base model": WIDTHS[params.rollout.dtype] * model.parameters,
        "policies and trainer state": len(params.train.segments) * (policy + state),
        "checkpoints in the store": checkpoints * (policy + state),
        "rollouts": int(rollouts * trajectory * 2),  # in the store and in the segment
    }
    index = search.vectors(params, work.passages)
    if index:
        parts |= {"dense index": index, "vectors in the store": search.kept_vectors(params, work.passages)}
    parts["DVC's cache"] = parts["base model"] + parts["policies and trainer state"] + parts["rollouts"] // 2 + index
    return Disk(parts)
