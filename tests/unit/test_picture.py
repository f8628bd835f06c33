"""The picture of README and docs: an SVG without external resources, which a script draws from a run's files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.files.artefacts import write_table

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs/images/run.svg"


def words(svg: str) -> str:
    return " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())


def test_the_picture_is_small_whole_and_loads_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size < 200_000
    assert not re.search(r"href|url\(|<script|@import", svg)
    assert "Cover-EM of the answer" in words(svg) and "Sacred Mountain" in words(svg)


def test_readmes_transcript_is_the_pictures() -> None:
    drawn = words(PICTURE.read_text(encoding="utf-8")).replace(" ", "")
    after = (ROOT / "README.md").read_text(encoding="utf-8").split("Afterwards it searches")[1].split("```")[1]
    for line in after.removeprefix("text").splitlines():
        assert line.replace(" ", "") in drawn


@pytest.mark.slow
def test_the_script_draws_a_run(tmp_path: Path) -> None:
    header = "iteration,stage,reward,response_length,searches,format_rate,f1,cover_em"
    rows = [f"{number},stage{1 + number // 3},0.5,10,{number / 4},0.9,0.1,0.2" for number in range(1, 5)]
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/curves.csv").write_text("\n".join([header, *rows]) + "\n")
    said = [
        {"source": "policy", "text": " so <|begin_of_query|> X & Y<|end_of_query|>"},
        {
            "source": "document",
            "text": f"\n\n<|begin_of_documents|>\n(1) X <b> is {'long ' * 20}\n<|end_of_documents|>\n",
        },
        {"source": "policy", "text": " then</think>\n\n<answer> Y</answer>"},
    ]
    row = dict.fromkeys(EVALUATION_COLUMNS.names) | {"question": "Who?", "answers": ["Y"], "segments": said}
    write_table(
        tmp_path / "data/evaluation/stage2/held_out.parquet", pa.Table.from_pylist([row], schema=EVALUATION_COLUMNS)
    )
    out = tmp_path / "run.svg"
    command: list[str | Path] = [
        sys.executable,
        ROOT / "docs/images/make.py",
        "--root",
        tmp_path,
        "--out",
        out,
        "--question",
    ]
    subprocess.run([*command, "Who?"], check=True)
    drawn = words(out.read_text(encoding="utf-8"))
    assert "X & Y" in drawn and "(1) X <b> is long" in drawn and "<answer> Y" in drawn and "stage 2" in drawn
    done = subprocess.run([*command, "What?"], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "has no question 'What?'" in done.stderr
