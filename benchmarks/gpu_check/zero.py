"""DeepSpeed's ZeRO stages on one device: the losses of the trainer on torch alone, and memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from r1_searcher.plan import memory
from r1_searcher.plan.architecture import Architecture
from r1_searcher.update.trainer import PolicyTrainer
from r1_searcher.update.trainers import DeepSpeedTrainer, TorchTrainer

from . import sizes, timing, tiny
from .figures import Figures

_NAMES = ("smollm2-135m",)
TOKENS, LENGTH = 8192, 512.0


def run(figures: Figures) -> None:
    """Note the second update's loss and the memory per stage, and the largest difference of losses."""
    sizes.largest_that_works(
        figures,
        _NAMES,
        lambda size: memory.trainer(size, sizes.settings(size), sizes.WORK).total,
        lambda size: _run(figures, size),
    )


def _run(figures: Figures, size: Architecture) -> None:
    device, rehearsal = figures.machine.device, figures.machine.rehearsal
    kinds: dict[str, tuple[type[PolicyTrainer], int]] = {"torch alone": (TorchTrainer, 0)}
    kinds |= {f"ZeRO {stage}": (DeepSpeedTrainer, stage) for stage in ((1,) if rehearsal else (0, 1, 2, 3))}
    batch = sizes.batch(size, 200 if rehearsal else TOKENS, length=50.0 if rehearsal else LENGTH)
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        policy = _write(Path(folder) / "policy", size, rehearsal)
        for name, (kind, stage) in kinds.items():
            params = sizes.settings(
                size, update={"zero_stage": stage, "max_tokens_a_pass": 4096}, max_total_tokens=1024
            )
            timing.forget(device)
            trainer = kind(policy, params.update, learning_rate=1e-4)
            trainer.update(batch)
            losses[name] = trainer.update(batch)["loss"]
            planned = memory.trainer(size, params, sizes.WORK).total
            figures.note(f"loss, {name}", losses[name])
            figures.note(f"memory, {name}", timing.in_gib(timing.peak(device)), "GiB", planned=planned / timing.GIB)
            trainer.close()
            del trainer
    first = losses["torch alone"]
    figures.note("largest difference of losses", max(abs(loss - first) for loss in losses.values()))


def _write(folder: Path, size: Architecture, rehearsal: bool) -> Path:
    if rehearsal:
        return tiny.write_policy(folder, "llama")
    sizes.new_model(size, "bfloat16", "cpu").save_pretrained(folder)
    sizes.tokenizer(size.vocabulary).save_pretrained(folder)
    return folder
