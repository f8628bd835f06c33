"""Repair DVC's own files after a kill, before DVC runs; and set where DVC keeps its state.

    python -m flows.dvc_files      repair this checkout's files, and keep a copy of its dvc.lock

DVC writes dvc.lock in place. A run that is killed at that moment leaves it empty or cut, and DVC then refuses every
command. `make` and the workspaces call this before and after DVC; if you call DVC by hand, run the line above once.
Stages that the restored lock does not know are in DVC's run cache, so no finished stage runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from r1_searcher.errors import PipelineError, command
from r1_searcher.files.artefacts import atomic, write_text
from r1_searcher.texts import parse_json

LOCK = "dvc.lock"
TEMPORARY = Path(".dvc") / "tmp"
KEPT = TEMPORARY / "dvc.lock.kept"
DAMAGED_LOCK = TEMPORARY / "dvc.lock.damaged"
STATE = TEMPORARY / "site"  # DVC's site cache contains pickles, so nobody else may write there


def mend(root: Path, say: Callable[[str], None] = print) -> None:
    """Restore a damaged ``dvc.lock`` of the project in ``root``, and release what killed runs of DVC hold.

    Prints a line when it restores. Waits while DVC itself works there, because the file may be half written.
    """
    _release(root)
    place = root / LOCK
    if _damage(place) is None:
        return
    with _dvc_lock(root):
        why = _damage(place)
        if why is None:
            return
        text, source = _last_good(root)
        (root / TEMPORARY).mkdir(parents=True, exist_ok=True)
        os.replace(place, root / DAMAGED_LOCK)
        if text is None:
            say(f"{LOCK} was damaged ({why}) and is made again; finished stages come back from DVC's run cache")
            return
        write_text(place, only_cached(text, cache_folder(root), root))
    say(f"{LOCK} was damaged ({why}) and is restored from {source}; later stages come back from DVC's run cache")


def keep(root: Path) -> None:
    """Keep a copy of an intact ``dvc.lock`` for ``mend``. Does nothing without one, or while DVC works."""
    place, kept = root / LOCK, root / KEPT
    with contextlib.suppress(BlockingIOError), _dvc_lock(root, wait=False):
        if place.is_file() and _damage(place) is None:
            text = place.read_text(encoding="utf-8")
            if not kept.is_file() or kept.read_text(encoding="utf-8") != text:
                write_text(kept, text)


def only_cached(text: str, cache: Path, root: Path | None = None) -> str:
    """Remove the stages from a lock that have an output neither in the ``cache`` nor in its place below ``root``.

    DVC considers such a stage unchanged, finds nothing to check out, and runs it without consulting the run cache,
    which may have it: another processor makes other bytes from the same inputs.
    """
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    lock = parse_yaml(text, LOCK)
    stages: Mapping[str, Any] = lock.get("stages") or {}
    kept = {
        name: stage for name, stage in stages.items() if all(_is_there(o, cache, root) for o in stage.get("outs", []))
    }
    return text if kept == stages else dumps_yaml({**lock, "stages": kept})


def add_files(text: str, cache: Path, root: Path) -> None:
    """Add single-file outputs of a lock to the ``cache`` if they are missing there but intact in ``root``.

    These are metrics, which come with git and are on no remote. DVC caches them with the run that made them; a fresh
    clone has no such cache, and if one output of a stage is missing, DVC runs the whole stage again.
    """
    from dvc.utils.serialize import parse_yaml

    for stage in (parse_yaml(text, LOCK).get("stages") or {}).values():
        for out in stage.get("outs", []):
            place, object_ = root / out["path"], _object(cache, out)
            if not object_.exists() and place.is_file() and _is_there(out, cache, root):
                with atomic(object_) as draft:
                    shutil.copyfile(place, draft)
                    draft.chmod(0o444)  # as DVC does


def _object(cache: Path, out: Mapping[str, Any]) -> Path:
    md5 = str(out.get("md5", ""))
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _is_there(out: Mapping[str, Any], cache: Path, root: Path | None) -> bool:
    md5 = str(out.get("md5", ""))
    if _object(cache, out).is_file():
        return True
    place = root / out["path"] if root else None
    if place is None or not place.exists():
        return False
    return place.is_dir() or hashlib.md5(place.read_bytes(), usedforsecurity=False).hexdigest() == md5


def _damage(place: Path) -> str | None:
    """Return what is wrong with a ``dvc.lock``; None if it is intact or absent."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml
    from voluptuous import Invalid

    if not place.exists():
        return None
    try:
        text = place.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return "not text"
    if not text.endswith("\n"):
        return "cut off" if text.strip() else "empty"
    why = None
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, place))
    except DvcException:
        why = "not YAML"
    except (Invalid, TypeError, AttributeError):
        why = "not what DVC writes"
    return why


