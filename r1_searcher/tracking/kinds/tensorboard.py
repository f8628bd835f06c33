"""TensorBoard: event files in ``FOLDER/tensorboard/RUN``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from r1_searcher.extend import tracker
from r1_searcher.tracking.protocol import TrackedRun, Tracker


@tracker("tensorboard")
def tensorboard(run: TrackedRun) -> Tracker:
    """Open the run's folder; parameters and protocol card are texts."""
    return _TensorBoard(run)


class _TensorBoard:
    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Events of steps after the last logged one are a killed process's: TensorBoard then hides them.
        purge = None if run.logged is None else run.logged + 1
        folder = run.folder / "tensorboard" / f"{run.name.replace(' ', '-')}-{run.id[-6:]}"
        self.writer = SummaryWriter(str(folder), purge_step=purge)
        if run.logged is None:
            for title, content in (("params", run.params), ("protocol_card", run.card)):
                text = json.dumps(content, indent=2, ensure_ascii=False).replace("\n", "\n    ")
                self.writer.add_text(title, f"    {text}", 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
