"""Extension points: what is registered under a name, here or in a user's own file.

A point has a folder of the library with a module for each name or some of them. What stands there is found by reading
the modules and not by importing them, so a name that nobody selected costs nothing and changes nothing:

    @reward_set("brevity", parameters=Brevity)
    def brevity(case: Case, parameters: Brevity) -> dict[str, float]: ...

A user's own file does the same and is named in params.yaml under ``extensions``. Names are string literals, so that
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

if TYPE_CHECKING:  # whoever scores a file of transcripts need not load it
    from pydantic import BaseModel

T = TypeVar("T")
_MARK = "__r1_searcher_registered__"
_ROOT = Path(__file__).resolve().parent
RAISED = (Exception, SystemExit)  # by a user's code, which may raise anything


@dataclass(frozen=True)
class Registered:
    """What a decorator says of what it decorates: the point's decorator, the name, the model of its own parameters."""

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
        """Where it stands, for a message: its file, and the line of the file that raised ``error``, or else its own."""
        if error is not None and (raised := _last_line(error, self.file)) is not None:
            return f"{_shown(self.file)}, line {raised}"
        line = getattr(getattr(inspect.unwrap(self.value), "__code__", None), "co_firstlineno", None)
        return _shown(self.file) if line is None else f"{_shown(self.file)}, line {line}"


@dataclass(frozen=True)
class Point:
    """One extension point.

    Attributes:
        decorator: the name of its decorator, as it stands in the files, e.g. ``reward_set``.
        noun: for messages, e.g. ``reward set``.
        package: the library's package with the names that ship, e.g. ``r1_searcher.rewards.sets``.
        parameter: where params.yaml selects one, e.g. ``reward.set``.
        texts: whether text files have names too: NAME.txt in the package's folder, and any path with an ending.
    """

    decorator: str
    noun: str
    package: str
    parameter: str
    texts: bool = False

    def register(self, name: str, *, parameters: type[BaseModel] | None = None) -> Callable[[T], T]:
        """The decorator. ``parameters``: a pydantic model of what stands in params.yaml beside the selection, under
        the selected name."""

        if parameters is not None and not hasattr(parameters, "model_validate"):
            raise TypeError(f"parameters of {name!r} must be a pydantic model, got {parameters!r:.60}")

        def mark(value: T) -> T:
            setattr(value, _MARK, (*_marks(value), Registered(self.decorator, name, parameters)))
            return value

        return mark

    def files(self, extensions: Sequence[str] = ()) -> dict[str, Path]:
        """The file of every known name, read and not imported. A name that is registered twice is an error."""
        found: dict[str, Path] = {}
        folder = _ROOT.parent.joinpath(*self.package.split("."))
        texts = sorted(folder.glob("*.txt")) if self.texts else []
        for path in [*texts, *sorted(folder.glob("*.py")), *map(Path, extensions)]:
            for name in [path.stem] if path in texts else names_in(path, self.decorator):
                if name in found:
                    raise PipelineError(
                        f"the {self.noun} {name!r} is registered already, in {_shown(found[name])}",
                        where=_shown(path),
                        fix="give it another name",
                    )
                found[name] = path
        return found

    def names(self, extensions: Sequence[str] = ()) -> list[str]:
        """All known names, sorted."""
        return sorted(self.files(extensions))

    def file(self, name: str, extensions: Sequence[str] = (), *, where: str | None = None) -> Path:
        """The file that registers ``name``; a ``PipelineError`` with all known names if none does.

        ``where``: what chooses it, if that is not ``parameter``. A path of a text file is not looked up.
        """
        files = self.files(extensions)
        if name in files:
            return files[name]
        if self.texts and Path(name).suffix:
            return Path(name)
        raise self.unknown(name, extensions, where=where)

    def unknown(self, name: str, extensions: Sequence[str] = (), *, where: str | None = None) -> PipelineError:
        """The error of a name that nothing registers, with all known names."""
        path = "or the path of a text file, e.g. mine.txt; " if self.texts else ""
        return PipelineError(
            f"no {self.noun} {name!r}",
            where=where or self.parameter,
            fix=f"known: {', '.join(self.names(extensions))}; {path}files of your own: extensions in params.yaml",
        )

    def find(self, name: str, extensions: Sequence[str] = ()) -> Extension:
        """What is registered under ``name``; its file is imported now, and no other. A text file is a function that
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
            f"the {self.noun} {name!r} is not there after the file was imported",
            where=_shown(path),
            fix="decorate a function or class at the top of the file, and keep its name",
        )


def shipped(path: Path) -> bool:
    """Whether a file is the library's own, and no user's."""
    return path.is_relative_to(_ROOT)


def names_in(path: Path, decorator: str) -> list[str]:
    """The names that a file registers with ``@decorator("name")``, in its order. The file is read, not run.

    Raises ``PipelineError`` for a file that is missing or is no Python, and for a name that is no string literal.
    """
    found: list[str] = []
    for kind, name, line in _decorations(path):
        if kind != decorator:
            continue
        if name is None:
            raise PipelineError(
                f"the name given to @{decorator} is no string literal", where=f"{_shown(path)}, line {line}"
            )
        if name in found:
            raise PipelineError(f"{name!r} is registered twice", where=f"{_shown(path)}, line {line}")
        found.append(name)
    return found


def registered_in(path: Path) -> set[str]:
    """The decorators that a file uses, by their last name: which points it may extend."""
    return {kind for kind, _, _ in _decorations(path)}


def _marks(value: Any) -> tuple[Registered, ...]:
    """A function's or class's own marks; a class has none of its parents'."""
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
            f"no Python: {getattr(error, 'msg', error)}", where=f"{shown}, line {line}" if line else shown
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
    """A user's file as a module, once per place and content; what it raises is one line with the place in the file."""
    content = path.read_bytes()
    name = (
        f"r1_searcher_extension_{path.stem}_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]}"
    )
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # pydantic and dataclasses look a module up by its name
    try:
        # Not by Python's loader: its bytecode cache takes a file of the same size and second for the same file.
        exec(compile(content, str(path), "exec"), module.__dict__)
    except RAISED as error:
        del sys.modules[name]
        raise PipelineError(
            f"raised when it was imported: {type(error).__name__}: {error}", where=place_of(error, path)
        ) from error
    return module


