"""The transformers engine by the contract of tests/engines, and beside the trainer, on this device."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_jobs import GREEDY, SAMPLING, Run, check_ends, jobs, run

from r1_searcher import params as contract
from r1_searcher.model_folders import load_model
from r1_searcher.rollout import load_engine
from r1_searcher.rollout.sync import Gap, check_sync
from r1_searcher.types.protocols import TrainingBatch
from r1_searcher.update.trainers import TorchTrainer

from . import tiny
from .figures import Figures

DTYPES = ("float32", "bfloat16")
ANY = Gap(math.inf, math.inf)  # is noted: a claim judges it, and what comes after it is still measured
_ALONE = 4  # of the trajectories are made alone too: as many passes as all of them together


def run_part(figures: Figures) -> None:
    """Note gaps and verdicts per family and precision."""
    with tempfile.TemporaryDirectory() as folder:
        for family in tiny.FAMILIES[:1] if figures.machine.rehearsal else tiny.FAMILIES:
            policy = tiny.write_policy(Path(folder) / family, family)
            plain = load_model(policy, dtype="float32").double()
            for dtype in DTYPES:
                _check(figures, policy, plain, f"{family}, {dtype}", dtype)


def settings(dtype: str, **update: Any) -> contract.Params:
    """Return the shipped parameters with room for the jobs, in one precision."""
    base = contract.shipped()
    room = {"dtype": dtype, "max_total_tokens": 300, "max_turn_tokens": 40}
    changes = {
        "rollout": base.rollout.model_copy(update=room),
        "update": base.update.model_copy(update={"dtype": dtype, "minibatches": 1, **update}),
    }
    made: contract.Params = base.model_copy(update=changes)
    return made


def _check(figures: Figures, policy: Path, plain: Any, what: str, dtype: str) -> None:
    chosen = jobs(4 if figures.machine.rehearsal else 12)
    engine: Any = load_engine(policy, settings(dtype).rollout)
    figures.note(f"device of the engine, {what}", str(engine._model.device))
    made = run(engine, chosen, SAMPLING)
    ends = sorted({end for one in made for end in check_ends(engine, one, SAMPLING, set(engine._end_ids))})
    figures.note(f"turns end where they must, {what}", True, about=", ".join(ends))
    alone = [run(engine, [job], SAMPLING)[0] for job in chosen[:_ALONE]]
    same = np.mean([one.ids == other.ids for one, other in zip(made, alone, strict=False)])
    figures.note(f"trajectories that are the same alone, {what}", float(same))
    greedy = run(engine, chosen, GREEDY)
    double = _greedy_share(plain, greedy)
    figures.note(f"greedy tokens that float64 chooses too, {what}", double, about=f"{sum(map(_count, greedy))} tokens")

    expected = [true_logprobs(plain, one.ids) for one in made]
    gaps = [abs(value - true[place]) for one, true in zip(made, expected, strict=True) for place, value in one.logprobs]
    figures.note(f"gap of samples to float64, {what}", float(np.mean(gaps)), about=f"largest {max(gaps):.2g}")
    scores = engine.score([one.ids for one in made], temperature=1.0)
    gaps = [abs(s - t) for ours, true in zip(scores, expected, strict=True) for s, t in zip(ours, true, strict=True)]
    figures.note(f"gap of scores to float64, {what}", float(np.mean(gaps)), about=f"largest {max(gaps):.2g}")
    for layout in ("padded", "packed"):
        _beside_trainer(figures, policy, engine, made, what=f"{what}, {layout}", params=settings(dtype, layout=layout))


def _count(one: Run) -> int:
    return len(one.logprobs)


def _beside_trainer(
    figures: Figures, policy: Path, engine: Any, made: list[Run], *, what: str, params: contract.Params
) -> None:
    """Note the gap to the trainer before and after an update whose weights the engine takes from its memory."""
    masks = []
    for one in made:
        mask = np.zeros(len(one.ids), dtype=bool)
        mask[[place for place, _ in one.logprobs]] = True
        masks.append(mask.tolist())
    ids, old = [one.ids for one in made], [[value for _, value in one.logprobs] for one in made]
    trainer = TorchTrainer(policy, params.update, learning_rate=1e-3)
    found = np.concatenate(trainer.logprobs(ids, masks))
    gap = np.abs(found - np.concatenate(old))
    figures.note(f"gap of samples to the trainer, {what}", float(gap.mean()), about=f"largest {gap.max():.2g}")
    random = np.random.default_rng(0)
    batch = TrainingBatch(ids, masks, [random.normal(0, 1, len(row)).tolist() for row in old], old)
    before = {name: tensor.detach().clone() for name, tensor in engine._model.named_parameters()}
    loss = trainer.update(batch)["loss"]
    figures.note(f"loss of an update, {what}", float(loss))
    engine.load_state(trainer.export_weights())
    after = check_sync(engine, ids, masks, trainer.logprobs(ids, masks), temperature=1.0, allowed=ANY)
    figures.note(f"gap after an update, {what}", after.mean, about=f"largest {after.largest:.2g}")
    engine.load_state(before)
    trainer.close()


@torch.inference_mode()
def true_logprobs(plain: Any, ids: list[int]) -> list[float]:
    """Return (T,) log-probabilities by a plain forward on the CPU; the first is 0."""
    rows = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].log_softmax(-1)
    return [0.0, *rows.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()]


@torch.inference_mode()
def _greedy_share(plain: Any, made: list[Run]) -> float:
    """Return the share of greedily chosen tokens that are also the plain forward's most likely ones."""
    right = []
    for one in made:
        best = plain(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0].argmax(-1).tolist()
        right += [best[place - 1] == one.ids[place] for place, _ in one.logprobs]
    return float(np.mean(right))
