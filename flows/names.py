"""What runs are called: on Prefect's page, before they begin too, and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_searcher.shown import printable


def workspace_name(profile: str, seed: int | None) -> str:
    """Name of a profile's and seed's workspace, which is also what its runs are called."""
    return profile if seed is None else f"{profile}-seed{seed}"


def run_name(flow: str, given: Mapping[str, Any]) -> str:
    """Of a flow's run with these parameters: its profile and seed, the flow, and the segments if it ends with them."""
    name = f"{workspace_name(given['profile'], given.get('seed'))} {flow}"
    segments = given.get("segments")
    return printable(f"{name} to {', '.join(map(str, segments))}" if isinstance(segments, list) and segments else name)
