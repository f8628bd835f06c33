"""REINFORCE++ with the question's mean as the baseline (arXiv 2501.03262): the paper's, in both stages."""

from __future__ import annotations

from r1_searcher.extend import advantage_estimator
from r1_searcher.types.arrays import Floats
from r1_searcher.update.advantages import Samples, terminal_rewards


@advantage_estimator("reinforce++")
def reinforce_plus_plus(samples: Samples) -> tuple[list[Floats], list[Floats]]:
    """Terminal: r - mean of the group. Returns are then whitened over all tokens."""
    returns = samples.returns(terminal_rewards(samples.rewards, samples.groups, from_mean))
    return samples.whitened(returns), returns


def from_mean(own: Floats) -> Floats:
    """Subtract a group's mean reward: (G,) -> (G,)."""
    found: Floats = own - own.mean()
    return found
