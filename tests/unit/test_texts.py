"""Hostile JSON and YAML that parsers fail on: one line, wherever it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import METADATA_KEY, read_json, read_metadata, write_table
from r1_searcher.files.records import read_records
from r1_searcher.params import profiles
from r1_searcher.questions.files import read_questions
from r1_searcher.rewards.released import read_transcripts
from r1_searcher.texts import parse_json, parse_yaml

DEEP, LONG = "[" * 100_000, "1" * 6_000
YAML_FAULTS = ["[" * 2_000, f"a: {LONG}", "a: 2020-99-99", "a: !!int ''", "a: !!bool x", "a: !!float x"]


@pytest.mark.parametrize("text", [DEEP, LONG, "{", "", b"\xff{", b"\xfe\xff\xd8"])
def test_json_has_one_error(text: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)
    assert parse_json('{"a": [1]}') == {"a": [1]}


@pytest.mark.slow
@pytest.mark.parametrize("text", YAML_FAULTS)
def test_yaml_has_one_error(text: str) -> None:
    with pytest.raises(PipelineError, match=r"^here: not YAML: ") as caught:
        parse_yaml(text, where="here")
    assert len(str(caught.value)) < 300
    with pytest.raises(PipelineError, match="not YAML"):
        params.parse(text)
    with pytest.raises(PipelineError, match="not YAML"):
        profiles.assignment(f"seed={text}")


@pytest.mark.slow
@pytest.mark.parametrize("text", YAML_FAULTS)
def test_a_profile_is_read_the_same_way(text: str, tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "odd.yaml").write_text(text)
    with pytest.raises(PipelineError, match="not YAML"):
        list(profiles.overlays("odd", root=tmp_path))


@pytest.mark.parametrize("value", [DEEP, LONG])
@pytest.mark.parametrize("ending", ["jsonl", "json", "tsv"])
def test_files_of_records(value: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"odd.{ending}"
    row = f'{{"question": "q", "answer": {value}}}'
    path.write_text({"jsonl": row, "json": f"[{row}]", "tsv": f"question\tanswer\nq\t[{value}"}[ending] + "\n")
    with pytest.raises(PipelineError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}, line ") and len(str(caught.value)) < 300
    if ending != "tsv":
        with pytest.raises(PipelineError, match="not JSON"):
            list(read_records(path, ("question", "answer")))


@pytest.mark.parametrize("text", [DEEP, LONG, "[]", "{"])
def test_metadata_of_a_parquet_file(text: str, tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"a": [1]}).replace_schema_metadata({METADATA_KEY: text.encode()})
    write_table(tmp_path / "odd.parquet", table)
    with pytest.raises(PipelineError, match=r"odd\.parquet: not a Parquet file, or a damaged one"):
        read_metadata(tmp_path / "odd.parquet")


@pytest.mark.parametrize("text", [DEEP, LONG])
def test_other_readers(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(text + "\n")
    for read in (read_json, lambda place: list(read_transcripts(place))):
        with pytest.raises(PipelineError, match="not JSON"):
            read(path)
