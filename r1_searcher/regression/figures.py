"""A training run in a few figures, for the recipe gate: where it starts, how fast and how far each stage learns."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_json
from r1_searcher.params import Params

CsvRow = Mapping[str, str]
FIGURES = {
    "base_format_rate": "the base policy's sampled format rate",
    "stage1_reward": "mean reward over all iterations of stage 1",
    "stage1_reward_end": "the same over their last quarter",
    "stage2_reward": "mean reward over all iterations of stage 2",
    "stage2_search_rate": "mean share of samples that search, in stage 2",
    "final_format_rate": "the final policy's greedy format rate, mean of the benchmarks",
}
# Parameters that a run's figures depend on only by chance or not at all, such as those of services and engines.
_NOT_OF_THE_PROTOCOL = (
    *("profile", "seed", "threads", "hardware", "workers", "audit", "difficulty", "regression", "benchmarks", "judge"),
    *("report", "tracking", "rollout.vllm", "retriever.service", "retriever.online", "evaluate.served"),
    "evaluate.max_error_share",
)


def read_figures(workspace: Path) -> dict[str, float]:
    """Return the ``FIGURES`` of a finished run. Raises ``PipelineError`` for what is missing."""
    params = contract.load(workspace / contract.PARAMS_FILE)
    base = read_json(workspace / "metrics/base_model.json")
    evaluated = read_json(workspace / "metrics/evaluation.json")
    first, second = (_iterations(workspace, params, stage) for stage in ("stage1", "stage2"))
    final = [*params.evaluate.policies][_final_place(params)]
    found: dict[str, Callable[[], float]] = {
        "base_format_rate": lambda: base["sampled"]["format_rate"],
        "stage1_reward": lambda: _mean(first, "reward"),
        "stage1_reward_end": lambda: _mean(first[-max(1, len(first) // 4) :], "reward"),
        "stage2_reward": lambda: _mean(second, "reward"),
        "stage2_search_rate": lambda: _mean(second, "search_rate"),
        "final_format_rate": lambda: fmean(part["format_rate"] for part in evaluated[final].values()),
    }
    try:
        return {name: float(found[name]()) for name in FIGURES}
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"a figure cannot be read: {error!r}", where=str(workspace), fix="run it again") from None


def protocol(params: Params) -> dict[str, Any]:
    """Return what a run's figures depend on besides code and seed: the parameters by their dotted names."""
    left_out = tuple(f"{name}." for name in _NOT_OF_THE_PROTOCOL)
    return {name: value for name, value in _flat(params.model_dump(mode="json")) if not f"{name}.".startswith(left_out)}


def protocol_differences(committed: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Return committed parameters that have changed or gone. New parameters do not count: whether they change training
    is for the gate to find."""
    absent = "absent"
    return [
        f"{name}: {value}, {present.get(name, absent)}"
        for name, value in committed.items()
        if present.get(name, absent) != value
    ]


def _flat(value: Any, name: str = "") -> Sequence[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else str(key))]


def _final_place(params: Params) -> int:
    """Return the place of the last segment's policy, as trained, among the evaluated ones; not its other modes."""
    last = f"data/train/{[*params.train.segments][-1]}/policy"
    places = [place for place, policy in enumerate(params.evaluate.policies.values()) if policy == last]
    if not places:
        raise PipelineError("the last segment's policy is not evaluated", where="evaluate.policies", fix=f"add {last}")
    return places[0]


def _iterations(workspace: Path, params: Params, stage: str) -> list[CsvRow]:
    """Return the curves' rows of a stage's segments, in order."""
    rows: list[CsvRow] = []
    for name, segment in params.train.segments.items():
        if segment.stage == stage:
            path = workspace / "plots/train" / f"{name}.csv"
            if not path.is_file():
                raise PipelineError("no such file", where=str(path), fix="run the profile to its end")
            rows += csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    if not rows:
        raise PipelineError(f"no iteration of {stage}", where=str(workspace), fix="a gate needs both stages")
    return rows


def _mean(rows: Sequence[CsvRow], name: str) -> float:
    return fmean(float(row[name]) for row in rows)
