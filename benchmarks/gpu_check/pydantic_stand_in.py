"""Enough of pydantic to read the shipped parameters on a machine without it.

It fills in defaults, makes sections of dictionaries, and runs the sections' own validators. It checks no types: the
parameters that the kit reads are the shipped ones, which the tests check with pydantic. ``install`` puts this module in
pydantic's place; nothing else of the project may do so.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

_MISSING: Any = object()
SerializerFunctionWrapHandler = Callable[[Any], dict[str, Any]]


class ValidationError(ValueError):
    """An unknown key, or a missing one."""


class Field:
    """What ``Field(...)`` says; only its default and ``exclude`` are used. Limits are not checked."""

    def __init__(self, default: Any = _MISSING, *, exclude: bool = False, **unused: Any) -> None:
        self.default, self.exclude, self.annotation = default, exclude, Any


def ConfigDict(**settings: Any) -> dict[str, Any]:
    return settings


class _Unused:
    """An annotation that changes no value here."""

    def __init__(self, *unused: Any, **named: Any) -> None:
        pass


AfterValidator = Discriminator = Tag = _Unused


def model_validator(*, mode: str) -> Callable[[Any], Any]:
    def mark(method: Any) -> Any:
        getattr(method, "__func__", method).stand_in_mode = mode
        return method

    return mark


def field_validator(*fields: str, mode: str = "after") -> Callable[[Any], Any]:
    def mark(method: Any) -> Any:
        getattr(method, "__func__", method).stand_in_fields = fields
        return model_validator(mode=f"field {mode}")(method)

    return mark


def model_serializer(*, mode: str) -> Callable[[Any], Any]:
    return model_validator(mode=f"serialize {mode}")


class BaseModel:
    """A section. Its fields are the annotations of its classes."""

    model_config: ClassVar[Mapping[str, Any]] = {}
    model_fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls) -> None:
        names = {name for base in reversed(cls.__mro__) for name in vars(base).get("__annotations__", {})}
        cls.model_fields = {name: _field(cls, name) for name in names if not _is_class_variable(cls, name)}

    def __init__(self, **values: Any) -> None:
        values = self._before(values)
        hints = typing.get_type_hints(type(self), include_extras=True)
        unknown = values.keys() - self.model_fields.keys()
        if unknown:
            raise ValidationError(f"{type(self).__name__}: unknown {sorted(unknown)}")
        for name, field in self.model_fields.items():
            value = values.get(name, field.default)
            if value is _MISSING:
                raise ValidationError(f"{type(self).__name__}: {name} is missing")
            given = self._checked(name, value, "before") if name in values else value
            self.__dict__[name] = self._checked(name, _made(hints[name], given), "after")
        for method in self._validators("after"):
            method(self)

    @classmethod
    def _validators(cls, mode: str) -> list[Any]:
        found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
        return [
            getattr(cls, name)
            for name, value in found.items()
            if getattr(getattr(value, "__func__", value), "stand_in_mode", None) == mode
        ]

    @classmethod
    def _checked(cls, name: str, value: Any, mode: str) -> Any:
        for method in cls._validators(f"field {mode}"):
            if name in method.__func__.stand_in_fields:
                value = method(value)
        return value

    @classmethod
    def _before(cls, values: Any) -> Any:
        for method in cls._validators("before"):
            values = method(values)
        return values

    @classmethod
    def model_validate(cls, raw: Any) -> Any:
        return raw if isinstance(raw, cls) else cls(**raw)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Any:
        made = object.__new__(type(self))
        made.__dict__.update({**self.__dict__, **(update or {})})
        return made

    def model_dump(self) -> dict[str, Any]:
        def plain(section: Any) -> dict[str, Any]:
            kept = (name for name, field in section.model_fields.items() if not field.exclude)
            return {name: _dumped(getattr(section, name)) for name in kept}

        for method in self._validators("serialize wrap"):
            return dict(method(self, plain))
        return plain(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


def _is_class_variable(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name in vars(base).get("__annotations__", {}):
            return "ClassVar" in str(vars(base)["__annotations__"][name])
    return False


def _field(cls: type, name: str) -> Field:
    default = getattr(cls, name, _MISSING)
    return default if isinstance(default, Field) else Field(default)


def _made(hint: Any, value: Any) -> Any:
    """Return ``value`` as the annotation says: sections of dictionaries, tuples of lists, floats of whole numbers."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _made(parts[0], value)
    if origin in (typing.Union, types.UnionType):
        return _made_of_one(parts, value)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_made(parts[0], one) for one in value)
    if origin is list and isinstance(value, list):
        value = [_made(parts[0], one) for one in value]
    elif origin is dict and isinstance(value, dict):
        value = {key: _made(parts[1], one) for key, one in value.items()}
    elif isinstance(hint, type) and issubclass(hint, BaseModel) and isinstance(value, Mapping):
        return hint.model_validate(value)
    return float(value) if hint is float and isinstance(value, int) else value


def _made_of_one(parts: tuple[Any, ...], value: Any) -> Any:
    """Return ``value`` as the one of several annotations that fits: of sections, the one that has all of its keys."""
    if value is None or isinstance(value, str):
        return value
    for part in parts:
        bare = typing.get_args(part)[0] if typing.get_origin(part) is typing.Annotated else part
        if isinstance(value, Mapping) and isinstance(bare, type) and issubclass(bare, BaseModel):
            if value.keys() <= bare.model_fields.keys():
                return _made(part, value)
        elif typing.get_origin(bare) in (list, tuple) or bare in (float, int):
            return _made(part, value)
    return value


def _dumped(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _dumped(one) for key, one in value.items()}
    return type(value)(_dumped(one) for one in value) if isinstance(value, list | tuple) else value


def install() -> None:
    """Put this module in pydantic's place."""
    sys.modules["pydantic"] = sys.modules[__name__]
