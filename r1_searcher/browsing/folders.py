"""Parquet files under the folders that are browsed: what each one is, and which belong together."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import METADATA_KEY
from r1_searcher.files.store import STORE
from r1_searcher.texts import parse_json

FileKind = Literal["rollouts", "rewards", "advantages", "evaluation", "questions"]

# A kind → columns that only it has, and those that it cannot be shown without.
_MARKS: dict[FileKind, set[str]] = {
    "rollouts": {"trajectory_id", "finish_reason"},
    "rewards": {"trajectory_id", "total"},
    "advantages": {"trajectory_id", "advantages"},
    "evaluation": {"question_id", "prediction"},
    "questions": {"question_id", "supporting_titles"},
}
_NEEDED: dict[FileKind, set[str]] = {
    "rollouts": {"question_id", "question", "answers", "text"},
    "rewards": set(),
    "advantages": set(),
    "evaluation": {"question", "answers", "text", "finish_reason"},
    "questions": {"kind"},
}
_SKIPPED = {"__pycache__", "node_modules", "site", "baselines"}
_HIDDEN = (STORE, ".timings")
_OWN = ("data", STORE, "plots", "params.yaml")  # what a run has in its folder


@dataclass(frozen=True)
class DataFile:
    """A readable file. ``name``: as the page shows it; ``run``: what it belongs to; ``state``: changes with it."""

    path: Path
    name: str
    run: str
    kind: FileKind
    state: tuple[int, int]  # size in bytes, mtime in ns
    rows: int
    columns: tuple[str, ...]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A file of trajectories with what belongs to it, and its place in training.

    ``policy``: segment of training or name of the evaluated policy; ``iteration``: from 1, over the segments of a run.
    """

    file: DataFile
    kind: Literal["training", "validation", "evaluation", "rollouts"]
    policy: str
    iteration: int | None = None
    benchmark: str | None = None
    rewards: DataFile | None = None
    advantages: DataFile | None = None

    @property
    def key(self) -> str:
        """Return 12 hex digits for links: the same for the same file at the same place."""
        return hashlib.sha256(os.fsencode(os.path.abspath(self.file.path))).hexdigest()[:12]

    @property
    def state(self) -> str:
        """Return what changes if one of its files or its place does."""
        files = [file for file in (self.file, self.rewards, self.advantages) if file is not None]
        return repr([self.kind, self.policy, self.iteration, self.benchmark, *((one.name, one.state) for one in files)])


@dataclass
class Folders:
    """The folders that are browsed. ``problems``: a file's name → why it is not shown."""

    roots: list[Path]
    problems: dict[str, str] = field(default_factory=dict)
    complete: bool = False  # whether the last scan opened all that is there
    _opened: int = 0
    _known: dict[Path, tuple[tuple[int, int], DataFile | str | None]] = field(default_factory=dict)

    def scan(self, most: int | None = None) -> list[DataFile]:
        """Return the readable files of known kinds; files that did not change are not opened again.

        ``most``: after so many newly opened files the others are left for later, and ``complete`` is false.
        """
        problems: dict[str, str] = {}
        found: list[DataFile] = []
        seen = set[Path]()
        self._opened, self.complete = 0, True
        for root in self.roots:
            for path in sorted(_parquet_files(root), key=_together):
                if path in seen:
                    continue
                seen.add(path)
                if most is not None and self._opened >= most and path not in self._known:
                    self.complete = False
                elif (file := self._file(path, root, problems)) is not None:
                    found.append(file)
        self.problems = problems
        for gone in self._known.keys() - seen:
            del self._known[gone]
        return found

    def _file(self, path: Path, root: Path, problems: dict[str, str]) -> DataFile | None:
        name = _shown_name(path, root)
        try:
            status = path.stat()
            if not any(path.resolve().is_relative_to(one.resolve()) for one in self.roots):
                problems[name] = "a link that leaves the folder"
                return None
        except OSError as error:
            problems[name] = error.strerror or str(error)
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        state = (status.st_size, status.st_mtime_ns)
        before = self._known.get(path)
        if before is None or before[0] != state:
            self._opened += 1
            self._known[path] = before = (state, _opened(path, name, root, state))
        if isinstance(before[1], str):
            problems[name] = before[1]
            return None
        return before[1]


