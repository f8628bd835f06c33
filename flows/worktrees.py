"""Run a profile in a git worktree of its own: the checkout stays unchanged.

A workspace is a git worktree of this checkout with the composed parameters. It shares the checkout's DVC cache and its
store of iteration artefacts, so that a profile that was run before comes from the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flows import dvc_files
from flows.checkout_changes import copy_changes
from flows.follow import run_repro
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_text
from r1_searcher.files.git import git, listed
from r1_searcher.files.store import ROOT_VARIABLE, STORE

MADE = ("dvc.lock", "metrics", "plots", "report")  # outputs of stages that git also tracks in the checkout


@contextlib.contextmanager
def workspace_lock(folder: Path, say: Callable[[str], None] = print) -> Iterator[int]:
    """Lock a workspace: two runs would change each other's files. Waits, and says so.

    Yields the descriptor that holds the lock; a child that inherits it keeps the workspace until it ends too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{folder.name}.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run in {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def prepare_workspace(folder: Path, params_text: str, root: Path) -> None:
    """Create or refresh a workspace of the checkout ``root`` with its present files, including uncommitted changes.

    The workspace's outputs stay, so that a stopped run continues. Raises ``PipelineError``.
    """
    if not _is_prepared(folder, root):
        if folder.exists() and any(folder.iterdir()):
            raise PipelineError(
                "is not empty, and not a workspace of this project", where=str(folder), fix="name another folder"
            )
        git(root, "worktree", "prune")
        # Forced twice: if creating it was killed, its entry is still locked.
        git(root, "worktree", "add", "--detach", "--force", "--force", str(folder.resolve()))
        for name in listed(folder, "ls-files", "-z", "metrics"):
            (folder / name).unlink()  # the checkout's commit
        _copy_lock(root, folder)
    else:
        (folder / git(folder, "rev-parse", "--git-path", "index.lock")).unlink(missing_ok=True)  # of a killed git
        dvc_files.mend(folder)
        made = {path: path.read_bytes() for path in _tracked_outputs(folder)}
        git(folder, "checkout", "--detach", "--force", "--quiet", git(root, "rev-parse", "HEAD"))
        for path in _tracked_outputs(folder) - made.keys():
            path.unlink()
        for path, content in made.items():
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    copy_changes(root, folder, but=MADE)
    write_text(folder / "params.yaml", params_text)
    # last, because it marks the workspace as prepared
    dvc_files.settings(folder, state=root / dvc_files.STATE, cache=root / ".dvc" / "cache")


def _is_prepared(folder: Path, root: Path) -> bool:
    """Return whether ``folder`` is a workspace. A half-created one is removed: it has no outputs yet."""
    pointer = folder / ".git"
    if not pointer.exists():
        return False
    if (folder / ".dvc" / "config.local").is_file():
        return True
    entry = Path(pointer.read_text(encoding="utf-8").removeprefix("gitdir:").strip()) if pointer.is_file() else None
    ours = Path(git(root, "rev-parse", "--git-common-dir"))
    if entry is None or entry.parent.resolve() != (root / ours / "worktrees").resolve():
        raise PipelineError("is another repository", where=str(folder), fix="name another folder")
    shutil.rmtree(folder)
    return False


def _copy_lock(root: Path, folder: Path) -> None:
    """Copy the checkout's present ``dvc.lock``, as far as its outputs are in the shared cache, so that they are not
    made again."""
    dvc_files.mend(root)
    lock = root / dvc_files.LOCK
    if lock.is_file():
        text, cache = lock.read_text(encoding="utf-8"), dvc_files.cache_folder(root)
        dvc_files.add_files(text, cache, root)
        write_text(folder / dvc_files.LOCK, dvc_files.only_cached(text, cache))
    else:
        (folder / dvc_files.LOCK).unlink(missing_ok=True)


def _tracked_outputs(folder: Path) -> set[Path]:
    """Return the outputs that git also tracks: a workspace has its own."""
    places = [
        path for name in MADE for path in ((folder / name).rglob("*") if (folder / name).is_dir() else [folder / name])
    ]
    return {path for path in places if path.is_file()}


def workspace_environment(root: Path) -> dict[str, str]:
    """Return the environment of commands in a workspace: the checkout's store, Prefect home and Python."""
    home = os.environ.get("PREFECT_HOME") or str((root / ".prefect").resolve())
    store = os.environ.get(ROOT_VARIABLE) or str((root / STORE).resolve())
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "PREFECT_HOME": home,
        ROOT_VARIABLE: store,
        "PATH": path,
        "PYTHONPATH": "",
        "PYTHONUNBUFFERED": "1",
    }


def run_workspace(folder: Path, root: Path, stages: Sequence[str] = ()) -> None:
    """Run `dvc repro` in a workspace for ``stages`` and what they need (none: all). Raises ``PipelineError`` if it
    fails, after its own lines."""
    dvc_files.mend(folder)
    status = run_repro(folder, workspace_environment(root), stages)
    dvc_files.keep(folder)
    if status != 0:
        raise PipelineError("the pipeline failed", where=str(folder), fix="see the lines above")
