"""Extension points: functions and classes registered by name, in the library or in a user's own file.

A point has a folder of the library with one module per name, or several names per module. The modules are parsed, not
imported, so that unselected names cost nothing and change nothing:

    @reward_set("brevity", parameters=Brevity)
    def brevity(case: Case, parameters: Brevity) -> dict[str, float]: ...

A user's own file does the same and is listed in params.yaml under ``extensions``. Names are string literals, so that
they can be read without running the file. The decorator only marks the object with its ``Registered``.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from r1_searcher.errors import PipelineError

if TYPE_CHECKING:  # scoring transcript files need not import it
    from pydantic import BaseModel

T = TypeVar("T")
_MARK = "__r1_searcher_registered__"
_ROOT = Path(__file__).resolve().parent
RAISED = (Exception, SystemExit)  # raised by the user's code, which may raise anything


@dataclass(frozen=True)
class Registered:
    """A decorator's mark: the point's decorator, the name, and the model of its own parameters."""

    point: str
    name: str
    parameters: type[BaseModel] | None


@dataclass(frozen=True)
class Extension:
    """A registered function or class, and the file that registers it."""

    value: Any
    registered: Registered
    file: Path

    def place(self, error: BaseException | None = None) -> str:
        """Return its place for a message: its file, with the line that raised ``error``, or else its own line."""
        if error is not None and (raised := _last_line(error, self.file)) is not None:
            return f"{_shown(self.file)}, line {raised}"
        line = getattr(getattr(inspect.unwrap(self.value), "__code__", None), "co_firstlineno", None)
        return _shown(self.file) if line is None else f"{_shown(self.file)}, line {line}"


@dataclass(frozen=True)
class Point:
    """One extension point.

    Attributes:
        decorator: the name of its decorator in the files, e.g. ``reward_set``.
        noun: for messages, e.g. ``reward set``.
        package: the library's package with the built-in names, e.g. ``r1_searcher.rewards.sets``.
        parameter: the key in params.yaml that selects one, e.g. ``reward.set``.
        texts: whether text files have names too: NAME.txt in the package's folder, and any path with a suffix.
    """

    decorator: str
    noun: str
    package: str
    parameter: str
    texts: bool = False

    def register(self, name: str, *, parameters: type[BaseModel] | None = None) -> Callable[[T], T]:
        """Return the decorator. ``parameters``: a pydantic model of the parameters under the selected name in
        params.yaml."""

        if parameters is not None and not hasattr(parameters, "model_validate"):
            raise TypeError(f"parameters of {name!r} must be a pydantic model, got {parameters!r:.60}")

        def mark(value: T) -> T:
            setattr(value, _MARK, (*_marks(value), Registered(self.decorator, name, parameters)))
            return value

        return mark

    def files(self, extensions: Sequence[str] = ()) -> dict[str, Path]:
        """Return the file of every known name, parsed and not imported. Raises ``PipelineError`` for a name registered
        twice."""
        found = dict(_shipped_files(self))
        for path in map(Path, extensions):
            for name in names_in(path, self.decorator):
                self._add(found, name, path)
        return found

    def _add(self, found: dict[str, Path], name: str, path: Path) -> None:
        if name in found:
            raise PipelineError(
                f"the {self.noun} {name!r} is registered already, in {_shown(found[name])}",
                where=_shown(path),
                fix="give it another name",
            )
        found[name] = path

    def names(self, extensions: Sequence[str] = ()) -> list[str]:
        """Return all known names, sorted."""
        return sorted(self.files(extensions))

    def file(self, name: str, extensions: Sequence[str] = (), *, where: str | None = None) -> Path:
        """Return the file that registers ``name``. Raises ``PipelineError`` with all known names if none does.

        ``where``: the key that selects it, if not ``parameter``. A path of a text file is not looked up.
        """
        files = self.files(extensions)
        if name in files:
            return files[name]
        if self.texts and Path(name).suffix:
            return Path(name)
        raise self.unknown(name, extensions, where=where)

    def unknown(self, name: str, extensions: Sequence[str] = (), *, where: str | None = None) -> PipelineError:
        """Return the error for an unregistered name, with all known names."""
        path = "or the path of a text file, e.g. mine.txt; " if self.texts else ""
        return PipelineError(
            f"no {self.noun} {name!r}",
            where=where or self.parameter,
            fix=f"known: {', '.join(self.names(extensions))}; {path}files of your own: extensions in params.yaml",
        )

    def find(self, name: str, extensions: Sequence[str] = ()) -> Extension:
        """Return what is registered under ``name``, importing only its file. A text file becomes a function that
        returns its text."""
        path = self.file(name, extensions)
        if path.suffix != ".py":
            return Extension(lambda: path.read_text(encoding="utf-8"), Registered(self.decorator, name, None), path)
        module = importlib.import_module(f"{self.package}.{path.stem}") if shipped(path) else _import_file(path)
        for value in vars(module).values():
            for registered in _marks(value):
                if (registered.point, registered.name) == (self.decorator, name):
                    return Extension(value, registered, path)
        raise PipelineError(
            f"the file was imported, but did not register the {self.noun} {name!r}",
            where=_shown(path),
            fix="decorate a function or class at the top of the file, and keep its name",
        )


@functools.cache
def _shipped_files(point: Point) -> dict[str, Path]:
    """Return the file of every name in the library, read once: each check of parameters asks for them many times."""
    found: dict[str, Path] = {}
    folder = _ROOT.parent.joinpath(*point.package.split("."))
    for path in sorted(folder.glob("*.txt")) if point.texts else []:
        point._add(found, path.stem, path)
    for path in sorted(folder.glob("*.py")):
        for name in names_in(path, point.decorator):
            point._add(found, name, path)
    return found


def shipped(path: Path) -> bool:
    """Return whether a file is the library's own."""
    return path.is_relative_to(_ROOT)


