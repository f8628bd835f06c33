"""Check that this machine can run a profile for GPUs, before a run starts.

`make train` checks it first (stages/plan), but there are other entry points, and engine and trainer silently use the
CPU if a GPU is missing.
"""

from __future__ import annotations

from pathlib import Path

from r1_searcher.params import Params


def check_machine(params: Params, model: Path | None = None) -> str:
    """Raise ``PipelineError`` if this machine lacks the profile's GPUs or memory; return a warning about too little
    disk, or "".

    ``model``: a folder with the base model's architecture (default: ``base_model.source``). Returns at once for a
    profile without GPUs, and on a Ray cluster, which counts its own GPUs.
    """
    if not params.hardware.gpus or params.workers.place == "ray":
        return ""
    from r1_searcher.plan import machine
    from r1_searcher.plan.check import check_profile

    if model is not None:
        base_model = params.base_model.model_copy(update={"source": str(model)})
        params = params.model_copy(update={"base_model": base_model})
    return check_profile(params.profile, params, machine.this_machine())
