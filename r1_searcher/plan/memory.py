"""Memory of a trainer's rank and of the reference policy, in bytes by content, and what is offloaded of it.

Sources: ZeRO (arXiv 1910.02054, section 3) for what is divided among ranks, DeepSpeed 0.19.8 for the precision of its
gradients and its bucket, and `r1_searcher/update` for the arrays of the output head. The last part of a device's memory
is left free for fragments, libraries and communication.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from r1_searcher.params import Params, Update
from r1_searcher.plan.architecture import Architecture
from r1_searcher.plan.work import WIDTHS, Workload

GIB = 2**30
BUCKET = 5 * 10**8  # numbers; DeepSpeed's default reduce_bucket_size
LIVE = 10**9  # numbers; parameters that ZeRO 3 keeps gathered (stage3_max_live_parameters)
HEAD_BYTES = 12  # per logit: as float32, its log-softmax, its probability
USABLE = 0.9  # of a device's memory
# What a rank frees after a pass. Gradients count as kept between two updates: in ZeRO 1 and bfloat16 they are.
PASSING = ("activations", "output head")


@dataclass(frozen=True)
class Use:
    """Bytes on one device by content, and how much of the device they may take."""

    device: str  # e.g. "each of 4 trainer GPUs"
    parts: dict[str, int] = field(default_factory=dict)
    memory: float = 0.0  # bytes of the device; 0: unknown and not judged
    share: float = USABLE  # the usable part of it

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts.values())

    @property
    def room(self) -> float:
        """Usable bytes."""
        return self.share * self.memory

    @property
    def lacks(self) -> bool:
        """Whether the usable bytes are known to be too few."""
        return 0 < self.room < self.total


def trainer(model: Architecture, params: Params, work: Workload) -> Use:
    """Return a trainer rank: weights, gradients, optimizer, bucket, reference policy, activations of one pass.

    With adapters only these have gradients and an optimizer, and the base is the reference. What is offloaded from a
    GPU is in ``offloaded`` instead.
    """
    update, ranks = params.update, max(params.hardware.trainer_gpus, 1)
    width, size = WIDTHS[update.dtype], model.parameters + model.adapter_parameters(update.lora)
    trained = trained_parameters(model, update)
    stage = zero_stage(update)
    split = [ranks if stage >= least else 1 for least in (3, 2, 1)]  # of weights, gradients, optimizer
    # Stage 0 is float32 with torch's AdamW (two moments). DeepSpeed's optimizers also keep float32 weights, and sum
    # gradients in float32.
    parts = {
        "weights": width * size // split[0],
        "gradients": 4 * trained // split[1],
        "optimizer": (8 if stage == 0 else 12) * trained // split[2],
    }
    away = offloads(params)
    if away:
        del parts["optimizer"]
        if stage >= 2:  # gradients are summed where the optimizer is
            del parts["gradients"]
    if away == "all":
        parts["weights"] = width * min(LIVE, size)
    if stage >= 2:
        parts["gradient bucket"] = width * min(BUCKET, trained)
    if update.kl_coefficient > 0 and not params.hardware.reference_gpus and not update.lora.rank:
        parts["reference policy"] = width * size
    parts["activations"] = activations(model, update, work.pass_tokens(params))
    parts["output head"] = head(model, width, work.pass_policy_tokens(params))
    return Use(named("trainer", ranks if params.hardware.gpus else 0), parts)


def trained_parameters(model: Architecture, update: Update) -> int:
    """Return the number of trained parameters: all, or the adapters."""
    return model.adapter_parameters(update.lora) or model.parameters


def offloads(params: Params) -> str:
    """Return what is offloaded from GPUs: "", "optimizer" or "all". Without GPUs everything is in main memory
    anyway."""
    return params.update.offload if params.hardware.gpus and params.update.offload != "none" else ""


def offloaded(model: Architecture, params: Params) -> dict[str, int]:
    """Return the bytes of main memory that all ranks together need for what was offloaded; empty if nothing was."""
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
    """Return the effective stage: bfloat16 needs extra float32 weights, which stage 0 lacks (r1_searcher/update)."""
    return max(update.zero_stage, 1) if update.dtype == "bfloat16" else update.zero_stage


def activations(model: Architecture, update: Update, tokens: int) -> int:
    """Return the bytes of one pass: all layers', or with checkpointing every layer's input and one whole layer."""
    width = WIDTHS[update.dtype]
    layer = model.layer_activations(width) * tokens
    layer += width * update.lora.rank * len(model.adapted(update.lora)) // model.layers * tokens  # between A and B
    if not update.gradient_checkpointing:
        return model.layers * layer
    return model.layers * model.hidden * width * tokens + layer


def head(model: Architecture, width: int, policy_tokens: int) -> int:
    """Return the bytes of the logits of one pass's policy tokens."""
    return policy_tokens * model.vocabulary * (HEAD_BYTES + width)


def reference(model: Architecture, params: Params, work: Workload) -> Use:
    """Return a GPU of the frozen reference policy."""
    width, number = WIDTHS[params.update.dtype], params.hardware.reference_gpus
    one_layer = model.layer_activations(width) * work.pass_tokens(params)
    parts = {
        "weights": width * model.parameters // number,
        "activations": one_layer,
        "output head": head(model, width, work.pass_policy_tokens(params)),
    }
    return Use(named("reference", number), parts)


def named(what: str, number: int) -> str:
    return f"each of {number} {what} GPUs" if number > 1 else f"the {what}"
