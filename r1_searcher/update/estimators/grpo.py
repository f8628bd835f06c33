"""GRPO (arXiv 2402.03300), as the release trains Llama's first stage."""

from __future__ import annotations

from r1_searcher.extend import advantage_estimator
from r1_searcher.types.arrays import Floats
from r1_searcher.update.advantages import Samples, terminal_rewards

GROUP_EPSILON = 1e-9  # added to a group's standard deviation, as in the release


@advantage_estimator("grpo")
def grpo(samples: Samples) -> tuple[list[Floats], list[Floats]]:
    """Terminal: (r - mean) / (sample standard deviation + epsilon) of the group. Returns are not whitened."""
    returns = samples.returns(terminal_rewards(samples.rewards, samples.groups, standardised))
    return returns, returns


def standardised(own: Floats) -> Floats:
    """Standardise a group's rewards: (G,) -> (G,)."""
    found: Floats = (own - own.mean()) / (own.std(ddof=1) + GROUP_EPSILON)
    return found
