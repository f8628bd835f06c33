"""Read params.yaml; the first error is reported with its key and the allowed values."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from r1_searcher.errors import PipelineError
from r1_searcher.params.whole import Params, extensible_sections
from r1_searcher.shown import show
from r1_searcher.texts import parse_yaml

PARAMS_FILE = Path("params.yaml")
SHIPPED = Path(__file__).with_name("defaults.yaml")
_PIPELINE = Path("dvc.yaml")
IN_A_STAGE = "DVC_STAGE"  # set by DVC for the commands that it runs
_ROOT = Path(__file__).resolve().parents[2]


def parse(text: str, *, where: str = "params.yaml") -> Params:
    """Check the text of a params file. Raises ``PipelineError`` with the first error's key and the allowed values."""
    return check(parse_yaml(text, where=where), where=where)


def check(raw: Any, *, where: str = "params.yaml") -> Params:
    """Check parameters that are already a dictionary."""
    if not isinstance(raw, dict):
        raise PipelineError("contains no parameters", where=where, fix="restore it with git")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A mistyped key is also a missing one: name what was written.
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        # For a map's key pydantic says "map.key.[key]", and its message names the key too.
        key = ".".join(str(part) for part in fault["loc"][: -2 if fault["loc"][-1:] == ("[key]",) else None])
        if fault["type"] == "extra_forbidden":
            raise PipelineError(
                "unknown parameter", where=f"{where}, {key}", fix=_suggestion(raw, fault["loc"])
            ) from None
        known = fault["type"] == "missing" or isinstance(fault["input"], dict)  # a whole section does not help
        given = "" if known else f", got {fault['input']!r}"
        # Our own checks describe what they found; those across sections have no key of their own.
        told = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else f"{fault['msg']}{given}"
        raise PipelineError(told, where=f"{where}, {key}" if key else where) from None


def load(path: Path | str = PARAMS_FILE) -> Params:
    """Read and check a params file. Raises ``PipelineError``."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path), fix="run from the project's root folder") from None
    params = parse(text, where=str(path))
    if IN_A_STAGE in os.environ and _PIPELINE.is_file() and Path(path) == PARAMS_FILE:
        check_listed(params, _PIPELINE.read_text(encoding="utf-8"))
    return params


def check_listed(params: Params, pipeline: str) -> None:
    """Raise ``PipelineError`` if a chosen name's file is not a dependency in the text of dvc.yaml."""
    words = set(re.findall(r"[^\s\[\],'\"]+", pipeline))
    if not any(word.startswith("r1_searcher/") for word in words):  # a pipeline that lists no code at all
        return
    for name in extensible_sections():
        section = getattr(params, name)
        for file in section.chosen_files() if section.changes_results else ():
            path = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
            if not words & {place.as_posix() for place in (path, *path.parents)}:
                raise PipelineError(
                    f"{path} is chosen by the parameters and no stage depends on it: DVC would not see its changes",
                    where=str(_PIPELINE),
                    fix="run `python -m flows.stage_code`, which writes it into dvc.yaml; `make train` does so too",
                )


def shipped() -> Params:
    """Return the parameters that the library ships with: the laptop profile's, `params.yaml` as committed."""
    return load(SHIPPED)


def load_or_shipped(path: Path | str = PARAMS_FILE) -> Params:
    """Load parameters for a command that also runs outside a checkout: without a params.yaml, the built-in ones, saying
    so on stderr. In a checkout, or for another file name, a missing file is an error as usual."""
    if Path(path) != PARAMS_FILE or PARAMS_FILE.exists() or Path("dvc.yaml").exists():
        return load(path)
    show("no params.yaml here: the built-in parameters are used (see them: r1-searcher params)", file=sys.stderr)
    return shipped()


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation names, also inside a dict or a choice."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)


def _suggestion(raw: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """Return the known keys in the place of an unknown one."""
    import difflib

    known: list[str] = []
    model: Any = Params
    for part in loc[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:  # inside a dict of sections: its values' model
            continue
        model = next(_models(field.annotation), field.annotation)
    if hasattr(model, "model_fields"):
        known = list(model.model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
