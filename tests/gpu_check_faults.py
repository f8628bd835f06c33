"""Parts for benchmarks/gpu_check that hang, crash, run out of memory, and take a smaller size; no test of its own."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
import time
from typing import Any

WITHOUT_ARROW = ("contract", "attention", "sampling-small", "update-small", "lora", "turns")
CHILD = "hanging.pid"  # in the folder of results: a process that the hanging part has started


def hang(figures: Any) -> None:
    """Ignore the limit, with a child process."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    (figures.machine.out / CHILD).write_text(str(child.pid))
    figures.note("before it hung", 1.0)
    time.sleep(600)


def crash(figures: Any) -> None:
    """End by a signal."""
    figures.note("before it crashed", 2.0)
    os.abort()


def out_of_memory(figures: Any) -> None:
    """Fail as torch does if a GPU is full."""
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")


def main() -> int:
    """Run the command with these parts in addition."""
    parts: Any = importlib.import_module("benchmarks.gpu_check.parts")

    class Watched(parts.Part):  # type: ignore[misc]
        """A part that must not load Arrow: it would fail where there is none."""

        def function(self) -> Any:
            def watched(figures: Any) -> None:
                run(figures)
                assert "pyarrow" not in sys.modules, "loaded Arrow"

            run = super().function()
            return watched

    first, *others = parts.PARTS
    others = [Watched(**dataclasses.asdict(part)) if part.name in WITHOUT_ARROW else part for part in others]
    parts.PARTS = (
        dataclasses.replace(first, apart=True),  # in a process that is not forked
        *others,
        *(
            parts.Part(name, name, f"tests.gpu_check_faults:{name}", seconds=1.2 if name == "hang" else 60.0)
            for name in ("hang", "crash", "out_of_memory")
        ),
    )
    ended: int = importlib.import_module("benchmarks.gpu_check.__main__").main()
    return ended


if __name__ == "__main__":
    raise SystemExit(main())
