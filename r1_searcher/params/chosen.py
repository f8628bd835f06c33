"""Sections that choose something by a name that may be the user's own (``r1_searcher.points``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from r1_searcher.extensions import Extension, Point, bind_parameters, own_parameters, shipped
from r1_searcher.params.base import Section


class Extensible(Section):
    """A section with chosen names. A chosen one's own parameters are beside it, under its name:

        reward: {set: brevity, answer_metric: f1, brevity: {words: 5}}

    Raises ``PipelineError`` for an unregistered name, and for parameters that its model refuses. Parameters under a
    name that is not chosen are an unknown key like any other.
    """

    points: ClassVar[Mapping[str, Point]]  # by the field that chooses: one name, or a list of them
    section: ClassVar[str]  # its key in params.yaml
    changes_results: ClassVar[bool] = True  # whether anything that is made depends on what is chosen
    # The user's files; ``Params`` passes them on.
    extensions: tuple[str, ...] = Field(default=(), exclude=True, repr=False)
    own: Mapping[str, Any] = Field(default={}, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _own_apart(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or "own" in raw:
            return raw
        chosen = {name for field in cls.points for name in _listed(raw.get(field)) if name not in cls.model_fields}
        own = {name: raw[name] for name in chosen if name in raw}
        return {key: value for key, value in raw.items() if key not in own} | ({"own": own} if own else {})

    @model_validator(mode="after")
    def _chosen_are_known(self) -> Extensible:
        for field, point in self.points.items():
            for name in _listed(getattr(self, field)):
                path = point.file(name, self.extensions, where=f"{self.section}.{field}")
                if name in self.own or not shipped(path):
                    self.parameters_of(field, name)
        return self

    @model_serializer(mode="wrap")
    def _with_own(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**handler(self), **self.own}

    def found(self, field: str, name: str | None = None) -> Extension:
        """Return what ``field`` chooses, imported; of a list of names, the one named ``name``."""
        return self.points[field].find(getattr(self, field) if name is None else name, self.extensions)

    def parameters_of(self, field: str, name: str | None = None) -> BaseModel | None:
        """Return the chosen one's own parameters, checked; None if it takes none."""
        found = self.found(field, name)
        chosen = found.registered.name
        if found.registered.parameters is None and self._taken_by_another(field, chosen):
            return None
        return own_parameters(found, self.own.get(chosen), where=f"{self.section}.{chosen}")

    def _taken_by_another(self, field: str, chosen: str) -> bool:
        """Return whether the same name is also chosen for something that takes the parameters: ``open`` is a tool, and
        the prompt that describes it."""
        others = (one for one in self.points if one != field and chosen in _listed(getattr(self, one)))
        return any(self.found(one, chosen).registered.parameters is not None for one in others)

    def chosen(self, point: Point) -> Callable[..., Any]:
        """Return what the section chooses at ``point``, imported and callable; see ``extensions.bind_parameters``."""
        field = next(field for field, its in self.points.items() if its == point)
        return bind_parameters(self.found(field), self.parameters_of(field), point.noun)

    def chosen_names(self, field: str) -> list[str]:
        """Return the names that ``field`` chooses."""
        return _listed(getattr(self, field))

    def chosen_files(self, field: str | None = None) -> Iterator[Path]:
        """Yield the file of every chosen name, or of those of one ``field``: results depend on it."""
        for one, point in self.points.items():
            if field in (None, one):
                for name in _listed(getattr(self, one)):
                    yield point.file(name, self.extensions)


def _listed(chosen: Any) -> list[str]:
    """Return the names in a field: one, a list, or a mapping from or to names (if the value ``chooses`` anything)."""
    if isinstance(chosen, str):
        return [chosen]
    if isinstance(chosen, Mapping):
        choosing = [(key, value) for key, value in chosen.items() if getattr(value, "chooses", True)]
        return [value if isinstance(value, str) else key for key, value in choosing]
    return list(chosen or ())
