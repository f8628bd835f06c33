"""GRPO by TRL on this project's environment: TRL updates the policy, and its rollouts, searches and rewards are ours.

After `make train` or `make smoke` (in .workspaces/smoke) and `make setup-doors`; on a CPU, with the tiny model:

    python examples/with_trl.py --steps 2
"""

import argparse
import tempfile
from pathlib import Path

import torch
from trl import GRPOConfig, GRPOTrainer

from r1_searcher import params
from r1_searcher.environments.for_trl import dataset_of, rollout_function, search_reward
from r1_searcher.files.artefacts import read_table
from r1_searcher.model_folders import load_model, load_tokenizer
from r1_searcher.retrieval import open_retriever
from r1_searcher.rollout import load_engine


def main(steps: int, policy: str = "data/base_model") -> list[dict[str, float]]:
    """Train for some steps; return TRL's log."""
    settings = params.load()
    torch.manual_seed(settings.seed)
    questions = read_table("data/questions/train.parquet")
    roll = rollout_function(
        load_engine(policy, settings.rollout), open_retriever(settings, index=Path("data/index")), questions, settings
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=load_model(policy, dtype="float32"),
            processing_class=load_tokenizer(policy),
            reward_funcs=search_reward,
            rollout_func=roll,
            train_dataset=dataset_of(questions, settings),
            args=GRPOConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=8,
                num_generations=4,
                max_completion_length=settings.rollout.max_total_tokens,
                learning_rate=1e-3,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
            ),
        )
        trainer.train()
    return [line for line in trainer.state.log_history if "reward" in line]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2)
    for line in main(parser.parse_args().steps):
        print(f"step {line['step']}: reward {line['reward']:+.3f}, loss {line['loss']:+.4f}")
