"""Profiles: overlays of ``params.yaml`` in ``profiles/``, composed into one file by one command.

    python -m stages.contract.profiles smoke                        write the composed params.yaml
    python -m stages.contract.profiles smoke --workspace DIR        run it elsewhere: this checkout stays as it is
    python -m stages.contract.profiles laptop --seed 1 --set train.stage2.learning_rate=2e-4 --workspace DIR

A workspace is a git worktree of this checkout with the composed parameters. It shares the checkout's DVC
cache and its store of iteration artefacts, so that a profile which was run before comes back from the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.contract import dvc_files
from stages.contract import params as contract
from stages.contract.artefacts import write_text
from stages.contract.brought import bring_changes, git, listed
from stages.contract.errors import PipelineError, command
from stages.contract.names import checked_profile
from stages.contract.options import whole_number
from stages.contract.shown import show
from stages.contract.store import ROOT_VARIABLE, STORE
from stages.contract.texts import parse_yaml

FOLDER = Path("profiles")
# Maps that an overlay names anew as a whole.
REPLACED = ("train.segments", "evaluate.policies", "benchmarks.sets", "difficulty.label", "difficulty.mixes")
MADE = ("dvc.lock", "metrics", "plots", "report")  # what stages write, and git has of the checkout
FREE = ("questions.files", "evaluate.prompts")  # maps whose keys are the user's own


def compose(base: Mapping[str, Any], overlay: Mapping[str, Any], *, where: str = "overlay") -> dict[str, Any]:
    """``base`` with the values of ``overlay``: a deep merge in which lists and ``REPLACED`` maps are replaced.

    A key that ``base`` lacks, or a section where a value stood, is a ``PipelineError``.
    """
    return _merge(base, overlay, where, ())


def _merge(base: Mapping[str, Any], overlay: Mapping[str, Any], where: str, above: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overlay.items():
        path = (*above, str(key))
        name = ".".join(path)
        if key not in base and ".".join(above) not in FREE:
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
    """``a.b=1`` as an overlay: ``{"a": {"b": 1}}``; the value is YAML."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise PipelineError(f"not an assignment: {text!r}", where="--set", fix="write key.of.params=value")
    found: Any = _number(parse_yaml(value, where=f"--set {path}"))
    for key in reversed(keys):
        found = {key: found}
    return dict(found)


def _number(value: Any) -> Any:
    """YAML 1.1 reads 2e-4 as text; a person means a number."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def overlays(
    name: str, *, seed: int | None = None, changes: Sequence[str] = (), root: Path = Path()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A profile's overlay, then the seed's, then the changes', each with where it comes from."""
    path = root / FOLDER / f"{checked_profile(name)}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in (root / FOLDER).glob("*.yaml")))
        raise PipelineError(f"no profile {name!r}", where=str(root / FOLDER), fix=f"known: {known}") from None
    overlay = parse_yaml(text, where=str(path))
    if not isinstance(overlay, dict):
        raise PipelineError("holds no parameters", where=str(path))
    yield str(path), overlay
    if seed is not None:
        yield "--seed", {"seed": seed}
    for change in changes:
        yield f"--set {change}", assignment(change)


def composed(base_text: str, parts: Sequence[tuple[str, Mapping[str, Any]]], *, where: str = "params.yaml") -> str:
    """Text of the base parameters with overlays laid over it: checked, its comments kept."""
    from ruamel.yaml import YAML  # DVC brings it

    plain = contract.parse(base_text, where=where).model_dump(mode="json")  # every key, defaults too
    for place, overlay in parts:
        plain = compose(plain, overlay, where=place)
    contract.check(plain, where=" + ".join([where, *(place for place, _ in parts)]))
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    editor.indent(mapping=2, sequence=4, offset=2)
    document = editor.load(base_text)
    for _, overlay in parts:
        _lay(document, overlay, ())
    out = io.StringIO()
    editor.dump(document, out)
    contract.parse(out.getvalue(), where=where)
    return out.getvalue()


def _lay(document: Any, overlay: Mapping[str, Any], above: tuple[str, ...]) -> None:
    """``compose`` on a document with comments, in place."""
    for key, value in overlay.items():
        path = (*above, str(key))
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping) and ".".join(path) not in REPLACED:
            _lay(document[key], value, path)
        else:
            document[key] = dict(value) if isinstance(value, Mapping) else value


def base_text(root: Path = Path()) -> str:
    """The base parameters: ``params.yaml`` as it stands, own changes too, or as it is committed where it
    now holds another profile: so that composing twice is composing once."""
    try:
        here = (root / contract.PARAMS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError("no such file", where="params.yaml", fix="run from the project's root folder") from None
    shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], cwd=root, capture_output=True, text=True, check=False)
    if shown.returncode == 0 and contract.parse(shown.stdout).profile != contract.parse(here).profile:
        return shown.stdout
    return here


