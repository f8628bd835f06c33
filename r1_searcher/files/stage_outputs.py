"""Outputs that DVC empties before it runs a stage: a user's files there are gone with the next `dvc repro`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.texts import parse_yaml

_PIPELINE = Path("dvc.yaml")


def free_place(text: str) -> Path:
    """``type`` of an argparse option for a user's output. Raises ``PipelineError`` inside a stage's output.

    An output itself may be named: then that is what is made, as DVC would. Outside a project any path is allowed.
    """
    path = Path(text)
    if not _PIPELINE.is_file():
        return path
    root = Path.cwd().resolve()
    place = path.resolve()
    if not place.is_relative_to(root):
        return path
    words = place.relative_to(root).as_posix()
    for stage, output in stage_outputs(parse_yaml(_PIPELINE.read_text(encoding="utf-8"), where=str(_PIPELINE))):
        if re.match(rf"{output}/.", words):
            raise PipelineError(
                f"lies inside an output of the stage {stage}, which DVC empties before it runs that stage",
                where=text,
                fix=f"choose another place, e.g. evaluations/{path.name}",
            )
    return path


def stage_outputs(pipeline: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the outputs of a dvc.yaml: a stage's name, and a pattern of the path (``${…}`` is one name)."""
    for name, block in pipeline["stages"].items():
        for out in block.get("do", block).get("outs", []):
            path = next(iter(out)) if isinstance(out, dict) else out
            yield name, "[^/]+".join(re.escape(part) for part in re.split(r"\$\{[^}]*\}", path))
