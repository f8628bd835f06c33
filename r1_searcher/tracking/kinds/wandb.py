"""Weights & Biases: files in ``FOLDER/wandb``, for `wandb sync`, or its server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from r1_searcher.extend import tracker
from r1_searcher.tracking.protocol import TrackedRun, Tracker


class WandbParams(BaseModel):
    """``tracking.wandb``. The API key comes from WANDB_API_KEY."""

    mode: Literal["offline", "online"] = "offline"
    entity: str = ""  # a user's or team's name; empty: the key's default


@tracker("wandb", parameters=WandbParams)
def wandb(run: TrackedRun, parameters: WandbParams) -> Tracker:
    """Start or resume the run of this id; parameters and protocol card are its config."""
    return _Wandb(run, parameters)


class _Wandb:
    def __init__(self, run: TrackedRun, parameters: WandbParams) -> None:
        files = run.folder.absolute()
        files.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("WANDB_CACHE_DIR", str(files / "wandb" / "cache"))
        os.environ.setdefault("WANDB_CONFIG_DIR", str(files / "wandb" / "config"))
        import wandb

        plain = {"console": "off", "silent": True, "disable_git": True, "disable_code": True, "save_code": False}
        plain |= {"disable_job_creation": True, "x_disable_stats": True, "x_disable_meta": True}
        self.run: Any = wandb.init(
            project=run.project,
            entity=parameters.entity or None,
            id=run.id,
            name=run.name,
            group=run.group,
            mode=parameters.mode,
            dir=str(files),
            resume="allow",
            config={"params": run.params, "protocol_card": run.card},
            settings=wandb.Settings(**plain),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.run.log(dict(figures), step=step, commit=True)

    def close(self) -> None:
        self.run.finish()
