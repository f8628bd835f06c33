"""Update a policy once from rollouts and rewards (``python -m stages.update``)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher import errors
from r1_searcher import params as parameters
from r1_searcher.files import artefacts
from r1_searcher.files.code import chosen_code
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.files.weights import weights_sha256
from r1_searcher.shown import show
from r1_searcher.types import schemas
from r1_searcher.update import load_trainer, update_policy
from r1_searcher.update.gap import check_gap, largest_gap


@errors.command
def main(arguments: list[str] | None = None) -> None:
    """Read rollouts and rewards, update the policy once, write the new policy and the advantages."""
    options = _parser().parse_args(arguments)
    params = parameters.load(options.params)
    stage = params.train.stage1 if options.stage == "stage1" else params.train.stage2
    rollouts = artefacts.read_table(options.rollouts, schemas.ROLLOUTS)
    rewards = artefacts.read_table(options.rewards, schemas.REWARDS)
    trainer = load_trainer(
        options.policy,
        params,
        learning_rate=stage.learning_rate,
        warmup_iterations=stage.warmup_iterations,
        reference=options.reference,
    )
    if options.state is not None:
        trainer.load(options.policy, options.state)
    advantages, metrics = update_policy(trainer, rollouts, rewards, params.update)
    _look_at_gap(metrics, params, options.policy, artefacts.read_metadata(options.rollouts))
    fingerprint = {
        "policy": artefacts.sha256_tree(options.policy),
        "rollouts": artefacts.sha256_file(options.rollouts),
        "rewards": artefacts.sha256_file(options.rewards),
        "update": params.update.model_dump(),
        "learning_rate": metrics["learning_rate"],
        "code": artefacts.code_fingerprint("update", "model_folders.py", "files", "transcripts", "types"),
        "chosen": chosen_code(params.update.chosen_files(), room="update"),
    }
    parent = weights_sha256(options.policy)
    trainer.save(options.out, step=trainer.iteration, parent=parent)
    artefacts.write_table(
        options.advantages, advantages, {"fingerprint": artefacts.fingerprint(fingerprint), **fingerprint}
    )
    if options.metrics is not None:
        artefacts.write_json(options.metrics, metrics)
    show(" ".join(f"{name}={value:.6g}" for name, value in metrics.items()))


def _look_at_gap(
    metrics: Mapping[str, float], params: parameters.Params, policy: Path, about: Mapping[str, Any]
) -> None:
    """Stop if engine and trainer disagree about rollouts that ``policy`` itself sampled, as training does."""
    sampled = about.get("policy") == artefacts.sha256_tree(policy) and not about.get("greedy")
    try:
        check_gap(metrics, largest_gap(params), model=str(policy))
    except errors.PipelineError:
        if sampled:
            raise
        show(
            f"warning: the log-probabilities of these rollouts are {metrics['logprob_gap_mean']:.2g} on average from "
            f"the trainer's, and nothing says that {policy} sampled them: if it did, engine or trainer computes it "
            "wrongly"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.update", description=__doc__)
    add = parser.add_argument
    add("--policy", type=Path, required=True, help="policy folder to update")
    add("--rollouts", type=Path, required=True, help="rollouts.parquet")
    add("--rewards", type=Path, required=True, help="rewards.parquet of the same trajectories")
    add("--out", type=free_place, required=True, help="folder of the new policy; trainer_state/ is written beside it")
    add("--advantages", type=Path, required=True, help="advantages.parquet to write")
    add("--stage", choices=("stage1", "stage2"), required=True, help="stage whose learning rate is used")
    add("--state", type=Path, help="trainer_state folder of --policy to continue from (default: a fresh optimizer)")
    add("--reference", type=Path, help="policy of the KL term (default: --policy)")
    add("--metrics", type=Path, help="JSON file for the metrics")
    add("--params", type=Path, default=parameters.PARAMS_FILE, help="parameters (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
