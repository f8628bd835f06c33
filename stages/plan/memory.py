"""Memory of a run, a GPU or a CPU process at a time: bytes by what they hold, and what to change where they do not fit.

Sources: ZeRO (arXiv 1910.02054, section 3) for what is divided among ranks, DeepSpeed 0.19.8 for the precision of its
gradients and its bucket, and `stages/update` for the arrays of the output head. The last part of a device's memory
is left free: fragments, libraries, communication.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.contract.params import Params, Update
from stages.plan.architecture import Architecture
from stages.plan.work import WIDTHS, Workload

GIB = 2**30
BUCKET = 5 * 10**8  # numbers; DeepSpeed's reduce_bucket_size where a configuration says nothing
LIVE = 10**9  # numbers; what ZeRO 3 keeps of parameters that come and go (stage3_max_live_parameters)
HEAD_BYTES = 12  # a logit: as float32, its log-softmax, its probability
USABLE = 0.9  # of a device's memory; vLLM's own default for gpu_memory_utilization


@dataclass(frozen=True)
class Use:
    """Bytes on one device, by what they hold."""

    device: str  # e.g. "each of 4 trainer GPUs"
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self.parts.values())


def trainer(model: Architecture, params: Params, work: Workload) -> Use:
    """A trainer rank: weights, gradients, optimizer, bucket, reference policy, activations of one pass.

    Under adapters these alone have gradients and an optimizer, and the base is the reference. What is offloaded from a
    GPU is not here but in ``offloaded``.
    """
    update, ranks = params.update, max(params.hardware.trainer_gpus, 1)
    width, size = WIDTHS[update.dtype], model.parameters + model.adapter_parameters(update.lora)
    trained = trained_parameters(model, update)
    stage = zero_stage(update)
    split = [ranks if stage >= least else 1 for least in (3, 2, 1)]  # of weights, gradients, optimizer
    # Stage 0 is float32 with torch's AdamW (two moments). DeepSpeed's optimizers keep float32 weights besides, and sum
    # gradients in float32.
    parts = {
        "weights": width * size // split[0],
        "gradients": 4 * trained // split[1],
        "optimizer": (8 if stage == 0 else 12) * trained // split[2],
    }
    away = offloads(params)
    if away:
        del parts["optimizer"]
        if stage >= 2:  # they are summed where the optimizer is
            del parts["gradients"]
    if away == "all":
        parts["weights"] = width * min(LIVE, size)
    if stage >= 2:
        parts["gradient bucket"] = width * min(BUCKET, trained)
    if update.kl_coefficient > 0 and not params.hardware.reference_gpus and not update.lora.rank:
        parts["reference policy"] = width * size
    parts["activations"] = activations(model, update, work.pass_tokens(params))
    parts["output head"] = head(model, width, work.pass_policy_tokens(params))
    return Use(_name("trainer", ranks if params.hardware.gpus else 0), parts)


def trained_parameters(model: Architecture, update: Update) -> int:
    """Parameters that learn: all, or the adapters."""
    return model.adapter_parameters(update.lora) or model.parameters


def offloads(params: Params) -> str:
    """What leaves the GPUs: "", "optimizer" or "all". Without GPUs main memory is where everything is anyway."""
    return params.update.offload if params.hardware.gpus and params.update.offload != "none" else ""


def offloaded(model: Architecture, params: Params) -> dict[str, int]:
    """Bytes of main memory that all ranks together take for what left their GPUs; empty where nothing did."""
    away, update = offloads(params), params.update
    if not away:
        return {}
    trained = trained_parameters(model, update)
    parts = {"optimizer": 12 * trained}
    if zero_stage(update) >= 2:
        parts["gradients"] = 4 * trained
    if away == "all":
        parts["weights"] = WIDTHS[update.dtype] * (model.parameters + model.adapter_parameters(update.lora))
    return parts


def zero_stage(update: Update) -> int:
    """The stage that runs: bfloat16 needs float32 weights besides, which stage 0 lacks (stages/update)."""
    return max(update.zero_stage, 1) if update.dtype == "bfloat16" else update.zero_stage


def activations(model: Architecture, update: Update, tokens: int) -> int:
    """Bytes of one pass: every layer's, or with checkpointing every layer's input and one layer's all."""
    width = WIDTHS[update.dtype]
    layer = model.layer_activations(width) * tokens
    layer += width * update.lora.rank * len(model.adapted(update.lora)) * tokens  # between A and B
    if not update.gradient_checkpointing:
        return model.layers * layer
    return model.layers * model.hidden * width * tokens + layer


def head(model: Architecture, width: int, policy_tokens: int) -> int:
    """Bytes of the logits of the policy tokens of one pass."""
    return policy_tokens * model.vocabulary * (HEAD_BYTES + width)


def engine(model: Architecture, params: Params) -> Use:
    """A GPU of an engine: its part of the weights, and the cache that must be there for the profile to run.

    On GPUs of its own the engine must hold one trajectory of full length; what is left over becomes cache, and more
    trajectories at a time. In the trainer's process it is the transformers engine, whose cache is a rectangle: as
    long as the longest, times `rollout.max_batch`.
    """
    rollout, hardware = params.rollout, params.hardware
    width, apart = WIDTHS[rollout.dtype], hardware.gpus > 1
    parts = hardware.tensor_parallel if apart else 1
    rows = 1 if apart else rollout.max_batch
    use = {
        "weights": width * model.parameters // parts,
        "KV cache": model.cache_bytes(width) * rollout.max_total_tokens * rows // min(parts, model.kv_heads),
        "logits": rows * model.vocabulary * (HEAD_BYTES + width) // parts,
    }
    return Use(_name("engine", hardware.engine_gpus if hardware.gpus else 0), use)


