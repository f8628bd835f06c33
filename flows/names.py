"""Names of runs on Prefect's page, also before they begin, and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_searcher.shown import printable


def workspace_name(profile: str, seed: int | None) -> str:
    """Return the name of a profile's and seed's workspace, which its runs share."""
    return profile if seed is None else f"{profile}-seed{seed}"


def run_name(flow: str, given: Mapping[str, Any]) -> str:
    """Return the name of a flow's run with these parameters: profile and seed, the flow, and the segments that it ends
    with, if any."""
    name = f"{workspace_name(given['profile'], given.get('seed'))} {flow}"
    segments = given.get("segments")
    return printable(f"{name} to {', '.join(map(str, segments))}" if isinstance(segments, list) and segments else name)
