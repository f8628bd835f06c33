"""Token advantages of a batch of trajectories (the paper's section 3.3 and its released scripts).

All arrays cover policy tokens only: prompt and document tokens have no return, no KL and no part in the whitening.
Trajectory ``b`` has P_b policy tokens and one reward r_b.

    terminal_b = r_b compared with its group (the samples of one question), by estimator
    reward_bt  = -coefficient * (log pi_old - log pi_ref)_bt, plus terminal_b at the last policy token
    return_bt  = sum of reward_bs over s >= t                            (undiscounted)

An estimator maps ``Samples`` to advantages and returns; the built-in ones are in ``estimators``. A group of one has no
comparison: its terminal is 0. A trajectory that is not trained on counts in its group's comparison but not in the
whitening; its returns are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from r1_searcher.errors import PipelineError
from r1_searcher.points import ESTIMATORS
from r1_searcher.types.arrays import Floats

VARIANCE_FLOOR = 1e-8  # below the whitening's square root


@dataclass(frozen=True)
class Samples:
    """Input of an estimator for B trajectories: rewards (B,), group names (B,), numbers of policy tokens (B,).

    ``kl[b]`` (P_b,) is log pi_old - log pi_ref; None if ``kl_coefficient`` is 0. ``trained`` (B,): whether each
    trajectory is trained on; the estimator's results for the others are ignored.
    """

    rewards: Floats
    groups: Sequence[str]
    num_tokens: Sequence[int]
    kl: Sequence[Floats] | None
    kl_coefficient: float
    trained: Sequence[bool]

    def returns(self, terminal: Floats) -> list[Floats]:
        """Return undiscounted returns, (P_b,) each: KL penalties, plus ``terminal`` (B,) at the last policy tokens."""
        kl: Sequence[Floats | None] = [None] * len(terminal) if self.kl is None else self.kl
        return [
            token_returns(float(end), tokens, divergence, self.kl_coefficient) if counts else np.zeros(tokens)
            for end, tokens, divergence, counts in zip(terminal, self.num_tokens, kl, self.trained, strict=True)
        ]

    def whitened(self, returns: Sequence[Floats]) -> list[Floats]:
        """Whiten ``returns`` over all tokens that are trained on; leave the others unchanged."""
        values = list(returns)
        chosen = [place for place, counts in enumerate(self.trained) if counts]
        if chosen:
            for place, array in zip(chosen, whiten([returns[place] for place in chosen]), strict=True):
                values[place] = array
        return values


Estimator = Callable[[Samples], tuple[Sequence[Floats], Sequence[Floats]]]  # advantages and returns, [b] (P_b,)


@dataclass(frozen=True)
class Advantages:
    """Per trajectory (P_b,): ``values`` weight the policy gradient; ``returns`` are the values before whitening.

    ``num_flat_groups`` counts zero-advantage groups: all rewards are equal, so comparison teaches nothing.
    """

    values: list[Floats]
    returns: list[Floats]
    num_groups: int
    num_flat_groups: int


def terminal_rewards(rewards: Floats, groups: Sequence[str], compare: Callable[[Floats], Floats]) -> Floats:
    """Compare each reward with its group: rewards (B,), groups (B,) -> (B,).

    ``compare``: maps the rewards (G,) of a group that are not all equal to their terminals (G,).
    """
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards for {len(groups)} group names")
    terminal = np.zeros(len(rewards))
    for members in group_members(groups):
        own = rewards[members]
        if len(own) == 1 or np.all(own == own[0]):  # exactly 0: a rounding residue must not be divided by epsilon
            continue
        terminal[members] = compare(own)
    return terminal


def token_returns(terminal: float, num_tokens: int, kl: Floats | None, kl_coefficient: float) -> Floats:
    """Return undiscounted returns (P,) of one trajectory; ``kl`` (P,) is log pi_old - log pi_ref, None if unused."""
    rewards = np.zeros(num_tokens)
    if kl is not None:
        if kl.shape != (num_tokens,):
            raise ValueError(f"KL of {kl.shape[0]} tokens for {num_tokens} policy tokens")
        rewards -= kl_coefficient * kl
    rewards[-1] += terminal
    return np.cumsum(rewards[::-1])[::-1].copy()


def whiten(arrays: Sequence[Floats]) -> list[Floats]:
    """Scale to mean 0 and variance 1 over all tokens of all arrays; a constant batch becomes 0."""
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
    estimator: Estimator | str,
    *,
    kl: Sequence[Floats] | None = None,
    kl_coefficient: float = 0.0,
    trained: Sequence[bool] | None = None,
) -> Advantages:
    """Return token advantages (paper section 3.3) of B trajectories from rewards, group names and numbers of policy
    tokens, each (B,).

    ``estimator``: a function, or the name of a built-in one (``grpo``). ``trained`` (B,): whether each is trained on;
    None: all. ``kl[b]`` (P_b,) is log pi_old - log pi_ref, required if ``kl_coefficient`` > 0. Raises ``ValueError``
    for an empty batch, a trajectory without policy tokens, or unequal lengths; ``PipelineError`` for an unknown name or
    if the estimator does not return one finite number per policy token.
    """
    if not len(rewards) or min(num_tokens) < 1:
        raise ValueError("advantages need at least one trajectory, each with at least one policy token")
    if kl_coefficient > 0 and kl is None:
        raise ValueError("kl_coefficient > 0 needs the log-probabilities of the reference policy")
    own = [True] * len(rewards) if trained is None else list(trained)
    samples = Samples(
        np.asarray(rewards, dtype=np.float64),
        groups,
        num_tokens,
        kl if kl_coefficient > 0 else None,
        kl_coefficient,
        own,
    )
    answer = (ESTIMATORS.find(estimator).value if isinstance(estimator, str) else estimator)(samples)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise PipelineError(
            f"the advantage estimator returned {type(answer).__name__}, not advantages and returns",
            where="update.estimator",
        )
    advantages, returns = (_checked_arrays(arrays, samples, what) for arrays, what in zip(answer, _PARTS, strict=True))
    members = group_members(groups)
    flat = sum(bool(np.all(samples.rewards[group] == samples.rewards[group[0]])) for group in members)
    return Advantages(advantages, returns, num_groups=len(members), num_flat_groups=flat)


_PARTS = ("advantages", "returns")


def _checked_arrays(arrays: Sequence[Floats], samples: Samples, what: str) -> list[Floats]:
    """Copy an estimator's arrays, (P_b,) each, with 0 for trajectories that are not trained on."""
    if len(arrays) != len(samples.num_tokens):
        raise PipelineError(
            f"the advantage estimator returned {len(arrays)} arrays of {what} for {len(samples.num_tokens)} "
            "trajectories",
            where="update.estimator",
        )
    found = []
    for place, (array, tokens) in enumerate(zip(arrays, samples.num_tokens, strict=True)):
        values = np.zeros(tokens) if not samples.trained[place] else np.array(array, dtype=np.float64)
        if values.shape != (tokens,) or not np.isfinite(values).all():
            raise PipelineError(
                f"the advantage estimator's {what} of trajectory {place} are not a finite number for each of its "
                f"{tokens} policy tokens",
                where="update.estimator",
            )
        found.append(values)
    return found


def in_flat_groups(rewards: Sequence[float], groups: Sequence[str]) -> list[bool]:
    """Return whether each trajectory is in a zero-advantage group (all rewards equal): (B,), (B,) -> (B,)."""
    flat = [False] * len(rewards)
    for members in group_members(groups):
        if all(rewards[place] == rewards[members[0]] for place in members):
            for place in members:
                flat[place] = True
    return flat


def group_members(groups: Sequence[str]) -> list[list[int]]:
    """Return the positions of each group's members, groups in order of first appearance."""
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    return list(members.values())