def reference(model: Architecture, params: Params, work: Workload) -> Use:
    """A GPU of the frozen reference policy."""
    width, number = WIDTHS[params.update.dtype], params.hardware.reference_gpus
    one_layer = model.layer_activations(width) * work.pass_tokens(params)
    parts = {
        "weights": width * model.parameters // number,
        "activations": one_layer,
        "output head": head(model, width, work.pass_policy_tokens(params)),
    }
    return Use(_name("reference", number), parts)


def uses(model: Architecture, params: Params, work: Workload) -> list[Use]:
    """What stands on each device of the run. On one GPU, or none, trainer and engine are one process."""
    training, rolling = trainer(model, params, work), engine(model, params)
    if params.hardware.gpus > 1:
        apart = [training, rolling] if params.train.segments else [rolling]
        frozen = params.hardware.reference_gpus and params.update.kl_coefficient > 0 and params.train.segments
        return [*apart, reference(model, params, work)] if frozen else apart
    name = "the GPU" if params.hardware.gpus else "the process"
    both = {f"engine's {part}": size for part, size in rolling.parts.items()}
    if params.train.segments:
        both = {f"trainer's {part}": size for part, size in training.parts.items()} | both
    return [Use(name, both)]


def trajectories_at_a_time(model: Architecture, params: Params, memory: float, tokens: float) -> int:
    """How many trajectories of ``tokens`` tokens one engine holds beside its weights, of ``memory`` bytes a GPU."""
    hardware, width = params.hardware, WIDTHS[params.rollout.dtype]
    if hardware.gpus <= 1:
        return params.rollout.max_batch
    gpus = hardware.tensor_parallel
    left = gpus * memory * USABLE - width * model.parameters
    spread = gpus / min(gpus, model.kv_heads)  # more GPUs than key-value heads hold copies of them
    return max(math.floor(left / (model.cache_bytes(width) * tokens * spread)), 0)


def remedies(model: Architecture, params: Params, work: Workload, memory: float) -> list[str]:
    """Single changes of parameters with which everything fits into ``memory`` bytes a device, least costly first."""
    hardware, update = params.hardware, params.update
    tries: list[tuple[str, Params]] = []
    if not update.gradient_checkpointing:
        tries.append(("update.gradient_checkpointing=true", _with(params, update={"gradient_checkpointing": True})))
    if update.dtype == "float32":
        tries.append(("update.dtype=bfloat16", _with(params, update={"dtype": "bfloat16"})))
    for stage in range(zero_stage(update) + 1, 4) if hardware.trainer_gpus > 1 else ():
        tries.append((f"update.zero_stage={stage}", _with(params, update={"zero_stage": stage})))
    if hardware.gpus > 1:
        for ranks in range(hardware.trainer_gpus + 1, 65):
            more: dict[str, int] = {"trainer_gpus": ranks, "gpus": hardware.gpus + ranks - hardware.trainer_gpus}
            tries.append((f"hardware.trainer_gpus={ranks}", _with(params, hardware=more)))
        for parts in (2, 4, 8):
            if parts > hardware.tensor_parallel and hardware.engine_gpus % parts == 0:
                tries.append((f"hardware.tensor_parallel={parts}", _with(params, hardware={"tensor_parallel": parts})))
    tries += _halved(params, "max_batch") if hardware.gpus <= 1 else []
    tries += _halved(params, "max_total_tokens")
    tries += _offloading(params) if hardware.gpus and update.offload == "none" else []
    if not update.lora.rank:
        tries.append(
            ("update.lora.rank=16", _with(params, update={"lora": update.lora.model_copy(update={"rank": 16})}))
        )
    fits: dict[str, str] = {}  # the first of each parameter
    for name, changed in tries:
        if all(use.total <= memory * USABLE for use in uses(model, changed, work)):
            fits.setdefault(name.split("=")[0], name)
    return list(fits.values())


def _offloading(params: Params) -> list[tuple[str, Params]]:
    """The optimizer to main memory, in the ZeRO stage of the profile or in 1; all of it, in stage 3."""
    stage = max(params.update.zero_stage, 1)
    tries = []
    for what, needed in (("optimizer", stage), ("all", 3)):
        also = f" and update.zero_stage={needed}" if needed != params.update.zero_stage else ""
        changed = _with(params, update={"offload": what, "zero_stage": needed})
        tries.append((f"update.offload={what}{also}", changed))
    return tries


def _halved(params: Params, key: str) -> list[tuple[str, Params]]:
    """The parameter of ``rollout`` halved until it is small; a pass' tokens with the length of a trajectory."""
    found, value = [], getattr(params.rollout, key) // 2
    while value >= (1 if key == "max_batch" else 512):
        short = {"max_tokens_a_pass": min(params.update.max_tokens_a_pass, value)} if key != "max_batch" else {}
        also = "".join(f" and update.{name}={number}" for name, number in short.items())
        found.append((f"rollout.{key}={value}{also}", _with(params, rollout={key: value}, update=short)))
        value //= 2
    return found


def _with(params: Params, **sections: Mapping[str, Any]) -> Params:
    changes = {name: getattr(params, name).model_copy(update=values) for name, values in sections.items()}
    return params.model_copy(update=changes)


def _name(what: str, number: int) -> str:
    return f"each of {number} {what} GPUs" if number > 1 else f"the {what}"
