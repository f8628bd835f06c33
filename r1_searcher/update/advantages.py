"""Token advantages of a batch of trajectories (the paper's section 3.3 and its released scripts).

All arrays are over policy tokens only: prompt and document tokens do not occur here, so they have no
return, no KL and no part in the whitening. Trajectory ``b`` has P_b policy tokens; its reward r_b
comes as one number.

    terminal_b = r_b compared with its group (the samples of one question), by estimator
    reward_bt  = -coefficient * (log pi_old - log pi_ref)_bt, plus terminal_b at the last policy token
    return_bt  = sum of reward_bs over s >= t                            (undiscounted)

| estimator   | terminal                                       | then                                |
|-------------|------------------------------------------------|-------------------------------------|
| reinforce++ | r - mean of the group                          | returns whitened over all tokens    |
| grpo        | (r - mean) / (sample standard deviation + eps) | returns as they are                 |
| rloo        | r - mean of the group's other samples          | returns as they are                 |

A group of one has nothing to be compared with: its terminal is 0. A trajectory that is not trained on stands in its
group's comparison, and has no part in the whitening; its returns are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Estimator = Literal["reinforce++", "grpo", "rloo"]

GROUP_EPSILON = 1e-9  # added to a group's standard deviation, as the release does
VARIANCE_FLOOR = 1e-8  # under the root of the whitening


@dataclass(frozen=True)
class Advantages:
    """Per trajectory (P_b,): ``values`` weight the policy gradient, ``returns`` are the same before whitening.

    ``num_flat_groups`` counts the groups whose rewards are all equal: they teach nothing by comparison.
    """

    values: list[Floats]
    returns: list[Floats]
    num_groups: int
    num_flat_groups: int


def terminal_rewards(rewards: Floats, groups: Sequence[str], estimator: Estimator) -> Floats:
    """Each reward compared with its group. rewards (B,), groups (B,) -> (B,)."""
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards for {len(groups)} group names")
    terminal = np.zeros(len(rewards))
    for members in group_members(groups):
        own = rewards[members]
        if len(own) == 1 or np.all(own == own[0]):  # exactly 0, not a rounding residue to be divided by epsilon
            continue
        if estimator == "reinforce++":
            terminal[members] = own - own.mean()
        elif estimator == "grpo":
            terminal[members] = (own - own.mean()) / (own.std(ddof=1) + GROUP_EPSILON)
        elif estimator == "rloo":
            terminal[members] = own - (own.sum() - own) / (len(own) - 1)
        else:
            raise ValueError(f"unknown estimator {estimator!r}")
    return terminal


def token_returns(terminal: float, num_tokens: int, kl: Floats | None, kl_coefficient: float) -> Floats:
    """Undiscounted returns (P,) of one trajectory; ``kl`` (P,) is log pi_old - log pi_ref, None where unused."""
    rewards = np.zeros(num_tokens)
    if kl is not None:
        if kl.shape != (num_tokens,):
            raise ValueError(f"KL of {kl.shape[0]} tokens for {num_tokens} policy tokens")
        rewards -= kl_coefficient * kl
    rewards[-1] += terminal
    return np.cumsum(rewards[::-1])[::-1].copy()


def whiten(arrays: Sequence[Floats]) -> list[Floats]:
    """Mean 0 and variance 1 over all tokens of all arrays; a constant batch becomes 0."""
    tokens = np.concatenate(arrays)
    mean, variance = tokens.mean(), tokens.var()
    if np.all(tokens == tokens[0]):
        return [np.zeros_like(array) for array in arrays]
    scale = 1.0 / np.sqrt(max(float(variance), VARIANCE_FLOOR))
    return [(array - mean) * scale for array in arrays]


def compute_advantages(
    rewards: Sequence[float],
    groups: Sequence[str],
    num_tokens: Sequence[int],
    estimator: Estimator,
    *,
    kl: Sequence[Floats] | None = None,
    kl_coefficient: float = 0.0,
    trained: Sequence[bool] | None = None,
) -> Advantages:
    """Advantages of B trajectories: rewards, group names and numbers of policy tokens, each (B,).

    ``trained`` (B,): which of them are trained on; None: all. ``kl[b]`` (P_b,) is log pi_old - log pi_ref, needed
    where ``kl_coefficient`` > 0. Raises ``ValueError`` for an empty batch, a trajectory without policy tokens, or
    lengths that differ.
    """
    if not len(rewards) or min(num_tokens) < 1:
        raise ValueError("advantages need at least one trajectory, each with at least one policy token")
    if kl_coefficient > 0 and kl is None:
        raise ValueError("kl_coefficient > 0 needs the log-probabilities of the reference policy")
    values = np.asarray(rewards, dtype=np.float64)
    terminal = terminal_rewards(values, groups, estimator)
    used = kl if kl_coefficient > 0 and kl is not None else [None] * len(values)
    own = [True] * len(values) if trained is None else trained
    returns = [
        token_returns(float(end), tokens, divergence, kl_coefficient) if counts else np.zeros(tokens)
        for end, tokens, divergence, counts in zip(terminal, num_tokens, used, own, strict=True)
    ]
    members = group_members(groups)
    flat = sum(bool(np.all(values[group] == values[group[0]])) for group in members)
    advantages = [array.copy() for array in returns]
    chosen = [place for place, counts in enumerate(own) if counts]
    if estimator == "reinforce++" and chosen:
        for place, array in zip(chosen, whiten([returns[place] for place in chosen]), strict=True):
            advantages[place] = array
    return Advantages(advantages, returns, num_groups=len(members), num_flat_groups=flat)


def in_flat_groups(rewards: Sequence[float], groups: Sequence[str]) -> list[bool]:
    """Whether all samples of a trajectory's group have the same reward: (B,), (B,) -> (B,)."""
    flat = [False] * len(rewards)
    for members in group_members(groups):
        if all(rewards[place] == rewards[members[0]] for place in members):
            for place in members:
                flat[place] = True
    return flat


def group_members(groups: Sequence[str]) -> list[list[int]]:
    """Positions of each group's members, groups in order of first appearance."""
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    return list(members.values())
