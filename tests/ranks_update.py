"""Run by each rank of the two-rank tests (torchrun): ``python ranks_update.py POLICY OUT``.

Every case makes five updates, saved after the third and the last; a second trainer resumes from the third's checkpoint
and must end bitwise equal to the first. Then a one-rank checkpoint is resumed, and ZeRO 2's state in ZeRO 3. Rank 0
writes the metrics; the test that started the ranks compares with one rank.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import torch
from fixtures_update import make_batch, make_rollouts, update_params

from r1_searcher.files import artefacts
from r1_searcher.update.trainers import DeepSpeedTrainer

LORA = {"rank": 3, "alpha": 6, "targets": "all-linear"}
CASES: dict[str, dict[str, Any]] = {
    "zero0": {"zero_stage": 0},
    "zero1": {"zero_stage": 1},
    "zero2": {"zero_stage": 2},
    "zero3": {"zero_stage": 3},
    "packed-zero2": {"zero_stage": 2, "layout": "packed"},
    "lora-zero2": {"zero_stage": 2, "lora": LORA},
    "lora-zero3": {"zero_stage": 3, "lora": LORA, "layout": "packed"},
    "offload-zero3": {"zero_stage": 3, "offload": "all"},
    "bfloat16-zero2": {"zero_stage": 2, "dtype": "bfloat16"},
    "bfloat16-zero3": {"zero_stage": 3, "dtype": "bfloat16"},
}
UPDATES, SAVED = 5, 3  # updates of a case, and after which it is saved
LEARNING_RATE = 1e-3
BATCH = make_batch(make_rollouts())


def trainer_of(policy: Path, settings: dict[str, Any]) -> DeepSpeedTrainer:
    """Make a trainer of the case."""
    params = update_params(importance_cap=2.0, max_tokens_a_pass=1000, **settings)
    return DeepSpeedTrainer(policy, params, learning_rate=LEARNING_RATE, warmup_iterations=4)


def train(trainer: DeepSpeedTrainer, updates: int) -> list[dict[str, float]]:
    """Return the metrics of so many updates."""
    return [trainer.update(BATCH) for _ in range(updates)]


def weights(trainer: DeepSpeedTrainer) -> dict[str, torch.Tensor]:
    """Return a copy."""
    return {name: tensor.clone() for name, tensor in trainer.export_weights().items()}


def run_case(policy: Path, out: Path, settings: dict[str, Any]) -> list[dict[str, float]]:
    """Make five updates, and check that a resumed run ends equal."""
    first = trainer_of(policy, settings)
    metrics = train(first, SAVED)
    first.save(out / "half" / "policy", step=SAVED, parent="p")
    metrics += train(first, UPDATES - SAVED)
    first.save(out / "policy", step=UPDATES, parent="p")
    expected = weights(first)
    first.close()
    again = trainer_of(policy, settings)
    again.load(out / "half" / "policy")
    assert train(again, UPDATES - SAVED) == metrics[SAVED:]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.export_weights().items())
    again.close()
    return metrics


def go_on(policy: Path, saved: Path, out: Path, settings: dict[str, Any]) -> None:
    """Make the last updates, from another run's checkpoint."""
    trainer = trainer_of(policy, settings)
    trainer.load(saved)
    train(trainer, UPDATES - SAVED)
    trainer.save(out / "policy", step=UPDATES, parent="p")
    trainer.close()


def main() -> None:
    """Run all cases, one after the other."""
    torch.set_num_threads(1)
    policy, out = Path(sys.argv[1]), Path(sys.argv[2])
    metrics = {}
    for name, settings in CASES.items():
        metrics[name] = run_case(policy, out / name, settings)
        if len(metrics) == 1:  # all is loaded: DeepSpeed collects garbage several times per trainer
            gc.collect()
            gc.freeze()
    go_on(policy, out / "one" / "policy", out / "one-to-two", {"zero_stage": 2})
    go_on(policy, out / "zero2" / "half" / "policy", out / "zero2-to-zero3", {"zero_stage": 3})
    if torch.distributed.get_rank() == 0:
        artefacts.write_json(out / "metrics.json", metrics)


if __name__ == "__main__":
    main()