def place_of(error: BaseException, path: Path) -> str:
    """The last line of ``path`` in an error's traceback, for a message."""
    line = _last_line(error, path)
    return _shown(path) if line is None else f"{_shown(path)}, line {line}"


def _last_line(error: BaseException, path: Path) -> int | None:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None


@contextlib.contextmanager
def called(path: Path, what: str) -> Iterator[None]:
    """Around a call of a user's code: whatever it raises is a ``PipelineError`` with the line of ``path``."""
    try:
        yield
    except PipelineError:
        raise
    except RAISED as error:
        raise PipelineError(f"{what} raised {type(error).__name__}: {error}", where=place_of(error, path)) from error


def _shown(path: Path) -> str:
    return path.relative_to(_ROOT.parent).as_posix() if shipped(path) else str(path)


def bound(found: Extension, own: BaseModel | None, noun: str) -> Callable[..., Any]:
    """What was found as a plain callable: its own parameters, if it takes some, as the keyword ``parameters``.

    Whatever a user's file raises is a ``PipelineError`` with the place in the file; what ships raises as it is.
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
    """What stands in params.yaml under an extension's own name, checked by its model; None if it has no model.

    Raises ``PipelineError`` for unknown keys and wrong types, each with the place in params.yaml, and for parameters of
    something that takes none.
    """
    model = found.registered.parameters
    if model is None:
        if given is not None:
            raise PipelineError(f"takes no parameters of its own: {found.registered.name}", where=where)
        return None
    from pydantic import ValidationError

    strict: Any = type(
        model.__name__, (model,), {"model_config": {**model.model_config, "extra": "forbid", "frozen": True}}
    )
    with called(found.file, f"the parameters of {found.registered.name!r}"):
        try:
            checked: BaseModel = strict.model_validate({} if given is None else given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, (where, *first["loc"])))
            raise PipelineError(f"{first['msg']}", where=place, fix=f"its model is in {_shown(found.file)}") from None
    return checked
