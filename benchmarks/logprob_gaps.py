"""Gaps between the engine's and the trainer's log-probabilities of the same tokens, for tiny models of many kinds, by
precision.

    python benchmarks/logprob_gaps.py [KIND …]

A row per kind; per pair of precisions (rollout / update) the mean and the largest gap over the tokens of 24 sampled
trajectories with documents. The bounds in ``r1_searcher/update/gap.py`` are based on it (docs/engines.md).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from fixtures_update import make_rewards, update_params
from tiny_architectures import KINDS, write_kind
from tiny_policy import ScriptedRetriever, questions_table, rollout_params

from r1_searcher.errors import PipelineError
from r1_searcher.rollout import load_engine, roll_out
from r1_searcher.update.step import update_policy
from r1_searcher.update.trainers import DeepSpeedTrainer

PRECISIONS = ("float32", "bfloat16")


def gap(policy: Path, rollout: str, update: str) -> tuple[int, float, float]:
    """Return the number of policy tokens, and the mean and largest gap of their log-probabilities."""
    settings = rollout_params(max_total_tokens=250, max_turn_tokens=40, dtype=rollout)
    questions = questions_table([f"Who made Silent Harbor number {number}?" for number in range(6)])
    engine = load_engine(policy, settings)
    rows, _ = roll_out(engine, ScriptedRetriever(), questions, settings, samples=4, seed=1)
    chosen = update_params(dtype=update, minibatches=1, max_tokens_a_pass=1024)
    trainer = DeepSpeedTrainer(policy, chosen, learning_rate=1e-6)
    _, metrics = update_policy(trainer, rows, make_rewards(rows), chosen)
    trainer.close()
    tokens = sum(map(len, rows["policy_logprobs"].to_pylist()))
    return tokens, metrics["logprob_gap_mean"], metrics["logprob_gap_max"]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    pairs = [(rollout, update) for rollout in PRECISIONS for update in PRECISIONS]
    print("kind".ljust(12), *(f"{rollout}/{update}".ljust(20) for rollout, update in pairs))
    for kind in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                policy = write_kind(Path(folder) / "policy", kind)
                found = [gap(policy, *pair) for pair in pairs]
            except PipelineError as error:
                print(kind.ljust(12), f"refused: {error.what}")
                continue
        cells = [f"{mean:.1e} {largest:.1e}".ljust(20) for _, mean, largest in found]
        print(kind.ljust(12), *cells, f"{found[0][0]} tokens", flush=True)


if __name__ == "__main__":
    main()
