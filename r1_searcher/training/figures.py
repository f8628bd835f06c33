"""Figures of an iteration from its rewards: means, the terminal's line, the collapse guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.params import Collapse
from r1_searcher.rewards.columns import CALLS, FAILED, calls_in, failed_in, further

SHOWN_ZERO_ADVANTAGE = 0.9  # from this share of zero-advantage questions on, the terminal's line shows it

# name in the curves → column of REWARDS whose mean it is
MEANS = {
    "reward": "total",
    "response_length": "num_policy_tokens",
    "searches": "num_searches",
    "format_rate": "format_right",
    "f1": "f1",
    "em": "em",
    "cover_em": "cover_em",
}


def means(rewards: pa.Table) -> dict[str, float]:
    """Return means over the counted trajectories of ``rewards`` (schema REWARDS plus further components).

    Adds the share that searched (``search_rate``) and the share lost to the retriever or a tool (``error_share``).
    Rates are in 0..1, ``response_length`` is in policy tokens. The mean of a further component has its column's name,
    ``component_NAME``, and so has that of a further tool's calls, ``calls_NAME``. ``failed_NAME`` is the share of all
    trajectories that a tool lost.
    """
    counted = rewards.filter(rewards["counted"])
    names = rewards.column_names
    lost = {
        "error_share": (rewards.num_rows - counted.num_rows) / rewards.num_rows,
        **{name: _mean(pc.greater(rewards[name], 0)) for name in failed_in(names)},
    }
    wanted = {**MEANS, **{name: name for name in (*further(names), *calls_in(names))}}
    if counted.num_rows == 0:
        return {**dict.fromkeys(wanted, 0.0), "search_rate": 0.0, **lost}
    found = {name: _mean(counted[column]) for name, column in wanted.items()}
    return {**found, "search_rate": _mean(pc.greater(counted["num_searches"], 0)), **lost}


def _mean(column: pa.ChunkedArray) -> float:
    """Return a column's mean, summed in row order, so that equal files have equal figures."""
    values = [float(value) for value in column.to_pylist()]
    return sum(values) / len(values)


def check_errors(figures: Mapping[str, float], allowed: float) -> None:
    """Raise ``PipelineError`` if retriever and tools lost more trajectories than ``rollout.max_error_share``."""
    if figures["error_share"] > allowed:
        failed = [name.removeprefix(FAILED) for name in failed_in(figures) if figures[name]]
        who = " and ".join(failed) or "the retriever"
        raise PipelineError(
            f"{who} failed on {figures['error_share']:.0%} of the trajectories (allowed: {allowed:.0%})",
            where="rollout.max_error_share",
            fix="check that the index and the search service answer, then run the same command again",
        )


@dataclass(frozen=True)
class Stop:
    """Why training stops itself, and what to do."""

    why: str
    advice: str


def collapse(history: Sequence[Mapping[str, float]], guard: Collapse, where: str) -> Stop | None:
    """Return why training must stop, or None. It must if the last ``patience`` iterations are all beyond a limit.

    ``history``: the means of each iteration from the segment's first, with which the length guard compares; what was
    beyond the limit from the start has not collapsed. ``where`` names the guard's parameters.
    """
    recent = history[-guard.patience :]
    if len(recent) < guard.patience:
        return None
    if all(figures["format_rate"] < guard.min_format_rate for figures in recent):
        if all(figures["format_rate"] < guard.min_format_rate for figures in history):
            return Stop(
                f"the format rate was below {guard.min_format_rate} from the first iteration on "
                f"(highest: {max(figures['format_rate'] for figures in history):.3f}), so there was little to reward",
                "a base policy that keeps the format now and then (metrics/base_model.json), or a prompt that shows "
                f"it; a lower {where}.min_format_rate or a larger {where}.patience waits longer",
            )
        return Stop(
            f"training collapsed: the format rate stayed below {guard.min_format_rate} for {guard.patience} iterations",
            f"lower the learning rate, or widen {where}",
        )
    longest = guard.max_tokens_growth * history[0]["response_length"]
    if all(figures["response_length"] > longest for figures in recent):
        return Stop(
            f"training collapsed: responses stayed above {longest:.0f} tokens "
            f"({guard.max_tokens_growth} × the first iteration's)",
            f"lower the learning rate, or widen {where}",
        )
    return None


def zero_advantage_share(figures: Mapping[str, float]) -> float:
    """Return the share (0..1) of an iteration's questions in zero-advantage groups, which train nothing."""
    groups = figures.get("num_groups", 0)
    return figures["num_zero_advantage_groups"] / groups if groups else 0.0


def equal_rewards(history: Sequence[Mapping[str, float]], patience: int) -> str | None:
    """Return a line if the last ``patience`` iterations trained nothing; at most one per ``patience``."""
    recent = history[-patience:]
    if len(history) % patience or any(zero_advantage_share(figures) < 1 for figures in recent):
        return None
    lowest, highest = (choose(figures["reward"] for figures in recent) for choose in (min, max))
    return (
        f"the last {patience} iterations trained nothing: the samples of each question all had the same reward "
        f"(means {lowest:+.3f} to {highest:+.3f}); more samples per question, a higher temperature, or other questions"
    )


def line(
    place: str,
    figures: Mapping[str, float],
    *,
    tokens_per_second: float | None,
    seconds_left: float | None,
    zero_advantage: float = 0.0,
) -> str:
    """Return the terminal's line for one iteration; ``place`` names it. ``zero_advantage``: the share of questions that
    trained nothing, shown if it is high."""
    speed = "stored" if tokens_per_second is None else f"{tokens_per_second:,.0f} tok/s"
    left = "" if seconds_left is None else f"  left {clock(seconds_left)}"
    equal = f"  zero-advantage groups {zero_advantage:.0%}" if zero_advantage >= SHOWN_ZERO_ADVANTAGE else ""
    lost = f"  lost {figures['error_share']:.1%}" if figures.get("error_share") else ""
    return (
        f"{place}  reward {figures['reward']:+.3f}  searched {figures['search_rate']:.2f}"
        f"  searches {figures['searches']:.2f}{_calls(figures)}  format {figures['format_rate']:.2f}"
        f"  F1 {figures['f1']:.3f}  Cover-EM {figures['cover_em']:.3f}  {speed:>11}{lost}{equal}{left}"
    )


def watch_line(place: str, figures: Mapping[str, float], questions: int) -> str:
    """Return the terminal's line for a validation."""
    return (
        f"{place}  greedy on {questions} validation questions:  searched {figures['search_rate']:.2f}"
        f"  searches {figures['searches']:.2f}{_calls(figures)}  format {figures['format_rate']:.2f}"
        f"  F1 {figures['f1']:.3f}  Cover-EM {figures['cover_em']:.3f}"
    )


def _calls(figures: Mapping[str, float]) -> str:
    """Return the mean calls of each tool beside search; empty if there is none."""
    return "".join(f"  {name.removeprefix(CALLS)} {figures[name]:.2f}" for name in calls_in(figures))


def clock(seconds: float) -> str:
    """Format seconds: 95 -> '1:35'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
