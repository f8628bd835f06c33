"""benchmarks/gpu_check: its part about vLLM, as far as a CPU goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from bare_machine import ROOT
from gpu_check import vllm_part
from gpu_check.figures import Figures, Machine, Report


def test_the_part_about_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / "benchmarks/gpu_check").is_dir()
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "0")  # the part changes it
    report = Report("vllm", "vLLM")
    vllm_part.run_part(Figures(Machine("cpu", True, tmp_path), report, 600))
    found = {one.name: one.value for one in report.figures}
    gaps = [value for name, value in found.items() if "gap" in name]
    assert len(gaps) == 3 and all(isinstance(gap, float) and gap < 1e-4 for gap in gaps)
    assert found["trajectories that are the same again"] == 1.0
