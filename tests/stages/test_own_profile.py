"""The whole profile of docs/your-own-data.md runs, from files to the report; only its sizes are reduced here."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_architectures import write_kind

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.files.artefacts import read_json
from r1_searcher.params import profiles
from r1_searcher.questions.compose import compose

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/your-own-data.md").read_text(encoding="utf-8")
SMALLER = {
    "base_model": {"measure_questions": 2, "measure_samples": 1},
    "rollout": {"max_total_tokens": 1536, "max_turn_tokens": 24, "max_searches": 1},
    "train": {
        stage: {"questions_an_iteration": 2, "samples_a_question": 2, "evaluate_every": 1, "evaluate_questions": 2}
        for stage in ("stage1", "stage2")
    },
    "threads": 1,
}


def on_the_page() -> dict[str, Any]:
    """Return the page's profile."""
    [block] = [part for part in re.findall(r"(?:^(?:    .*)?\n)+", PAGE, re.MULTILINE) if "profile: mine" in part]
    found = yaml.safe_load(block)
    assert isinstance(found, dict)
    return found


def write_inputs(profile: dict[str, Any]) -> None:
    """Write a user's files, where the profile expects them."""

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")

    world = make_world(params.WorldSize(people=40, films=20, books=20, cities=8), 0)
    [passages] = profile["corpus"]["files"]
    write(passages, world.passages().to_pylist())
    counts = params.QuestionCounts(train=8, validation=4, held_out=2, held_out_kind=2, comparison=2)
    splits = compose(world.facts(), counts, 0)
    for split, name in profile["questions"]["files"].items():
        rows = splits[split].select(["question", "answers"]).to_pylist()
        if split == "validation":  # drawn by each validation
            rows[0]["question"] += " really" * 400
        write(name, rows)
    write_kind(Path(profile["base_model"]["source"]), "Llama", max_position_embeddings=2048)


def stages(segments: list[str]) -> Iterator[list[str]]:
    """Return the words after ``python -m`` of each stage that this profile has, in dvc.yaml's order."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values():
        if stage.get("foreach") == "${train.segments}":
            yield from ([word.replace("${key}", name) for word in command(stage["do"])] for name in segments)
        elif "foreach" not in stage and "matrix" not in stage:
            yield command(stage)


def command(stage: dict[str, Any]) -> list[str]:
    python, _, *words = shlex.split(stage["cmd"])
    assert python == "python"
    return words


def test_the_page_names_the_maps_that_are_replaced() -> None:
    [said] = re.findall(r"five maps\s+are\s+replaced\s+as\s+a\s+whole\s+instead:(.*?)\.\s+So", PAGE, re.DOTALL)
    assert re.findall(r"`(.*?)`", said) == list(profiles.REPLACED) and len(profiles.REPLACED) == 5


@pytest.mark.slow
def test_the_pages_profile_runs(prefect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = on_the_page()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1SEARCHER_STORE", raising=False)
    write_inputs(profile)
    smaller = {**SMALLER, "train": {**SMALLER["train"], "segments": profile["train"]["segments"]}}  # type: ignore[dict-item]
    for segment in smaller["train"]["segments"].values():  # type: ignore[index]
        segment["iterations"] = 1
    base = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
    text = profiles.composed(base, [("the page", profile), ("the test", smaller)])
    Path("params.yaml").write_text(text, encoding="utf-8")
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        for module, *words in stages(list(profile["train"]["segments"])):
            run(module, words, monkeypatch)
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
    page = Path("report/report.html").read_text(encoding="utf-8")
    assert ">My questions over my passages" in page and "num_questions_left_out" in page
    assert read_json(Path("metrics/evaluation.json")).keys() == {"base", "stage1", "stage2"}


def run(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python -m module words`` in this process; training without its own server."""
    if module == "flows.train":
        from flows.train import train

        train(words[1])
        return
    monkeypatch.setattr(sys, "argv", [module, *words])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        raise SystemExit(0)
    assert (ended.value.code or 0) == 0, (module, words)
