"""Make data/base_model (``python -m stages.base_model``), or ``measure`` the base policy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r1_searcher import params
from r1_searcher.errors import command
from r1_searcher.files import sums
from r1_searcher.files.artefacts import atomic, write_json
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.models.base_metrics import against_training
from r1_searcher.shown import show

_BASE_MODEL = Path("data/base_model")


@command
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line; train or import the base model, or measure it."""
    parser = argparse.ArgumentParser(prog="python -m stages.base_model", description=__doc__)
    parser.add_argument("action", choices=("make", "measure"), nargs="?", default="make")
    parser.add_argument("--out", type=free_place, help=f"output (default: {_BASE_MODEL}, or metrics/base_model.json)")
    parser.add_argument("--policy", type=Path, default=_BASE_MODEL, help="measure: model folder (default: %(default)s)")
    parser.add_argument("--questions", type=Path, default=Path("data/questions/validation.parquet"))
    parser.add_argument("--training", type=Path, default=Path("data/questions/train.parquet"))
    parser.add_argument("--index", type=Path, default=Path("data/index"))
    parser.add_argument("--params", type=Path, default=params.PARAMS_FILE)
    options = parser.parse_args(arguments)
    settings = params.load(options.params)
    if options.action == "make":
        if options.out not in (None, _BASE_MODEL):  # which is DVC's own
            sums.check_replaceable(options.out)
        _make(settings, options.out or _BASE_MODEL)
    else:
        _measure(settings, options)


def _log(line: str) -> None:
    show(line)


def _make(settings: params.Params, out: Path) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # `_log` reports the progress
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    with atomic(out, folder=True) as draft:
        if settings.base_model.source == "tiny":
            from r1_searcher.models.tiny import make_tiny

            make_tiny(settings, draft, _log)
        else:
            from r1_searcher.models.imported import check_usable, import_model

            check_usable(settings.base_model.source, settings.rollout)
            import_model(settings.base_model.source, draft, settings.rollout.dtype)
        from r1_searcher.models.agreement import check_agreement

        check_agreement(draft, settings, _log, where=settings.base_model.source)
    _log(f"base model → {out}")


def _measure(settings: params.Params, options: argparse.Namespace) -> None:
    from stages.base_model.measure import measure

    out = options.out or Path("metrics/base_model.json")
    found = measure(settings, options.policy, options.questions, options.index, options.training)
    write_json(out, found)
    for name in ("greedy", "sampled"):
        rates = found[name]
        shown = ", ".join(f"{key} {value:.3f}" for key, value in rates.items() if key != "n")
        _log(f"base policy, {name}: {shown} (n = {rates['n']})")
    for line in against_training(found):
        _log(f"warning: {line}")
    _log(f"→ {out}")


if __name__ == "__main__":
    sys.exit(main())
