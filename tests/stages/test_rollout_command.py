"""``python -m stages.rollout``: from files to a file, twice the same bytes, and faults of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_policy import params_with, questions_table, rollout_params, write_policy

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.files.artefacts import read_metadata, read_table, write_table
from r1_searcher.files.passages import fingerprint
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.rollout.rows import inputs
from r1_searcher.types import schemas
from stages.rollout.__main__ import main


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random policy, an index, questions and parameters."""
    folder = tmp_path_factory.mktemp("rollout")
    settings = params_with(threads=1, rollout=rollout_params(max_total_tokens=120).model_dump())
    (folder / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    write_policy(folder / "policy")
    passages = make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 0).passages()
    write_table(folder / "corpus/passages.parquet", passages)
    build_index(passages, settings.index, folder / "index", fingerprint(folder / "corpus"))
    write_table(folder / "questions.parquet", questions_table(["Who was Ada?", "Where is Trabo?", "x"]))
    return folder


def roll(place: Path, out: str, *more: str) -> int:
    """Run the command on the files of ``place``; a later argument replaces an earlier one of the same name."""
    threads = torch.get_num_threads()
    files = [f"--{name}={place / file}" for name, file in FILES.items()]
    try:
        return main([*files, f"--out={place / out}", *more])
    finally:
        torch.set_num_threads(threads)


FILES = {
    "policy": "policy",
    "questions": "questions.parquet",
    "index": "index",
    "corpus": "corpus",
    "params": "params.yaml",
}


def test_the_file_and_its_metadata(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.parquet", "two.parquet"):
        assert roll(place, name, "--samples=4", "--limit=2") == 0
    assert "8 trajectories in" in capsys.readouterr().out
    assert (place / "one.parquet").read_bytes() == (place / "two.parquet").read_bytes()
    table = read_table(place / "one.parquet", schemas.ROLLOUTS)
    assert table["trajectory_id"].to_pylist() == [
        f"q{question}#{sample}" for question in range(2) for sample in range(4)
    ]
    about = read_metadata(place / "one.parquet")
    assert (about["samples"], about["seed"], about["greedy"], about["mode"]) == (4, 0, False, "search")
    assert about["index"] == open_index(place / "index").fingerprint
    assert {"engine", "torch", "transformers"} <= about["versions"].keys()


def test_modes_and_greedy(place: Path) -> None:
    fingerprints = set()
    for mode in ("search", "no_search", "plain_rag"):
        assert roll(place, f"{mode}.parquet", "--greedy", f"--mode={mode}") == 0
        about = read_metadata(place / f"{mode}.parquet")
        assert about["greedy"] is True and about["mode"] == mode
        fingerprints.add(about["fingerprint"])
        sources = [
            [part["source"] for part in row] for row in read_table(place / f"{mode}.parquet")["segments"].to_pylist()
        ]
        assert all(("forced" in row) == (mode != "search") for row in sources)
    assert len(fingerprints) == 3


def test_everything_that_rollouts_depend_on_is_in_the_fingerprint(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Q: {question} <think>")
    usual = {
        "policy_sha256": "p",
        "index_fingerprint": "i",
        "questions": questions_table(["a", "b"]),
        "samples": 2,
        "seed": 0,
        "greedy": False,
        "mode": "search",
    }

    def found(k: int = 2, **changes: Any) -> str:
        return str(inputs(rollout_params(prompt=str(prompt), k=k), **usual | changes)["fingerprint"])

    first = found()
    assert found() == first
    others: dict[str, Any] = {
        "policy_sha256": "q",
        "index_fingerprint": "j",
        "samples": 3,
        "seed": 1,
        "greedy": True,
        "mode": "no_search",
    }
    changed = [found(**{name: value}) for name, value in others.items()]
    changed += [found(k=1), found(questions=questions_table(["a"]))]
    prompt.write_text("Frage: {question} <think>")
    changed.append(found())
    assert len({first, *changed}) == len(changed) + 1


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--policy={place}/nowhere", "{place}/nowhere: no such model folder"),
        ("--policy={place}/index", "{place}/index: not a Hugging Face model folder: no config.json"),
        ("--questions={place}/nowhere.parquet", "{place}/nowhere.parquet: no such file"),
        ("--questions={place}/params.yaml", "{place}/params.yaml: not a Parquet file"),
        ("--index={place}/policy", "{place}/policy: no index here"),
        ("--params={place}/nowhere.yaml", "{place}/nowhere.yaml: no such file"),
    ],
)
def test_wrong_files(place: Path, argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert roll(place, "never.parquet", argument.format(place=place)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {message.format(place=place)}")
    assert not (place / "never.parquet").exists()


def test_an_index_of_another_corpus_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(
        place / "other/passages.parquet",
        make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 1).passages(),
    )
    assert roll(place, "refused.parquet", f"--corpus={place / 'other'}") == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and "the index belongs to corpus" in line
    assert not (place / "refused.parquet").exists()
