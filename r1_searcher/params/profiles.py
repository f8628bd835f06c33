"""Profiles: overlays of ``params.yaml`` in ``profiles/``, composed into one text of parameters."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.names import checked_profile
from r1_searcher.params.reading import PARAMS_FILE, check, parse
from r1_searcher.params.whole import extensible_sections
from r1_searcher.texts import parse_yaml

_FOLDER = Path("profiles")
# Maps that an overlay replaces as a whole.
REPLACED = ("train.segments", "evaluate.policies", "benchmarks.sets", "difficulty.label", "difficulty.mixes")
FREE = (
    "questions.files",
    "questions.columns",
    "corpus.columns",
    "evaluate.prompts",
)  # maps whose keys are the user's


def compose(base: Mapping[str, Any], overlay: Mapping[str, Any], *, where: str = "overlay") -> dict[str, Any]:
    """Return ``base`` with the values of ``overlay``: a deep merge that replaces lists and ``REPLACED`` maps.

    Raises ``PipelineError`` for a key that ``base`` lacks, or a section in place of a value.
    """
    return _merge(base, overlay, where, ())


def _merge(base: Mapping[str, Any], overlay: Mapping[str, Any], where: str, above: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overlay.items():
        path = (*above, str(key))
        name = ".".join(path)
        # A chosen extension's parameters are under its name, which the base lacks: the final check covers them.
        if key not in base and ".".join(above) not in (*FREE, *extensible_sections()):
            raise PipelineError(
                "unknown parameter", where=f"{where}, {name}", fix=f"known here: {', '.join(map(str, base))}"
            )
        old = base.get(key)
        if isinstance(old, Mapping) and not isinstance(value, Mapping):
            raise PipelineError(f"is a section, not a value: {value!r}", where=f"{where}, {name}")
        if isinstance(value, Mapping) and key in base and not isinstance(old, Mapping):
            raise PipelineError("is a value, not a section", where=f"{where}, {name}")
        whole = name in REPLACED or not isinstance(old, Mapping)
        merged[key] = value if whole else _merge(old, value, where, path)  # type: ignore[arg-type]
    return merged


def assignment(text: str) -> dict[str, Any]:
    """Parse ``a.b=1`` into an overlay: ``{"a": {"b": 1}}``; the value is YAML."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise PipelineError(f"not an assignment: {text!r}", where="--set", fix="write key.of.params=value")
    found: Any = _number(parse_yaml(value, where=f"--set {path}"))
    for key in reversed(keys):
        found = {key: found}
    return dict(found)


def _number(value: Any) -> Any:
    """Convert numbers such as 2e-4, which YAML 1.1 reads as text."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def read_overlay(path: Path) -> dict[str, Any]:
    """Return the parameters of a profile's file. Raises ``PipelineError`` if it is unreadable or empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    overlay = parse_yaml(text, where=str(path))
    if not isinstance(overlay, dict):
        raise PipelineError("contains no parameters", where=str(path))
    return overlay


def overlays(
    name: str, *, seed: int | None = None, changes: Sequence[str] = (), root: Path = Path()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a profile's overlay, then the seed's, then the changes', each with its origin."""
    path = root / _FOLDER / f"{checked_profile(name)}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in (root / _FOLDER).glob("*.yaml")))
        raise PipelineError(f"no profile {name!r}", where=str(root / _FOLDER), fix=f"known: {known}") from None
    yield str(path), read_overlay(path)
    if seed is not None:
        yield "--seed", {"seed": seed}
    for change in changes:
        yield f"--set {change}", assignment(change)


def composed(base_text: str, parts: Sequence[tuple[str, Mapping[str, Any]]], *, where: str = "params.yaml") -> str:
    """Return the base parameters' text with overlays applied: checked, with its comments."""
    from ruamel.yaml import YAML  # produced by DVC

    plain = parse(base_text, where=where).model_dump(mode="json")  # every key, including defaults
    for place, overlay in parts:
        plain = compose(plain, overlay, where=place)
    check(plain, where=" + ".join([where, *(place for place, _ in parts)]))
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load(base_text)
    for _, overlay in parts:
        _apply(document, overlay, ())
    out = io.StringIO()
    editor.dump(document, out)
    parse(out.getvalue(), where=where)
    return out.getvalue()


def _apply(document: Any, overlay: Mapping[str, Any], above: tuple[str, ...]) -> None:
    """Apply ``compose`` in place to a document with comments."""
    for key, value in overlay.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping) and ".".join(path) not in REPLACED:
            _apply(document[key], value, path)
        else:
            document[key] = dict(value) if isinstance(value, Mapping) else value


def base_text(root: Path = Path()) -> str:
    """Return the base parameters: ``params.yaml`` with the user's changes or, if it now holds another profile, as
    committed, so that composing twice equals composing once."""
    try:
        here = (root / PARAMS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError("no such file", where="params.yaml", fix="run from the project's root folder") from None
    shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], cwd=root, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return here
    committed = "params.yaml as it is committed"
    # Only its profile: it may lack a new parameter that the present file has.
    raw = parse_yaml(shown.stdout, where=committed)
    if not isinstance(raw, Mapping) or raw.get("profile") == parse(here).profile:
        return here
    parse(shown.stdout, where=committed)
    return shown.stdout
