"""What the measurement of a base policy says against training it (metrics/base_model.json)."""

from __future__ import annotations

from collections.abc import Mapping


def nothing_to_reward(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What metrics/base_model.json says of a policy that reinforcement learning has nothing to reward of; lines."""
    lines = []
    sampled = measured["sampled"]
    number = int(sampled["n"])
    if sampled["search_rate"] == 0:
        lines.append(
            f"the base policy searched in 0 of {number:,} samples, so there is no search to reward: "
            "show it some in the prompt, or start from a policy that has seen transcripts"
        )
    if sampled["format_rate"] == 0:
        lines.append(
            f"the base policy kept the format in 0 of {number:,} samples, so there is no right format to reward: "
            "show the format in the prompt, or start from a policy that has seen transcripts"
        )
    return lines
