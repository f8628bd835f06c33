"""The parameters that the present checkout gives a profile, whatever its params.yaml contains at the moment."""

from __future__ import annotations

from pathlib import Path

from r1_searcher import params as contract
from r1_searcher.params import Params, profiles

CODE_PROFILE, RECIPE_PROFILE = "laptop", "smoke"  # of the two gates


def profile_params(name: str, root: Path = Path()) -> Params:
    """Return a profile's parameters, composed as a run would compose them."""
    overlays = list(profiles.overlays(name, root=root))
    return contract.parse(profiles.composed(profiles.base_text(root), overlays))
