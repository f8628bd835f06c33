"""Kill the smoke pipeline at random moments, rerun the same command, and compare its final outputs.

    python benchmarks/kills.py --kills 200 --folder .workspaces/kills

A round is a clone of this commit without outputs, in which the command is started and killed (with its process group)
until it completes. Rounds go on until there were the requested number of kills. Every file of a round is compared with
that of a first round without kills.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from r1_searcher.files.store import Store

WORKSPACE = Path(".workspaces/smoke")
COMMAND = ["-m", "flows.profiles", "smoke", "--workspace", str(WORKSPACE)]
OUTPUTS = ("data", "metrics", "plots", "report")
TERM_SHARE = 0.15  # share of the kills that are SIGTERM
PATIENCE = 5  # kills without anything new in the store, after which the next ones come later


@dataclass
class Round:
    """The outcome of one round."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)  # seconds before each kill
    wrong: list[str] = field(default_factory=list)
    drafts: int = 0


def environment(clone: Path) -> dict[str, str]:
    """Return the environment of `make`: nothing is written outside the clone, no telemetry."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("R1SEARCHER_", "PREFECT_"))},
        "PATH": path,
        "PREFECT_HOME": str(clone / ".prefect"),
        "DVC_SITE_CACHE_DIR": str(clone / ".dvc/tmp/site"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "true",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def fresh(clone: Path) -> None:
    """Clone this checkout's commit, with Prefect's database and nothing else."""
    shutil.rmtree(clone, ignore_errors=True)
    root = Path(__file__).resolve().parents[1]
    subprocess.run(["git", "clone", "--quiet", "--shared", str(root), str(clone)], check=True)
    prepare = [sys.executable, "-m", "flows.server", "prepare"]
    subprocess.run(prepare, cwd=clone, env=environment(clone), check=True, capture_output=True)


def made(clone: Path) -> dict[str, str]:
    """Return the sha256 of every file that the pipeline leaves in the workspace."""
    place = clone / WORKSPACE
    files = (path for name in OUTPUTS for path in (place / name).rglob("*") if path.is_file())
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in (".gitignore", ".gitkeep")
    }


def start(clone: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the command as the leader of its own process group."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, *COMMAND],
            cwd=clone,
            env=environment(clone),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes], way: signal.Signals) -> None:
    """End the group; SIGKILL whatever is alive 30 s after SIGTERM."""
    os.killpg(process.pid, way)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if way != signal.SIGKILL:
        time.sleep(1)  # then its children
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def entries(clone: Path) -> int:
    """Return the number of stored or produced files, to detect progress."""
    return len(Store(clone / ".store").entries()) + sum(1 for _ in (clone / WORKSPACE / "data").rglob("*"))


def play(clone: Path, draw: random.Random, longest: float, most: int) -> Round:
    """Run one round of at most ``most`` kills, each at most ``longest`` seconds after a start."""
    fresh(clone)
    found, log = Round(), clone / "run.log"
    before, stuck = 0, 0
    while True:
        process = start(clone, log)
        wait = draw.uniform(0.5, longest) * 1.5 ** max(0, stuck - PATIENCE)
        try:
            status: int | None = process.wait(None if found.kills.total() >= most else wait)
        except subprocess.TimeoutExpired:
            status = None
        if status is not None:
            break
        way = signal.SIGTERM if draw.random() < TERM_SHARE else signal.SIGKILL
        kill(process, way)
        found.kills[way.name] += 1
        found.moments.append(wait)
        now = entries(clone)
        stuck, before = (0 if now > before else stuck + 1), max(before, now)
    if status:
        last = log.read_text(errors="replace").splitlines()[-8:]
        found.wrong.append(f"ended with status {status}: " + " | ".join(last))
    found.drafts = len(Store(clone / ".store").drafts()) + len(list((clone / WORKSPACE).rglob(".*.draft")))
    return found


def main() -> int:
    """Run the command line; status 1 if a round ended differently from the undisturbed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True, help="where the clones are made, one after another")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds after a start (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--undisturbed", type=Path, help="that of an earlier call, of the same commit (default: made now)"
    )
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(options.seed)

    began = time.monotonic()
    whole = options.undisturbed or folder / "undisturbed"
    if options.undisturbed is None:
        fresh(whole)
        if status := start(whole, folder / "undisturbed.log").wait():
            print(f"the undisturbed run ended with status {status}: {folder / 'undisturbed.log'}")
            return 2
    wanted = made(whole)
    print(f"undisturbed: {len(wanted)} files, {time.monotonic() - began:.0f} s", flush=True)

    kills: Counter[str] = Counter()
    number, bad, left = 0, 0, 0
    while kills.total() < options.kills:
        number += 1
        clone = folder / f"round-{number}"
        found = play(clone, draw, options.longest, options.kills - kills.total())
        kills += found.kills
        left += found.drafts
        here = made(clone)
        differ = sorted(name for name in wanted.keys() | here.keys() if wanted.get(name) != here.get(name))
        found.wrong += [f"other bytes: {', '.join(differ[:5])} ({len(differ)} of {len(wanted)})"] if differ else []
        bad += bool(found.wrong)
        said = "; ".join(found.wrong) or "the bytes of the undisturbed run"
        print(f"round {number}: {dict(found.kills)}, {found.drafts} drafts left: {said}", flush=True)
        if not found.wrong:
            shutil.rmtree(clone)
    print(f"{dict(kills)} in {number} rounds, {time.monotonic() - began:.0f} s: {bad} rounds wrong, {left} drafts left")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
