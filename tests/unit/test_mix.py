"""Training mixes: given numbers of each dataset and difficulty, drawn by the seed, whatever the order."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.questions.files import read_questions
from r1_searcher.questions.mix import draw
from r1_searcher.types import schemas
from stages.questions.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
POOL = {("a", "easy"): 5, ("a", "medium"): 30, ("a", "difficult"): 8, ("b", "medium"): 12, ("b", None): 3}


def pool(sizes: dict[tuple[str, Any], int] = POOL) -> pa.Table:
    rows = [
        {"question_id": f"{dataset}-{level}-{number}", "question": "x?", "dataset": dataset, "difficulty": level}
        for (dataset, level), size in sizes.items()
        for number in range(size)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.QUESTIONS)


def ids(table: pa.Table) -> list[str]:
    found: list[str] = table["question_id"].to_pylist()
    return found


def test_the_counts_are_kept_and_nothing_else_is_drawn() -> None:
    drawn = draw(pool(), {"a": {"medium": 20, "difficult": 8}, "b": {"medium": 1}}, seed=0, name="stage2")
    cells = Counter(zip(drawn["dataset"].to_pylist(), drawn["difficulty"].to_pylist(), strict=True))
    assert cells == {("a", "medium"): 20, ("a", "difficult"): 8, ("b", "medium"): 1}
    assert len(set(ids(drawn))) == 29
    assert drawn.schema == schemas.QUESTIONS


def test_the_seed_and_the_name_draw_and_the_order_of_the_pool_does_not() -> None:
    counts: Any = {"a": {"medium": 10}}
    first = ids(draw(pool(), counts, seed=0, name="stage1"))
    order = list(range(pool().num_rows))
    random.Random(1).shuffle(order)
    assert ids(draw(pool().take(order), counts, seed=0, name="stage1")) == first
    assert ids(draw(pool(), counts, seed=1, name="stage1")) != first
    assert ids(draw(pool(), counts, seed=0, name="stage2")) != first
    assert first != sorted(first)


def test_a_larger_count_keeps_the_questions_of_a_smaller_one() -> None:
    few, more = (set(ids(draw(pool(), {"a": {"medium": n}}, seed=0, name="m"))) for n in (5, 6))
    assert few < more


def test_every_cell_that_has_too_few_is_named() -> None:
    with pytest.raises(PipelineError) as caught:
        draw(pool(), {"a": {"easy": 6, "medium": 30}, "b": {"medium": 13, "difficult": 2}}, seed=0, name="s")
    assert str(caught.value) == (
        "params.yaml, difficulty.mixes.s.counts: too few questions for a easy: 5 of 6; b medium: 12 of 13; "
        "b difficult: 0 of 2 (ask for fewer, or label more)"
    )


def test_other_faults() -> None:
    with pytest.raises(PipelineError, match=r"no question of dataset 'c' \(known here: a, b\)"):
        draw(pool(), {"c": {"easy": 1}}, seed=0, name="s")
    with pytest.raises(PipelineError, match=r"mixes\.s\.counts: asks for no question"):
        draw(pool(), {}, seed=0, name="s")
    with pytest.raises(PipelineError, match="question id 'a-easy-0' occurs twice"):
        draw(pa.concat_tables([pool(), pool()]), {"a": {"easy": 1}}, seed=0, name="s")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file or from a folder of files, the same bytes twice; an unknown name gives one line."""
    monkeypatch.chdir(tmp_path)
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    counts = {"a": {"medium": 3}, "b": {"medium": 2}}
    raw["difficulty"]["mixes"] = {
        "file": {"questions": "data/difficulty/a.parquet", "counts": {"a": {"medium": 3}}},
        "folder": {"questions": "data/difficulty", "counts": counts},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    for dataset in ("a", "b"):
        part = pool({cell: size for cell, size in POOL.items() if cell[0] == dataset})
        artefacts.write_table(f"data/difficulty/{dataset}.parquet", part, {"policy": dataset})
    assert main(["mix", "file"]) == main(["mix", "folder"]) == main(["mix", "folder", "--out", "again.parquet"]) == 0
    assert "mix folder: 5 questions -> data/mixes/folder.parquet" in capsys.readouterr().out
    assert Path("again.parquet").read_bytes() == Path("data/mixes/folder.parquet").read_bytes()
    assert all(sums.check_single(Path(f"data/mixes/{name}.parquet")) for name in ("file", "folder"))
    assert artefacts.read_metadata("again.parquet") == {"mix": "folder", "counts": counts, "seed": 0}
    assert artefacts.read_table("data/mixes/file.parquet", schemas.QUESTIONS).num_rows == 3
    assert main(["mix", "stage9"]) == 2
    assert "params.yaml, difficulty.mixes: no mix 'stage9' (known: file, folder)" in capsys.readouterr().err


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_the_released_training_sets_can_be_drawn_from() -> None:
    """Unlabelled they have no difficulty; with one label for all, each is drawn once."""
    released = pa.concat_tables([read_questions(DATA / f"r1searcher/train/stage_{stage}.jsonl") for stage in (1, 2)])
    assert released["difficulty"].null_count == released.num_rows == 350 + 8148
    place = schemas.QUESTIONS.get_field_index("difficulty")
    labelled = released.set_column(place, schemas.QUESTIONS.field(place), pa.array(["medium"] * released.num_rows))
    drawn = draw(labelled, {"stage_1": {"medium": 350}, "stage_2": {"medium": 8148}}, seed=0, name="all")
    assert sorted(ids(drawn)) == sorted(ids(released))
