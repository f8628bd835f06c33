"""Parameters: the first fault gives one line that names the key."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher import params
from r1_searcher.errors import PipelineError

RAW = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
)


def mistyped(raw: dict[str, Any]) -> None:
    raw["update"]["klip"] = raw["update"].pop("clip")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (mistyped, "update.klip: unknown parameter (did you mean 'clip'?)"),
        (lambda raw: raw["update"].update(clip="wide"), "update.clip: Input should be a valid number"),
        (lambda raw: raw.pop("seed"), "seed: Field required"),
        (lambda raw: raw["corpus"].update(source="files"), "corpus: source is files"),
        (lambda raw: raw["base_model"]["tiny"].update(heads=3), "base_model.tiny: hidden must be a mult"),
        (lambda raw: raw["base_model"]["tiny"].update(kv_heads=3), "base_model.tiny: heads must be a mul"),
        (lambda raw: raw["update"].update(offload="optimizer"), "update: offload is optimizer: it needs"),
        (lambda raw: raw["update"].update(offload="all", zero_stage=2), "update: offload is all: param"),
        (lambda raw: raw["update"]["lora"].update(dropout=0.1), "update.lora.dropout: unknown parameter"),
        (lambda raw: raw["update"]["lora"].update(rank=-1), "update.lora.rank: Input should be greater than"),
        (lambda raw: raw["train"]["segments"]["s1-00"].update(stage="stage3"), "train.segments.s1-00.stage: Input"),
    ],
)
def test_a_fault_is_named(change: Callable[[dict[str, Any]], None], line: str) -> None:
    raw = copy.deepcopy(RAW)
    change(raw)
    with pytest.raises(PipelineError) as caught:
        params.check(raw)
    assert str(caught.value).startswith(f"params.yaml, {line}"), caught.value
    assert "\n" not in str(caught.value) and "{" not in str(caught.value), "a whole section is no help"


def test_the_field_behind_own_parameters_is_no_parameter() -> None:
    raw = copy.deepcopy(RAW)
    raw["rollout"]["own"] = {"open": {"calls": 1}}
    with pytest.raises(PipelineError, match=r"params\.yaml: rollout\.own: unknown parameter"):
        params.check(raw)


NODE = {"gpus": 8, "gpu_memory_gib": 80, "trainer_gpus": 4, "engine_gpus": 4, "tensor_parallel": 2, "reference_gpus": 0}
PLACED = {"place": "local", "engines": 2, "shards": 2, "ranks": 4, "reference": 0}


@pytest.mark.parametrize(
    ("hardware", "workers", "line"),
    [
        ({"tensor_parallel": 4}, {}, ": workers.engines (2) × hardware.tensor_parallel (4) must be hardware.engine"),
        ({}, {"ranks": 2}, ": workers.ranks (2) must be hardware.trainer_gpus (4)"),
        ({}, {"reference": 1}, ": workers.reference (1) must be hardware.reference_gpus (0)"),
        ({"trainer_gpus": 7}, {}, ", hardware: trainer, engine and reference need 11 GPUs of 8"),
        ({}, {"shards": 1}, ", workers: shards is 1: of 2 engines some would have nothing to do"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line_of_our_own_words(
    hardware: dict[str, Any], workers: dict[str, Any], line: str
) -> None:
    raw = copy.deepcopy(RAW)
    raw["rollout"]["engine"] = "vllm"
    raw["hardware"] |= NODE | hardware
    raw["workers"] |= PLACED | workers
    with pytest.raises(PipelineError) as caught:
        params.check(raw)
    assert str(caught.value).startswith(f"params.yaml{line}")


def test_text_that_is_no_yaml_or_no_mapping() -> None:
    for text in ("a: [", "- 1", ""):
        with pytest.raises(PipelineError, match=r"params\.yaml"):
            params.parse(text)


def test_no_test_reads_the_parameters_that_a_user_may_change() -> None:
    """Tests use ``r1_searcher/params/defaults.yaml``; only dvc.yaml is checked against the current choices.

    This sees tests that do not run here, tests/conftest.py those that open the file in another way.
    """
    root = Path(__file__).resolve().parents[2]
    reading = re.compile(r"""(ROOT|parents\[\d\]) / ["']params\.yaml|\b(params|contract)\.load\(\)""")
    found = {
        path.relative_to(root).as_posix()
        for path in (root / "tests").rglob("*.py")
        if reading.search(path.read_text(encoding="utf-8")) and path != Path(__file__)
    }
    assert found == {"tests/conftest.py", "tests/stages/test_changed_params.py", "tests/unit/test_dvc_yaml.py"}
