"""List the stages in order, with their dependencies; the stages of one `foreach` or matrix share a line.

    python -m flows.dag      or: make dag

`dvc dag` draws the same in hundreds of columns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from r1_searcher.errors import PipelineError, command
from r1_searcher.shown import show

_WIDTH = 120


def read_graph(folder: Path, environment: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the stages of the project in ``folder``, each with those that it needs."""
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        last = (listed.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"dvc dag failed: {last}", where=str(folder))
    return graph(listed.stdout)


def graph(dot: str) -> dict[str, set[str]]:
    """Return the nodes of a DOT graph, each with those that point to it. Lines are ``"a";`` and ``"a" -> "b";``."""
    needs: dict[str, set[str]] = {}
    for line in dot.splitlines():
        names = line.split('"')[1::2]
        for name in names:
            needs.setdefault(name, set())
        if "->" in line:
            needs[names[1]].add(names[0])
    return needs


def order(needs: Mapping[str, set[str]], targets: Collection[str] = ()) -> list[str]:
    """Return what ``targets`` (none: all) need, topologically sorted, ties by name."""
    left = dict(_needed(needs, targets) if targets else needs)
    found: list[str] = []
    while left:
        ready = sorted(name for name, before in left.items() if not before & left.keys())
        if not ready:
            raise PipelineError(f"stages need each other: {', '.join(sorted(left))}", where="dvc.yaml")
        found += ready
        left = {name: before for name, before in left.items() if name not in ready}
    return found


def _needed(needs: Mapping[str, set[str]], targets: Collection[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    todo = list(targets)
    while todo:
        name = todo.pop()
        if name not in needs:
            raise PipelineError(f"no stage {name!r}", where="dvc.yaml", fix=f"known: {', '.join(sorted(needs))}")
        if name not in found:
            found[name] = needs[name]
            todo += needs[name]
    return found


def lines(needs: Mapping[str, set[str]], width: int = _WIDTH) -> list[str]:
    """Return one line per stage in order, ``train (2)  after audit, index`` for two of a `foreach`; long lines wrap
    indented."""
    several = Counter(_family(name) for name in needs)
    before: dict[str, set[str]] = {}
    for name in order(needs):
        family = _family(name)
        before.setdefault(family, set()).update({_family(other) for other in needs[name]} - {family})
    found = []
    for name in order(before):
        count = f" ({several[name]})" if several[name] > 1 else ""
        after = f"  after {', '.join(sorted(before[name]))}" if before[name] else ""
        found += textwrap.wrap(
            f"{name}{count}{after}", width, subsequent_indent="    ", break_long_words=True, break_on_hyphens=False
        )
    return found


def _family(name: str) -> str:
    return name.partition("@")[0]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.dag", description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    for line in lines(read_graph(Path.cwd(), os.environ)):
        show(line)


if __name__ == "__main__":
    raise SystemExit(main())
