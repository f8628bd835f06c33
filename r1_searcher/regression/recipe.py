"""The recipe gate: do several short trainings come out like the committed ones?

The figures of many runs, one per seed, are committed. Another processor, or a change that only rounds differently,
gives other runs from the same distribution; a recipe that lost something gives another distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import read_json, write_json
from r1_searcher.files.git import git
from r1_searcher.params import Params
from r1_searcher.regression.figures import FIGURES, protocol, protocol_differences, read_figures
from r1_searcher.regression.processor import package_versions, processor_kind
from r1_searcher.regression.seeds import ERROR, SeedChange, seed_verdicts

RECIPE_BASELINES = Path("baselines/recipe")
LEAST = 20  # committed runs

Runs = Mapping[str, Mapping[str, float]]  # figures by seed


@dataclass(frozen=True)
class RecipeResult:
    """The gate's findings. ``unchanged``: seeds whose figures equal the committed ones to the last digit."""

    committed: int
    seeds: Sequence[str]
    unchanged: Sequence[str]
    changes: Sequence[SeedChange]
    least_seeds: int

    @property
    def verdict(self) -> str:
        """``worse`` if any figure is; ``same`` if all runs equal the committed ones; ``better`` if a figure is and none
        is worse; ``too few`` seeds for any of these, else ``no loss found``."""
        said = {change.verdict for change in self.changes}
        if len(self.unchanged) == len(self.seeds):
            return "same"
        if len(self.seeds) < self.least_seeds:
            return "too few"
        return next((verdict for verdict in ("worse", "better") if verdict in said), "no loss found")


def baseline_file(profile: str, folder: Path = RECIPE_BASELINES) -> Path:
    """Return the file of a profile's committed runs."""
    return folder / f"{profile}.json"


def read_recipe_baseline(path: Path, params: Params) -> dict[str, dict[str, float]]:
    """Return the committed figures by seed. Raises ``Refused`` if they cannot be read, or were made under other
    parameters than ``params``."""
    fix = f"if the change was intended: {_renew(params)}"
    if not path.is_file():
        raise Refused(f"no runs of profile {params.profile} are committed", where=str(path), fix=_renew(params))
    try:
        facts = read_json(path)
        runs = {str(seed): {name: float(figures[name]) for name in FIGURES} for seed, figures in facts["runs"].items()}
        apart = protocol_differences(facts["protocol"], protocol(params))
    except (PipelineError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"the recipe gate's baseline cannot be used: {_named(error)}", where=str(path), fix=fix) from None
    if apart:
        raise Refused(f"these runs used other parameters: {'; '.join(apart)}", where=str(path), fix=fix)
    if len(runs) < 2:
        raise Refused(f"holds {len(runs)} runs", where=str(path), fix=fix)
    return runs


def check_recipe(committed: Runs, runs: Runs) -> RecipeResult:
    """Return the verdict on ``runs`` against the ``committed`` ones."""
    changes = seed_verdicts([*FIGURES], _table(committed), _table(runs))
    unchanged = [seed for seed, figures in runs.items() if committed.get(seed) == figures]
    return RecipeResult(len(committed), [*runs], unchanged, changes, least_seeds(len(committed)))


def least_seeds(committed: int, error: float = ERROR) -> int:
    """Return the number of runs that "worse" needs to be possible at this error."""
    return next(number for number in range(1, 100) if math.comb(committed + number, number) * error >= 1)


def make_recipe_baseline(workspaces: Mapping[str, Path], path: Path) -> Runs:
    """Write the figures of finished runs, by seed, with what they depend on. All must have the same protocol."""
    loaded = {seed: contract.load(place / contract.PARAMS_FILE) for seed, place in workspaces.items()}
    if not loaded:
        raise PipelineError("no runs", where=str(path), fix="name their workspaces")
    (wanted, *others) = [protocol(params) for params in loaded.values()]
    for seed, other in zip([*loaded][1:], others, strict=True):
        if apart := protocol_differences(wanted, other):
            raise PipelineError(f"has other parameters: {'; '.join(apart)}", where=str(workspaces[seed]))
    runs = {seed: read_figures(place) for seed, place in workspaces.items()}
    facts: dict[str, Any] = {
        "runs": runs,
        "protocol": wanted,
        "made_with": {
            "commits": sorted({git(place, "rev-parse", "HEAD") for place in workspaces.values()}),
            "processor": processor_kind(),
            "packages": package_versions(),
        },
    }
    write_json(path, facts)
    return runs


def _renew(params: Params) -> str:
    return f"make baselines PROFILE={params.profile}"


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, PipelineError) else repr(error)


def _table(runs: Runs) -> list[list[float]]:
    return [[figures[name] for name in FIGURES] for figures in runs.values()]
