"""Profiles over the shipped parameters, whatever stands in the checkout's params.yaml today."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.params import SHIPPED, Params, parse
from r1_searcher.params.profiles import composed, overlays

ROOT = Path(__file__).resolve().parents[1]


def shipped_profile(name: str) -> Params:
    """The parameters of a profile of ``profiles/``."""
    return parse(composed(SHIPPED.read_text(encoding="utf-8"), list(overlays(name, root=ROOT))))
