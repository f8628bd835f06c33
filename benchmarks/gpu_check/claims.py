"""What docs/gpu.md and docs/engines.md claim, in a form that a machine can check: a value, its tolerance, a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .figures import Report

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not measured"
Figures = Mapping[tuple[str, str], float]  # by part and name; planned values under (part, name + PLANNED)
PLANNED = ", planned"


@dataclass(frozen=True)
class Claim:
    """A claim holds if its measure is within [low, high]."""

    name: str
    stated: float
    low: float
    high: float
    measure: Callable[[Figures], float]  # raises KeyError if a figure was not measured


def _of(part: str, name: str) -> Callable[[Figures], float]:
    return lambda figures: figures[part, name]


def _beside_plan(part: str, name: str) -> Callable[[Figures], float]:
    return lambda figures: figures[part, name] / figures[part, name + PLANNED]


def _ratio(part: str, name: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: figures[part, name] / figures[part, other]


def _most(part: str, begun: str, ending: str = "") -> Callable[[Figures], float]:
    """The largest of the figures whose names begin and end so."""

    def most(figures: Figures) -> float:
        found = [v for (p, n), v in figures.items() if p == part and n.startswith(begun) and n.endswith(ending)]
        if not found:
            raise KeyError(begun)
        return max(found)

    return most


def _least(part: str, begun: str, ending: str = "") -> Callable[[Figures], float]:
    return lambda figures: -_most(part, begun, ending)({key: -value for key, value in figures.items()})


_MODELS = {"0.5B": "small", "3B": "large"}
_UPDATES = {"0.5B": "packed", "3B": "packed, checkpointing"}

CLAIMS = (
    Claim("matrix products reach the data sheet's peak", 1.0, 0.6, 1.1, _beside_plan("device", "matrix product, bf16")),
    Claim("copies reach the data sheet's bandwidth", 1.0, 0.6, 1.1, _beside_plan("device", "copy on the device")),
    *(
        Claim(
            f"engine and trainer agree, {dtype}",
            limit,
            0.0,
            limit,
            _most("contract", "gap of samples to the trainer", f"{dtype}, {layout}"),
        )
        for dtype, limit, layout in (("float32", 1e-3, "padded"), ("bfloat16", 0.1, "packed"))
    ),
    Claim("greedy tokens are those of float64, float32", 1.0, 1.0, 1.0, _least("contract", "greedy tokens", "float32")),
    *(
        Claim(
            f"new weights arrive in the engine, {dtype}",
            limit,
            0.0,
            limit,
            _most("contract", "gap after an update", f"{dtype}, packed"),
        )
        for dtype, limit in (("float32", 1e-4), ("bfloat16", 0.06))
    ),
    *(
        Claim(f"prefill as planned, {size}", 1.0, 0.8, 2.0, _beside_plan(f"sampling-{part}", "prefill, 64 rows"))
        for size, part in _MODELS.items()
    ),
    *(
        Claim(f"decoding as planned, {size}", 1.0, 0.8, 2.0, _beside_plan(f"sampling-{part}", "sampling, 64 rows"))
        for size, part in _MODELS.items()
    ),
    *(
        Claim(
            f"the engine's memory is enough, {size}", 1.0, 0.5, 1.0, _beside_plan(f"sampling-{part}", "memory, 64 rows")
        )
        for size, part in _MODELS.items()
    ),
    *(
        Claim(
            f"the update is as fast as planned, {size}",
            1.0,
            0.8,
            3.0,
            _beside_plan(f"update-{part}", f"update, {name}"),
        )
        for (size, part), name in zip(_MODELS.items(), _UPDATES.values(), strict=True)
    ),
    *(
        Claim(
            f"the trainer's memory is enough, {size}", 1.0, 0.5, 1.0, _beside_plan(f"update-{part}", f"memory, {name}")
        )
        for (size, part), name in zip(_MODELS.items(), _UPDATES.values(), strict=True)
    ),
    Claim(
        "checkpointing costs a third more",
        1.33,
        1.0,
        1.4,
        _ratio("update-small", "update, packed", "update, checkpointing"),
    ),
    Claim(
        "adapters save half of a backward pass",
        1.5,
        1.2,
        2.0,
        _ratio("lora", "update, adapters", "update, all weights"),
    ),
    Claim(
        "engine and trainer keep no memory from turn to turn", 0.0, -1.0, 1.0, _of("turns", "memory gained by a turn")
    ),
    Claim("ZeRO stages have the losses of torch alone", 0.0, 0.0, 0.01, _of("zero", "largest difference of losses")),
    Claim("vLLM's weights arrive by folder", 0.06, 0.0, 0.06, _most("vllm", "weights", "by folder, gap")),
    Claim("a sleeping vLLM gives memory back", 1.0, 1.0, float("inf"), _least("vllm", "sleep gives back")),
)


@dataclass(frozen=True)
class Verdict:
    """A claim beside its measure; None: not measured."""

    name: str
    stated: float
    low: float
    high: float
    measured: float | None
    verdict: str


def judge(reports: list[Report]) -> list[Verdict]:
    """Return a verdict per claim."""
    figures: dict[tuple[str, str], float] = {}
    for report in reports:
        for one in report.figures:
            if isinstance(one.value, int | float):
                figures[report.part, one.name] = float(one.value)
                if one.planned is not None:
                    figures[report.part, one.name + PLANNED] = one.planned
    return [_verdict(claim, figures) for claim in CLAIMS]


def _verdict(claim: Claim, figures: Figures) -> Verdict:
    try:
        found: float | None = claim.measure(figures)
    except KeyError:
        found = None
    verdict = UNKNOWN if found is None else HOLDS if claim.low <= found <= claim.high else FAILS
    return Verdict(claim.name, claim.stated, claim.low, claim.high, found, verdict)


def as_rows(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts for JSON."""
    return [asdict(one) for one in verdicts]
