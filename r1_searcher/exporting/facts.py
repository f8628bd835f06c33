"""What a checkout knows about a policy folder: its segment, its measurements, its curves, its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1_searcher.evaluation.summary import summarise
from r1_searcher.files.artefacts import read_metadata, read_table
from r1_searcher.params import PARAMS_FILE, Params
from r1_searcher.protocol_card import policy_identity
from r1_searcher.report.inputs import IterationFigures, read_curves

_EVALUATIONS = ("data/evaluation", "data/benchmark_evaluation", "evaluations")


@dataclass(frozen=True)
class Measured:
    """Figures of the policy on one benchmark: ``figures`` with intervals, ``card``: how they were measured."""

    figures: dict[str, Any]
    card: dict[str, Any]


@dataclass(frozen=True)
class PolicyFacts:
    """Everything that a model card says. What is not known is empty.

    ``known``: the policy was trained with ``params``; else these only say how it is asked.
    """

    policy: Path
    params: Params
    params_text: str
    sha256: str
    step: int | None
    segment: str = ""
    measured: list[Measured] = field(default_factory=list)
    curves: list[IterationFigures] = field(default_factory=list)
    known: bool = True


def gather(
    policy: Path, params: Params, *, params_file: Path = PARAMS_FILE, root: Path = Path(), known: bool = False
) -> PolicyFacts:
    """Collect what the checkout ``root`` knows about ``policy``. ``known``: it was trained with ``params``.

    Evaluations are found by the policy's weights, not by its name: figures of other weights are never shown. Raises
    ``PipelineError`` if ``policy`` is no policy folder, or an evaluation that names it is damaged.
    """
    identity = policy_identity(policy)
    made = {(root / "data/train" / name / "policy").resolve(): name for name in params.train.segments}
    segment = made.get(policy.resolve(), "")
    measured = _measured(identity["policy_sha256"], root)
    base = policy.resolve() == (root / "data/base_model").resolve()
    return PolicyFacts(
        policy=policy,
        params=params,
        params_text=params_file.read_text(encoding="utf-8") if params_file.is_file() else "",
        sha256=identity["policy_sha256"],
        step=identity["policy_step"],
        segment=segment,
        measured=measured,
        curves=_curves(params, segment, root) if segment else [],
        known=known or bool(segment or measured) or base,
    )


def _measured(sha256: str, root: Path) -> list[Measured]:
    found = []
    for place in _EVALUATIONS:
        for file in sorted((root / place).rglob("*.parquet")):
            told = read_metadata(file)
            if told.get("card", {}).get("policy_sha256") == sha256:
                figures = summarise(
                    read_table(file), kinds=told.get("kinds", []), needed_searches=told.get("needed_searches")
                )
                found.append(Measured(figures, told["card"]))
    return sorted(found, key=lambda one: one.card["mode"] != "search")


def _curves(params: Params, last: str, root: Path) -> list[IterationFigures]:
    """Return the curves of the segment and all before it."""
    rows: list[IterationFigures] = []
    for name in params.train.segments:
        file = root / "plots/train" / f"{name}.csv"
        if file.is_file():
            rows += read_curves(file)
        if name == last:
            break
    return sorted(rows, key=lambda row: row.number)
