"""Whether this machine can run a profile for GPUs, asked where a run starts: `make train` asks it first (stages/plan),
but there are other ways in, and engine and trainer take the CPU without a word where a GPU is missing.
"""

from __future__ import annotations

from pathlib import Path

from r1_searcher.params import Params


def check_machine(params: Params, model: Path | None = None) -> str:
    """``PipelineError`` where this machine lacks the GPUs or the memory that the profile names; returns a warning of
    too little disk, empty where there is enough.

    ``model``: a folder of the base model's architecture (default: ``base_model.source``). A profile that names no GPU
    asks nobody, and costs no time. Neither does one that runs on a Ray cluster: Ray has the GPUs, and counts them.
    """
    if not params.hardware.gpus or params.workers.place == "ray":
        return ""
    from r1_searcher.plan import machine
    from r1_searcher.plan.check import check_profile

    if model is not None:
        base_model = params.base_model.model_copy(update={"source": str(model)})
        params = params.model_copy(update={"base_model": base_model})
    return check_profile(params.profile, params, machine.this_machine())
