"""Each tracker for real and offline: what training hands over is read back by the tracker's own library."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_json
from r1_searcher.tracking.journal import JOURNAL, RUN_FILE, start

ROOT = Path(__file__).resolve().parents[2]
CARD = {"benchmark": "validation", "k": 3, "metric_version": "1"}
ROWS = [
    (0, {"watch_f1": 0.125}),
    (1, {"reward": -0.5, "f1": 0.25}),
    (2, {"reward": 0.75, "f1": 0.5, "watch_f1": 0.375}),
]
Found = tuple[dict[tuple[str, int], float], list[Any]]


def read_tensorboard(folder: Path) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "tensorboard").iterdir()
    read = EventAccumulator(str(run))
    read.Reload()
    figures = {(name, one.step): one.value for name in read.Tags()["scalars"] for one in read.Scalars(name)}
    assert sum(len(read.Scalars(name)) for name in read.Tags()["scalars"]) == len(figures)
    texts = [read.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("params", "protocol_card")]
    return figures, [json.loads(text) for text in texts]


def read_mlflow(folder: Path) -> Found:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("r1-searcher")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["rollout.engine"] == "transformers"
    histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    figures = {(one.key, one.step): one.value for history in histories for one in history}
    assert sum(map(len, histories)) == len(figures)
    (artifacts,) = (folder / "mlflow/artifacts").iterdir()
    files = [artifacts / "artifacts" / f"{name}.json" for name in ("params", "protocol_card")]
    return figures, [json.loads(file.read_text(encoding="utf-8")) for file in files]


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file: LevelDB's log format behind a header of 7 bytes."""
    place, record = 7, b""
    while place < len(content):
        if (left := -place % 32768) < 7 and left:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def read_wandb(folder: Path) -> Found:
    from wandb.proto import wandb_internal_pb2

    figures: dict[tuple[str, int], float] = {}
    config: dict[str, Any] = {}
    runs = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert len({file.name for file in runs}) == 1, "a resumed run keeps its id"
    for file in runs:
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update if item.key}
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    assert (name, row["_step"]) not in figures
                    figures[name, row["_step"]] = value
    return figures, [config["params"], config["protocol_card"]]


def read_trackio(folder: Path) -> Found:
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        module.TRACKIO_DIR = folder / "trackio"  # otherwise read from the environment, once
    store = sqlite_storage.SQLiteStorage
    (run,) = {record["name"] for record in store.get_run_records("r1-searcher")}
    rows = store.get_logs("r1-searcher", run)
    figures: dict[tuple[str, int], float] = {}
    for row in rows:
        step = row["step"]
        for name in row.keys() - {"step", "timestamp"}:
            assert (name, step) not in figures
            figures[name, step] = row[name]
    config = store.get_run_config("r1-searcher", run)
    return figures, [config["params"], config["protocol_card"]]


READERS: dict[str, Callable[[Path], Found]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
    "trackio": read_trackio,
}


def written(folder: Path, name: str) -> dict[str, Any]:
    """Write a segment's run and return its parameters."""
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    raw["tracking"] |= {"trackers": [name], "folder": str(folder / "tracking")}
    params = contract.check(raw).model_dump(mode="json")
    run = {"id": "laptop-s1-00-0123456789ab", "name": "laptop s1-00", "group": "laptop seed 0", "extensions": []}
    write_json(folder / RUN_FILE, {**run, "params": params, "card": CARD})
    (folder / JOURNAL).write_text("")
    return params


def run(folder: Path, name: str, rows: list[tuple[int, dict[str, float]]]) -> tuple[int, str]:
    """Let a tracker's process read the journal with further rows; return its status and what it said."""
    process = start(folder, name)
    assert process.stdin is not None
    with open(folder / JOURNAL, "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    process.stdin.close()
    return process.wait(120), (folder / f"{name}.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READERS)
def test_a_resumed_run_is_one_run_with_every_step_once(name: str, tmp_path: Path) -> None:
    params = written(tmp_path, name)
    for rows in (ROWS[:2], ROWS[2:]):
        status, said = run(tmp_path, name, rows)
        assert status == 0, said
    figures, (params_there, card) = READERS[name](tmp_path / "tracking")
    assert figures == {(column, step): value for step, row in ROWS for column, value in row.items()}
    assert (params_there, card) == (params, CARD)
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*")), "nothing is written into the home folder"


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "trackio")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text("import sys\nsys.modules['trackio'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    status, said = run(tmp_path, "trackio", ROWS)
    assert status == 2 and said.strip().splitlines() == [
        "error: tracking.trackers: trackio is not installed (make setup-doors, or the extra trackers)"
    ]


def test_a_server_that_is_not_there_ends_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # else it tries for minutes, beside training
    written(tmp_path, "mlflow")
    raw = json.loads((tmp_path / RUN_FILE).read_text())
    raw["params"]["tracking"]["mlflow"] = {"uri": "http://127.0.0.1:9"}
    write_json(tmp_path / RUN_FILE, raw)
    status, said = run(tmp_path, "mlflow", ROWS)
    assert status != 0 and "127.0.0.1" in said.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("https://me:secret@mlflow.example", "set MLFLOW_TRACKING_USERNAME"),
        ("http://mlflow.example/secret", "https:// is needed"),
        ("file:///secret", "https:// is needed"),
    ],
)
def test_an_address_that_would_give_away_credentials_is_refused(uri: str, said: str) -> None:
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    raw["tracking"] |= {"trackers": ["mlflow"], "mlflow": {"uri": uri}}
    with pytest.raises(PipelineError, match=said) as raised:
        contract.check(raw)
    assert "secret" not in str(raised.value)