@contextlib.contextmanager
def workspace_lock(folder: Path, say: Callable[[str], None] = print) -> Iterator[int]:
    """Be alone in a workspace: two runs would change its files under each other. Waits, and says so.

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
    """Make or refresh a workspace of the checkout ``root``: its files as they are now, uncommitted changes too.

    What was made in the workspace stays, so that a run that was stopped goes on.
    """
    if not _is_prepared(folder, root):
        if folder.exists() and any(folder.iterdir()):
            raise PipelineError("is not empty and no workspace of this project", where=str(folder), fix="remove it")
        git(root, "worktree", "prune")
        # Forced twice: a making that was killed leaves its entry locked.
        git(root, "worktree", "add", "--detach", "--force", "--force", str(folder.resolve()))
        for name in listed(folder, "ls-files", "-z", "metrics"):
            (folder / name).unlink()  # the checkout's
        _bring_lock(root, folder)
    else:
        (folder / git(folder, "rev-parse", "--git-path", "index.lock")).unlink(missing_ok=True)  # a killed git's
        dvc_files.mend(folder)
        made = {path: path.read_bytes() for path in _made(folder)}
        git(folder, "checkout", "--detach", "--force", "--quiet", git(root, "rev-parse", "HEAD"))
        for path in _made(folder) - made.keys():
            path.unlink()
        for path, content in made.items():
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    bring_changes(root, folder, but=MADE)
    write_text(folder / "params.yaml", params_text)
    dvc_files.settings(folder, state=root / dvc_files.STATE, cache=root / ".dvc" / "cache")  # last: now it is prepared


def _is_prepared(folder: Path, root: Path) -> bool:
    """Whether ``folder`` is a workspace. One whose making was killed is removed: nothing was made in it yet."""
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


def _bring_lock(root: Path, folder: Path) -> None:
    """The checkout's ``dvc.lock`` as it is now, as far as its outputs are in the cache that the two share: what was
    made there before is not made again."""
    dvc_files.mend(root)
    lock = root / dvc_files.LOCK
    if lock.is_file():
        text, cache = lock.read_text(encoding="utf-8"), dvc_files.cache_folder(root)
        dvc_files.add_files(text, cache, root)
        write_text(folder / dvc_files.LOCK, dvc_files.only_cached(text, cache))
    else:
        (folder / dvc_files.LOCK).unlink(missing_ok=True)


def _made(folder: Path) -> set[Path]:
    """What the stages wrote where git looks, too: a workspace's are its own."""
    places = [
        path for name in MADE for path in ((folder / name).rglob("*") if (folder / name).is_dir() else [folder / name])
    ]
    return {path for path in places if path.is_file()}


def workspace_environment(root: Path) -> dict[str, str]:
    """Environment of commands in a workspace: the checkout's store, Prefect home and Python."""
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
    """`dvc repro` in a workspace, of ``stages`` and what they need (none: of all); ``PipelineError`` where it
    fails (its own lines are on the terminal)."""
    dvc_files.mend(folder)
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *stages],
        cwd=folder,
        env=workspace_environment(root),
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert run.stdout is not None
    with run:
        try:
            _show(run.stdout)
        except KeyboardInterrupt:  # DVC has it too, and ends its stage
            _show(run.stdout)
            raise
    dvc_files.keep(folder)
    if run.returncode != 0:
        raise PipelineError("the pipeline failed", where=str(folder), fix="see the lines above")


def _show(lines: Iterable[str]) -> None:
    for line in without_advice(lines):
        show(line.rstrip("\n").expandtabs())


ADVICE = (  # of DVC after each stage; in a workspace nothing is committed
    "To track the changes with git, run:",
    "\tgit add ",
    "To enable auto staging, run:",
    "\tdvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
)


def without_advice(lines: Iterable[str]) -> Iterator[str]:
    """Lines of `dvc repro` less its advice on git and remotes, and the empty lines about that."""
    after = False
    for line in lines:
        if line.startswith(ADVICE):
            after = True
        elif line.strip() or not after:
            after = False
            yield line


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.contract.profiles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a profile of profiles/, e.g. laptop or smoke")
    parser.add_argument("--seed", type=whole_number("--seed"), help="another seed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a parameter")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="run it there, and leave this checkout alone")
    parser.add_argument(
        "--stage", action="append", default=[], metavar="NAME", help="run this stage and what it needs, and no other"
    )
    options = parser.parse_args(arguments)
    root = Path.cwd()
    parts = list(overlays(options.name, seed=options.seed, changes=options.set, root=root))
    text = composed(base_text(root), parts)
    if options.workspace is None:
        write_text(root / "params.yaml", text)
        repro = " ".join(["dvc repro", *options.stage])
        show(f"params.yaml: profile {options.name}; now: {repro} (back to the base: git restore params.yaml)")
    else:
        with workspace_lock(options.workspace):
            prepare_workspace(options.workspace, text, root)
            run_workspace(options.workspace, root, options.stage)


if __name__ == "__main__":
    raise SystemExit(main())
