"""Show what a change makes stale in a finished workspace: apply each change, ask `dvc status`, undo it.

    make smoke
    python benchmarks/extending.py --workspace .workspaces/smoke

Rows give what was added or changed, in which files, and which stages DVC would rerun. Inside: a file in the folder of
its extension point. Outside: the user's file, listed under `extensions` in params.yaml.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from flows import stage_code
from flows.worktrees import workspace_lock
from r1_searcher.errors import command
from r1_searcher.extensions import Point
from r1_searcher.params.profiles import compose
from r1_searcher.points import ESTIMATORS, PROMPTS, RETRIEVERS, REWARD_SETS, TOOLS
from r1_searcher.shown import show, show_lines

BODIES = {
    REWARD_SETS: "def mine(case):\n    return {'words': -0.01 * len(case.policy_text.split())}\n",
    ESTIMATORS: "def mine(samples):\n    returns = samples.returns(samples.rewards)\n    return returns, returns\n",
    RETRIEVERS: "class Mine(RetrieverKind):\n"
    "    def identify(self):\n        return Identity('v1', 'v1', 'finds nothing')\n"
    "    def open(self, corpus, take):\n        return self\n"
    "    def search(self, queries, k):\n        return [[] for _ in queries]\n",
    TOOLS: "class Mine(Tool):\n    begin, end = '<|begin_of_sum|>', '<|end_of_sum|>'\n"
    "    budget = Budget(calls=1, passages=1, passage_tokens=8)\n"
    "    def __init__(self, context, parameters):\n        pass\n"
    "    def answer(self, calls):\n        return [[] for _ in calls]\n",
    PROMPTS: "def mine():\n    return 'Q: {question} <think>'\n",
}
IMPORTS = {
    RETRIEVERS: "from r1_searcher.types.retriever_kind import Identity, RetrieverKind\n",
    TOOLS: "from r1_searcher.tools.protocol import Budget, Tool\n",
}
CHOSEN: dict[Point, dict[str, Any]] = {
    REWARD_SETS: {"reward": {"set": "mine"}},
    ESTIMATORS: {"update": {"estimator": "mine"}},
    RETRIEVERS: {"retriever": {"kind": "mine"}},
    TOOLS: {"rollout": {"tools": ["search", "mine"]}},
    PROMPTS: {"rollout": {"prompt": "mine"}},
}

COMMENTED = (
    "r1_searcher/retrieval/kinds/online.py",
    "r1_searcher/retrieval/service/server.py",
    "r1_searcher/statistics/verdict.py",
    "r1_searcher/report/charts.py",
    "r1_searcher/update/losses.py",
    "r1_searcher/corpus/seen_ids.py",
)
PARAMETERS: dict[str, dict[str, Any]] = {
    "report": {"title": "another"},
    "update": {"clip": 0.25},
    "train": {"stage2": {"samples_a_question": 4}},
    "evaluate": {"questions": 19},
}


@dataclass(frozen=True)
class Step:
    """A change of a workspace: new files, comments in old ones, parameters."""

    name: str
    how: str
    files: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""  # a file that gets a comment
    params: Mapping[str, Any] = field(default_factory=dict)

    def touched(self) -> list[str]:
        """Return the files to write."""
        return [*self.files, *filter(None, [self.comment]), *(["params.yaml"] if self.params else [])]


def inside(point: Point) -> dict[str, str]:
    """Return a part's file in the folder of its extension point."""
    return {f"{point.package.replace('.', '/')}/mine.py": text_of(point)}


def outside(point: Point) -> dict[str, str]:
    """Return the same as a user's file."""
    return {f"my_{point.decorator}.py": text_of(point)}


def text_of(point: Point) -> str:
    """Return a part named ``mine``."""
    imports = f"from r1_searcher.extend import {point.decorator}\n{IMPORTS.get(point, '')}"
    return f"{imports}\n\n@{point.decorator}('mine')\n{BODIES[point]}"


def steps(short: bool) -> Iterator[Step]:
    """Return the changes in table order; ``short``: all parts at once, and one that is selected."""
    yield Step("nothing", "the finished workspace")
    for points in [list(BODIES)] if short else [[point] for point in BODIES]:
        name = "all five" if short else points[0].noun
        within, files = (
            {path: text for point in points for path, text in put(point).items()} for put in (inside, outside)
        )
        named = {"extensions": list(files)}
        yield Step(name, "inside, not selected", within)
        yield Step(name, "outside, not selected", files, params=named)
        yield Step(points[0].noun, "outside, selected", files, params=named | CHOSEN[points[0]])
    for file in COMMENTED:
        yield Step("a comment", f"in `{file}`", comment=file)
    for section, given in PARAMETERS.items():
        yield Step("a parameter", f"of `{section}`", params={section: given})


@contextlib.contextmanager
def changed(workspace: Path, step: Step) -> Iterator[None]:
    """Apply the change of ``step`` to the workspace, with dvc.yaml as `make train` would write it; undone at the
    end."""
    names = [*step.files, *filter(None, [step.comment]), "params.yaml", "dvc.yaml"]
    before = {name: (workspace / name).read_bytes() if (workspace / name).exists() else None for name in names}
    try:
        for name, text in step.files.items():
            (workspace / name).write_text(text, encoding="utf-8")
        if step.comment:
            (workspace / step.comment).write_bytes((before[step.comment] or b"") + b"# a comment\n")
        if step.params:
            raw = yaml.safe_load(before["params.yaml"] or b"")
            text = yaml.safe_dump(compose(raw, dict(step.params)), allow_unicode=True)
            (workspace / "params.yaml").write_text(text, encoding="utf-8")
        stage_code.write(workspace)
        yield
    finally:
        for name, content in before.items():
            if content is None:
                (workspace / name).unlink(missing_ok=True)
            elif content != (workspace / name).read_bytes():
                (workspace / name).write_bytes(content)


def stale(workspace: Path) -> list[str]:
    """Return the stages that `dvc status` names."""
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        return sorted(repo.status())


@command
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path(".workspaces/smoke"), help="a finished one")
    parser.add_argument("--short", action="store_true", help="all parts at once")
    parser.add_argument("--json", action="store_true", help="an object per line instead of the table")
    options = parser.parse_args()
    workspace = options.workspace.resolve()
    os.environ.setdefault("DVC_NO_ANALYTICS", "true")
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str(workspace.parents[1] / ".dvc" / "tmp" / "site"))
    if not options.json:
        show_lines("| what | how | files | `dvc status` |\n|---|---|---|---|")
    with workspace_lock(workspace, say=show):
        os.chdir(workspace)  # the user's files are relative to it
        for step in steps(options.short):
            with changed(workspace, step):
                found = stale(workspace)
            if options.json:
                show(json.dumps({"what": step.name, "how": step.how, "files": step.touched(), "stale": found}))
            else:
                files = ", ".join(f"`{name}`" for name in step.touched()) or "none"
                show(f"| {step.name} | {step.how} | {files} | {', '.join(found) or 'clean'} |")


if __name__ == "__main__":
    raise SystemExit(main())