def _parquet_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, names in walk(root):
        yield from (folder / name for name in names if name.endswith(".parquet") and not name.startswith("."))


def _together(path: Path) -> tuple[Path, str, Path]:
    """Sort the files of one iteration, which are in folders of their own, together."""
    return path.parent.parent, path.name, path


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder below ``root`` with its files' names; hidden folders only where a store needs them.

    The folder of ``root`` alone if it is a file.
    """
    for folder, names, files in os.walk(root if root.is_dir() else root.parent):
        names[:] = sorted(
            name for name in names if name not in _SKIPPED and (not name.startswith(".") or name in _HIDDEN)
        )
        yield Path(folder), files
        if root.is_file():
            return


def _shown_name(path: Path, root: Path) -> str:
    return path.name if path == root else f"{root.resolve().name}/{path.relative_to(root).as_posix()}"


def run_of(path: Path, root: Path) -> str:
    """Return the name of the run that a file belongs to: the folder above data/, .store/, plots/ or params.yaml.

    A file elsewhere belongs to the folder that is browsed.
    """
    whole = root.resolve() if path == root else root.resolve() / path.relative_to(root)
    top = (whole.parent if path == root else root.resolve()).parent
    parts = whole.relative_to(top).parts
    for place, part in enumerate(parts):
        if part in _OWN:
            return "/".join(parts[:place]) or top.name or "/"
    return parts[0]


def _opened(path: Path, name: str, root: Path, state: tuple[int, int]) -> DataFile | str | None:
    """Return the file, why it cannot be shown, or None for a file of another kind."""
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        metadata = parse_json((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        return f"not a whole Parquet file: {' '.join(str(error).split())[:200]}"
    columns = set(schema.names)
    kind = next((kind for kind, marks in _MARKS.items() if marks <= columns), None)
    if kind is None:
        return None
    if missing := sorted(_NEEDED[kind] - columns):
        return f"{kind} of another version: column {missing[0]!r} is missing"
    return DataFile(
        path,
        name,
        run_of(path, root),
        kind,
        state,
        rows,
        tuple(schema.names),
        metadata if isinstance(metadata, dict) else {},
    )


def sources(files: Iterable[DataFile]) -> list[Source]:
    """Return the files of trajectories in the order of training, each with its rewards and advantages.

    A stored iteration that a finished segment holds too appears once.
    """
    files = list(files)
    rewards = _by_metadata(files, "rewards", "rollouts")
    advantages = _by_metadata(files, "advantages", "rewards")
    beside = {(file.kind, file.path): file for file in files}
    rollouts = [file for file in files if file.kind == "rollouts"]
    segments = _segments(rollouts)
    named = {(file.run, file.metadata.get("key")) for file in rollouts if _segment(file) and file.metadata.get("key")}
    found = []
    for file in rollouts:
        key = (file.run, file.metadata.get("key"))
        stored = STORE in file.path.parts
        if stored and key in named:
            continue
        scored = rewards.get(key) or _beside(file, "rewards", beside)
        scored_key = (file.run, scored.metadata.get("key")) if scored else None
        trained = (advantages.get(scored_key) if scored_key else None) or _beside(file, "advantages", beside)
        segment, iteration = segments.get(file.path, (None, None))
        if segment is not None:
            found.append(Source(file, "training", segment, iteration, None, scored, trained))
        elif "watches" in file.path.parts:
            found.append(_validation(file, scored))
        else:
            found.append(Source(file, "rollouts", file.path.stem, None, None, scored, trained))
    found += [_evaluation(file) for file in files if file.kind == "evaluation"]
    order = {"training": 0, "validation": 1, "evaluation": 2, "rollouts": 3}
    return sorted(found, key=lambda one: (one.file.run, order[one.kind], one.iteration or 0, one.policy, one.file.name))


def _validation(file: DataFile, rewards: DataFile | None) -> Source:
    """Return a validation; its rewards name the segment and the iteration that it followed, 0: the start."""
    place = rewards.metadata if rewards else {}
    segment, iteration = place.get("segment"), place.get("iteration")
    if not isinstance(segment, str) or not isinstance(iteration, int):
        segment, iteration = "validation", None
    return Source(file, "validation", segment, iteration, None, rewards)


def _evaluation(file: DataFile) -> Source:
    card = file.metadata.get("card")
    card = card if isinstance(card, dict) else {}
    policy, benchmark = card.get("policy"), card.get("benchmark")
    return Source(
        file,
        "evaluation",
        policy if isinstance(policy, str) else file.path.parent.name,
        None,
        benchmark if isinstance(benchmark, str) else file.path.stem,
    )


def _by_metadata(files: Iterable[DataFile], kind: FileKind, of: str) -> dict[tuple[str, Any], DataFile]:
    """Return files of a kind by run and by the key of what they were made from: of several the newest.

    Two segments reward the validation between them: the one that it ended comes first.
    """
    found = [file for file in files if file.kind == kind and isinstance(file.metadata.get(of), str)]
    found.sort(key=lambda file: (str(file.metadata.get("segment") or ""), -file.state[1]), reverse=True)
    return {(file.run, file.metadata[of]): file for file in found}


def _beside(file: DataFile, kind: FileKind, files: Mapping[tuple[FileKind, Path], DataFile]) -> DataFile | None:
    folder = file.path.parent
    names = (folder.parent / kind / file.path.name, folder / f"{kind}.parquet")
    return next((files[kind, path] for path in names if (kind, path) in files), None)


def _segment(file: DataFile) -> str | None:
    """Return NAME of train/NAME/rollouts/0000.parquet."""
    folder = file.path.parent
    return folder.parent.name if folder.name == "rollouts" and file.path.stem.isdecimal() else None


def _segments(rollouts: Iterable[DataFile]) -> dict[Path, tuple[str, int]]:
    """Return each training file's segment and iteration; segments of a run follow each other by name.

    Iterations that only the store has belong to a segment that still trains: it is named by its start.
    """
    of_runs: dict[str, dict[str, dict[Path, int]]] = {}
    names: dict[tuple[str, Any], str] = {}
    waiting = []
    for file in rollouts:
        segments = of_runs.setdefault(file.run, {})
        start, number = file.metadata.get("start"), file.metadata.get("iteration")
        if (segment := _segment(file)) is not None:
            segments.setdefault(segment, {})[file.path] = int(file.path.stem)
            names[file.run, start] = segment
        elif STORE in file.path.parts and isinstance(start, str) and isinstance(number, int):
            waiting.append((file, start, number))
    for file, start, number in waiting:
        segment = names.get((file.run, start)) or f"~{start[:8]}"  # behind the finished ones
        of_runs[file.run].setdefault(segment, {})[file.path] = number
    found = {}
    for segments in of_runs.values():
        offset = 0
        for segment in sorted(segments):
            numbers = segments[segment]
            for path, number in numbers.items():
                found[path] = (segment.replace("~", "training "), offset + number + 1)
            offset += max(numbers.values()) + 1
    return found


def check_something(folders: Folders) -> None:
    """Raise ``PipelineError`` if there is nothing to browse: no trajectory, and no curve of a run that has begun."""
    for most in (16, None):
        if any(file.kind in ("rollouts", "evaluation") for file in folders.scan(most)):
            return
    if any(folder.parent.name == "plots" and names for root in folders.roots for folder, names in walk(root)):
        return
    damaged = "".join(f"; {name}: {says}" for name, says in list(folders.problems.items())[:1])
    raise PipelineError(
        f"no rollouts, evaluations or curves here (looked for *.parquet and plots/*/*.csv){damaged}",
        where=", ".join(str(root) for root in folders.roots),
        fix="give the folder of a run, e.g. r1-searcher browse path/to/checkout, or a file that `ask --trace` wrote",
    )
