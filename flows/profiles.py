"""Apply a profile, an overlay of ``params.yaml`` in ``profiles/``, here or in a workspace.

    python -m flows.profiles smoke                        write the composed params.yaml
    python -m flows.profiles smoke --workspace DIR        run it elsewhere, and leave this checkout as it is
    python -m flows.profiles laptop --seed 1 --set train.stage2.learning_rate=2e-4 --workspace DIR

Workspaces are explained in ``flows.worktrees``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from flows import stage_code
from flows.worktrees import prepare_workspace, run_workspace, workspace_lock
from r1_searcher.errors import command
from r1_searcher.files.artefacts import write_text
from r1_searcher.options import whole_number
from r1_searcher.params.profiles import base_text, composed, overlays
from r1_searcher.shown import show


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.profiles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="profile in profiles/, e.g. laptop or smoke")
    parser.add_argument("--seed", type=whole_number("--seed"), help="override the seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a parameter (repeatable)"
    )
    parser.add_argument(
        "--workspace", type=Path, metavar="DIR", help="run the profile in this folder, and leave the checkout alone"
    )
    parser.add_argument(
        "--stage",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this stage and its dependencies (repeatable)",
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
            stage_code.write(options.workspace)
            run_workspace(options.workspace, root, options.stage)


if __name__ == "__main__":
    raise SystemExit(main())
