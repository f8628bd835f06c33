"""An advantage estimator of your own with a parameter, and a policy loss of your own.

Each reward less its group's mean, and never further from zero than a limit. See what it makes of two questions:

    python examples/own_estimator.py
"""

import numpy as np
from pydantic import BaseModel, Field
from torch import Tensor

from r1_searcher import compute_advantages
from r1_searcher.extend import advantage_estimator, policy_loss
from r1_searcher.params import Update
from r1_searcher.types.arrays import Floats
from r1_searcher.update.advantages import Samples, terminal_rewards


class Centred(BaseModel):
    """Parameters of ``centred``."""

    limit: float = Field(1.0, gt=0)


@advantage_estimator("centred", parameters=Centred)
def centred(samples: Samples, parameters: Centred) -> tuple[list[Floats], list[Floats]]:
    """Advantages and returns, (P_b,) each: a number per policy token of each trajectory."""

    def compare(rewards: Floats) -> Floats:  # of one group (G,)
        clipped: Floats = np.clip(rewards - rewards.mean(), -parameters.limit, parameters.limit)
        return clipped

    returns = samples.returns(terminal_rewards(samples.rewards, samples.groups, compare))
    return returns, returns


@policy_loss("reinforce")
def reinforce(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, settings: Update) -> Tensor:
    """A number per policy token: (N,) tensors -> (N,)."""
    return -logprobs * advantages


if __name__ == "__main__":
    rewards, questions, tokens = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0], ["a", "a", "a", "a", "b", "b"], [3, 2, 2, 4, 3, 3]
    found = compute_advantages(rewards, questions, tokens, lambda samples: centred(samples, Centred(limit=0.5)))
    for question, reward, values in zip(questions, rewards, found.values, strict=True):
        print(f"question {question}, reward {reward:g}: {values.tolist()}")
