"""Other lengths for the chain of training segments, with everything that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.params import Train, TrainSegment


def with_iterations(segments: Mapping[str, TrainSegment], iterations: Mapping[str, int]) -> dict[str, Any]:
    """Return ``train.segments`` with other numbers of iterations, as an overlay of the parameters.

    A segment that continues another of its stage starts where that one now ends (``iteration_offset``). Raises
    ``PipelineError`` for an unknown segment.
    """
    for name in iterations:
        if name not in segments:
            raise PipelineError(f"no segment {name!r}", where="iterations", fix=f"known: {', '.join(segments)}")
    changed: dict[str, TrainSegment] = {
        name: segment.model_copy(update={"iterations": iterations.get(name, segment.iterations)})
        for name, segment in segments.items()
    }
    policies = {f"data/train/{name}/policy": name for name in changed}

    def offset(name: str, above: tuple[str, ...] = ()) -> int:
        before = policies.get(changed[name].prev)
        if before is None or before in above or changed[before].stage != changed[name].stage:
            return changed[name].iteration_offset
        return offset(before, (*above, name)) + changed[before].iterations

    return {
        "train": {
            "segments": {
                name: segment.model_copy(update={"iteration_offset": offset(name)}).model_dump(mode="json")
                for name, segment in changed.items()
            }
        }
    }


def least_questions(train: Train) -> dict[str, int]:
    """Return the most questions that an iteration asks of each split of data/questions, by the split's name."""
    least: dict[str, int] = {}
    for segment in train.segments.values():
        path = PurePath(segment.questions)
        if path.parent == PurePath("data/questions"):
            asks = (train.stage1 if segment.stage == "stage1" else train.stage2).questions_an_iteration
            least[path.stem] = max(asks, least.get(path.stem, 0))
    return least