def _last_good(root: Path) -> tuple[str | None, str]:
    """Return the text of the newest intact lock available, and its origin."""
    if (root / KEPT).is_file() and _damage(root / KEPT) is None:
        return (root / KEPT).read_text(encoding="utf-8"), "the copy of the last run"
    shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], cwd=root, capture_output=True, check=False)
    if shown.returncode == 0 and shown.stdout.strip():
        return shown.stdout.decode(), "git"
    return None, ""


@contextlib.contextmanager
def _dvc_lock(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock that DVC holds while it accesses its files; ``BlockingIOError`` instead of waiting if ``wait`` is
    false."""
    with _held(root / TEMPORARY / "lock", wait=wait):
        yield


@contextlib.contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _release(root: Path) -> None:
    """Remove DVC's list of readers and writers if it is half written or none of them is running.

    DVC stops at a broken list, and prints a line per stale entry. A process number that now belongs to another program
    (after a restart of the machine or container) would block it forever.
    """
    place = root / TEMPORARY / "rwlock"
    if not place.exists():
        return
    with _held(place.with_name("rwlock.lock")):
        try:
            held = parse_json(place.read_text(encoding="utf-8"))
            writers = list(held.get("write", {}).values())
            readers = [one for several in held.get("read", {}).values() for one in several]
            running = any(_is_dvc(int(one["pid"])) for one in [*writers, *readers])
        except FileNotFoundError:
            return
        except (ValueError, TypeError, AttributeError, KeyError):
            running = False
        if not running:
            place.unlink()


def _is_dvc(process: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(process).cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    except psutil.AccessDenied:
        return True


def settings(root: Path, *, state: Path, cache: Path | None = None) -> None:
    """Write DVC's settings for this place only (``.dvc/config.local``), keeping those of the user.

    ``state``: the folder of DVC's site cache. By default all users of the machine share one and may write to it; here
    only its owner may. ``cache``: another project's cache to share.
    """
    from configobj import ConfigObj, ConfigObjError

    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    place = root / ".dvc" / "config.local"
    try:
        found = ConfigObj(str(place), encoding="utf-8", interpolation=False)
    except ConfigObjError as error:
        raise PipelineError(f"not DVC's settings: {error}", where=str(place), fix="fix or remove it") from None
    wanted = {"core": {"site_cache_dir": str(state.resolve())}}
    if cache is not None:
        wanted["cache"] = {"dir": str(cache.resolve())}
    if all(found.get(section, {}).get(key) == value for section, one in wanted.items() for key, value in one.items()):
        return
    found.merge(wanted)
    with atomic(place) as draft, open(draft, "wb") as file:
        found.write(file)


def cache_folder(root: Path) -> Path:
    """Return DVC's cache of the project in ``root``."""
    return Path(_setting(root, "cache", "dir") or root / ".dvc" / "cache")


def _setting(root: Path, section: str, key: str) -> str | None:
    """Return a setting of the project in ``root``; paths are absolute or relative to ``.dvc``."""
    from configobj import ConfigObj

    for name in ("config.local", "config"):
        value = ConfigObj(str(root / ".dvc" / name), encoding="utf-8", interpolation=False).get(section, {}).get(key)
        if value is not None:
            return str(root / ".dvc" / value) if key == "dir" else str(value)
    return None


def check_git(root: Path) -> None:
    """Raise ``PipelineError`` unless the project is under git, which DVC is set up for; the error says what makes a
    plain copy work."""
    inside = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=root, capture_output=True, check=False)
    if inside.returncode != 0 and (_setting(root, "core", "no_scm") or "").lower() != "true":
        raise PipelineError(
            "is not under git",
            where=str(root),
            fix="clone the project; or, for `make train` alone, without profiles and seeds: "
            "dvc config --local core.no_scm true",
        )


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.dvc_files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file():
        raise PipelineError("no such file", where="dvc.yaml", fix="run from the project's root folder")
    check_git(root)
    settings(root, state=root / STATE)
    mend(root)
    keep(root)


if __name__ == "__main__":
    raise SystemExit(main())
