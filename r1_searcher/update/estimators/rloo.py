"""REINFORCE, leave one out (arXiv 2402.14740)."""

from __future__ import annotations

from r1_searcher.extend import advantage_estimator
from r1_searcher.types.arrays import Floats
from r1_searcher.update.advantages import Samples, terminal_rewards


@advantage_estimator("rloo")
def rloo(samples: Samples) -> tuple[list[Floats], list[Floats]]:
    """Terminal: r - mean of the group's other samples. Returns are not whitened."""
    returns = samples.returns(terminal_rewards(samples.rewards, samples.groups, from_others))
    return returns, returns


def from_others(own: Floats) -> Floats:
    """Subtract the mean of the group's other rewards from each: (G,) -> (G,)."""
    found: Floats = own - (own.sum() - own) / (len(own) - 1)
    return found