def names_in(path: Path, decorator: str) -> list[str]:
    """Return the names that a file registers with ``@decorator("name")``, in order, by parsing it.

    Raises ``PipelineError`` for a file that is missing or not Python, and for a name that is not a string literal.
    """
    found: list[str] = []
    for kind, name, line in _decorations(path):
        if kind != decorator:
            continue
        if name is None:
            raise PipelineError(
                f"the name given to @{decorator} is not a string literal", where=f"{_shown(path)}, line {line}"
            )
        if name in found:
            raise PipelineError(f"{name!r} is registered twice", where=f"{_shown(path)}, line {line}")
        found.append(name)
    return found


def _marks(value: Any) -> tuple[Registered, ...]:
    """Return a function's or class's own marks, without those of its parents."""
    return getattr(value, "__dict__", {}).get(_MARK, ()) if callable(value) else ()


def _decorations(path: Path) -> list[tuple[str, str | None, int]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"cannot be read: {error.strerror or error}", where=f"extensions, {path}", fix="paths are from the checkout"
        ) from None
    return _parsed(content, _shown(path))


@functools.lru_cache(maxsize=1024)
def _parsed(content: bytes, shown: str) -> list[tuple[str, str | None, int]]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise PipelineError(
            f"not valid Python: {getattr(error, 'msg', error)}", where=f"{shown}, line {line}" if line else shown
        ) from None
    found: list[tuple[str, str | None, int]] = []
    for node in tree.body:
        for call in getattr(node, "decorator_list", []):
            if isinstance(call, ast.Call):
                kind = ast.unparse(call.func).rpartition(".")[2]
                first = call.args[0] if call.args else None
                name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
                found.append((kind, name, call.lineno))
    return found


def _import_file(path: Path) -> ModuleType:
    """Import a user's file, once per place and content; its exceptions become one line with the place in the file."""
    content = path.read_bytes()
    name = (
        f"r1_searcher_extension_{path.stem}_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]}"
    )
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # pydantic and dataclasses look modules up by name
    try:
        # Not by Python's loader: its bytecode cache confuses files of equal size and second.
        exec(compile(content, str(path), "exec"), module.__dict__)
    except RAISED as error:
        del sys.modules[name]
        raise PipelineError(
            f"raised when it was imported: {type(error).__name__}: {error}", where=place_of(error, path)
        ) from error
    return module


def place_of(error: BaseException, path: Path) -> str:
    """Return the last line of ``path`` in an error's traceback, for a message."""
    line = _last_line(error, path)
    return _shown(path) if line is None else f"{_shown(path)}, line {line}"


def _last_line(error: BaseException, path: Path) -> int | None:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None


@contextlib.contextmanager
def wrap_user_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a user's code raises in the block into a ``PipelineError`` with the line of ``path``."""
    try:
        yield
    except PipelineError:
        raise
    except RAISED as error:
        raise PipelineError(f"{what} raised {type(error).__name__}: {error}", where=place_of(error, path)) from error


def _shown(path: Path) -> str:
    return path.relative_to(_ROOT.parent).as_posix() if shipped(path) else str(path)


def bind_parameters(found: Extension, own: BaseModel | None, noun: str) -> Callable[..., Any]:
    """Return what was found as a plain callable, with its own parameters, if any, as the keyword ``parameters``.

    Exceptions of a user's file become ``PipelineError`` with the place in the file; built-in code raises as usual.
    """
    call = found.value if own is None else functools.partial(found.value, parameters=own)
    if shipped(found.file):
        return call

    @functools.wraps(found.value)
    def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        except PipelineError:
            raise
        except RAISED as error:
            raise PipelineError(
                f"the {noun} {found.registered.name!r} raised {type(error).__name__}: {error}",
                where=place_of(error, found.file),
            ) from error

    return guarded


def own_parameters(found: Extension, given: Any, *, where: str) -> BaseModel | None:
    """Return the parameters in params.yaml under an extension's own name, checked by its model; None if it has no
    model.

    Raises ``PipelineError`` with the place in params.yaml for unknown keys and wrong types, and for parameters of
    something that takes none.
    """
    model = found.registered.parameters
    if model is None:
        if given is not None:
            raise PipelineError(f"takes no parameters: {found.registered.name}", where=where)
        return None
    from pydantic import ValidationError

    strict: Any = type(
        model.__name__, (model,), {"model_config": {**model.model_config, "extra": "forbid", "frozen": True}}
    )
    with wrap_user_errors(found.file, f"the parameters of {found.registered.name!r}"):
        try:
            checked: BaseModel = strict.model_validate({} if given is None else given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, (where, *first["loc"])))
            raise PipelineError(f"{first['msg']}", where=place, fix=f"its model is in {_shown(found.file)}") from None
    return checked
