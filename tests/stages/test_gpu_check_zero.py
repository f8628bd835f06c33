"""benchmarks/gpu_check: its part about ZeRO, which needs DeepSpeed."""

from __future__ import annotations

from pathlib import Path

from bare_machine import ROOT
from gpu_check import zero
from gpu_check.figures import Figures, Machine, Report


def test_stages_have_the_losses_of_torch_alone(tmp_path: Path) -> None:
    assert (ROOT / "benchmarks/gpu_check").is_dir()
    report = Report("zero", "ZeRO")
    zero.run(Figures(Machine("cpu", True, tmp_path), report, 60))
    found = {one.name: one.value for one in report.figures}
    assert found["largest difference of losses"] == 0.0 and {"loss, torch alone", "loss, ZeRO 1"} <= found.keys()
