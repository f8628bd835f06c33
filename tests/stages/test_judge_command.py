"""`python -m stages.evaluate judge` against a real server: its requests, its record, resuming, and its output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from chat_servers import ScriptedServer, fault, serving

from r1_searcher.files.artefacts import read_metadata, write_table
from r1_searcher.types.schemas import EVALUATION
from stages.evaluate.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
HAND_MADE = ROOT / "tests" / "data" / "hand_made_transcripts.jsonl"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def evaluation(path: Path, policy: str, predictions: list[str | None]) -> None:
    """Write an evaluated policy's file: question i, gold "Gold i", and a prediction each."""
    rows = [
        {
            "question_id": f"q{number}",
            "question": f"Question {number}?",
            "answers": [f"Gold {number}", f"Alias {number}"],
            "prediction": prediction,
            **dict.fromkeys(("em", "f1", "cover_em", "cover_em_contiguous"), 0.0),
            "format_right": True,
            "num_searches": 1,
            "num_tokens": 9,
            "finish_reason": "answer",
            "text": "…",
        }
        for number, prediction in enumerate(predictions)
    ]
    card = {"policy": policy, "mode": "search"}
    metadata = {"card": card, "kinds": ["composition"], "needed_searches": 2.0}
    write_table(path, pa.Table.from_pylist(rows, schema=EVALUATION), metadata)


class Place:
    """A folder with parameters and two evaluated policies, 7 different answers and one left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "replies.jsonl"
        evaluation(folder / "evaluation" / "a" / "held_out.parquet", "a", ["Gold 0", "wrong", None, "odd", " "])
        evaluation(
            folder / "evaluation" / "b" / "held_out.parquet", "b", ["Gold 0", "Gold 1", "Gold 2", "odd", "Gold 4"]
        )

    def params(self, url: str, **changes: Any) -> None:
        raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
        raw["evaluate"]["policies"] = {"a": "none", "b": "none"}
        raw["judge"] |= {"server": url, "model": "judge-1", "retries": 1, "timeout_seconds": 10, **changes}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")

    def run(self, *places: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
        """Return the exit status, the figures, and the output."""
        status = main(["judge", *map(str, places or [self.folder / "evaluation"]), *self.options(), "--json"])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else {}, err

    def summary(self, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
        """Return the summary of each policy on held_out, and its table."""
        named = {"evaluation": self.folder / "evaluation", "benchmark-evaluation": self.folder, "record": self.record,
                 "params": self.folder / "params.yaml", "out": self.folder / "summary.json"}  # fmt: skip
        assert main(["summary", *(part for name, path in named.items() for part in (f"--{name}", str(path)))]) == 0
        whole = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return {policy: row["held_out"] for policy, row in whole.items()}, capsys.readouterr().out

    def options(self) -> list[str]:
        named = {"params": self.folder / "params.yaml", "record": self.record, "out": self.folder / "judge"}
        return [part for name, path in named.items() for part in (f"--{name}", str(path))]

    def verdicts(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.folder / "judge" / f"{name}.parquet").to_pylist()
        return rows


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def truthful(body: dict[str, Any], _number: int = 0) -> str:
    """Return a good judge's reply, and nonsense for the answer "odd"."""
    lines = dict(line.split(": ", 1) for line in body["messages"][0]["content"].splitlines() if ": " in line)
    if lines["Answer to grade"] == "odd":
        return "I think it is True"
    return str(lines["Answer to grade"] in lines["Reference answer"].split(" or ")) + "."


def test_a_second_run_asks_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    script = ScriptedServer(truthful)
    with serving(script.app) as url:
        place.params(url, price_prompt=10.0, price_completion=50.0)
        status, figures, said = place.run(capsys=capsys)
    assert status == 0
    # a and b share two answers, which are judged once
    assert len(script.requests) == 6
    assert {request["model"] for request in script.requests} == {"judge-1"}
    assert all(request["temperature"] == 0 and request["max_tokens"] == 8 for request in script.requests)
    assert "6 different answers, 0 on record (0.0 %)" in said
    assert "6 replies, 60 + 12 tokens, cost 0.0012" in said
    assert figures["a/held_out"]["acc_l"] == 0.25 and figures["b/held_out"]["acc_l"] == 1.0
    assert {key: figures["a/held_out"][key] for key in ("n", "acc_l_n", "acc_l_unparsable", "acc_l_missing")} == {
        "n": 5,
        "acc_l_n": 4,  # two of them no answers
        "acc_l_unparsable": 1,
        "acc_l_missing": 0,
    }
    rows = place.verdicts("a/held_out")
    assert [(row["state"], row["right"], row["reply"]) for row in rows] == [
        ("judged", True, "True."),
        ("judged", False, "False."),
        ("no_answer", False, None),
        ("unparsable", None, "I think it is True"),
        ("no_answer", False, None),
    ]
    assert rows[0]["prompt_tokens"] == 10 and rows[2]["prompt_tokens"] is None
    metadata = read_metadata(place.folder / "judge" / "a" / "held_out.parquet")
    assert metadata["judge"] == "judge-1" and len(metadata["prompt_sha256"]) == 64
    # The server is gone now: everything comes from the record, byte for byte.
    files = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    again = place.run(capsys=capsys)
    assert again[:2] == (0, figures)
    assert "6 on record (100.0 %)" in again[2] and "replies" not in again[2]
    assert {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()} == files


def test_another_judge_or_prompt_is_asked_anew(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    script = ScriptedServer(truthful)
    prompt = place.folder / "mine.txt"
    shipped = (ROOT / "r1_searcher" / "judging" / "prompts" / "judge.txt").read_text(encoding="utf-8")
    prompt.write_text(shipped + " Be kind.", encoding="utf-8")
    with serving(script.app) as url:
        for changes, asked in (({}, 6), ({"model": "judge-2"}, 12), ({"prompt": str(prompt)}, 18), ({}, 18)):
            place.params(url, **changes)
            assert place.run(capsys=capsys)[0] == 0
            assert len(script.requests) == asked


def test_released_transcripts(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    script = ScriptedServer(lambda body, number: "True")
    with serving(script.app) as url:
        place.params(url)
        status, figures, _ = place.run(HAND_MADE, capsys=capsys)
    assert status == 0
    rows = [json.loads(line) for line in HAND_MADE.read_text(encoding="utf-8").splitlines()]
    verdicts = place.verdicts("hand_made_transcripts")
    assert len(verdicts) == len(rows) == figures["hand_made_transcripts"]["n"]
    assert [row["question_id"] for row in verdicts] == [str(number + 1) for number in range(len(rows))]
    assert all((row["state"] == "judged") == bool(row["prediction"]) for row in verdicts)


def test_a_server_that_fails_in_the_middle(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    good = ScriptedServer(lambda body, n: truthful(body) if "Gold" in _asked(body) else fault(500, "out of memory"))
    with serving(good.app) as url:
        place.params(url, concurrency=8)
        status, figures, said = place.run(capsys=capsys)
    assert status == 2
    assert "error: 2 of 6 answers were not judged; 2 of them: " in said and "out of memory" in said
    assert "run the same command again" in said
    assert figures["a/held_out"]["acc_l_missing"] == 2 and figures["b/held_out"]["acc_l_missing"] == 1
    assert figures["b/held_out"]["acc_l"] == 1.0
    assert [row["state"] for row in place.verdicts("b/held_out")] == ["judged"] * 3 + ["missing", "judged"]
    recovered = ScriptedServer(truthful)
    with serving(recovered.app) as url:
        place.params(url)
        status, figures, said = place.run(capsys=capsys)
    assert status == 0 and "4 on record (66.7 %)" in said
    assert sorted(map(_asked, (request for request in recovered.requests))) == ["odd", "wrong"]
    assert figures["a/held_out"]["acc_l_missing"] == 0


def _asked(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"]).split("Answer to grade: ")[1].splitlines()[0]


def test_nobody_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.params("http://127.0.0.1:9/v1", concurrency=2)
    status, figures, said = place.run(capsys=capsys)
    assert status == 2
    assert "6 of 6 answers were not judged" in said and "http://127.0.0.1:9/v1" in said
    assert figures == {name: {"n": 5} for name in ("a/held_out", "b/held_out")}  # absent, not zero
    assert not place.record.exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda body, n: fault(404, "The model does not exist."), "knows no model 'judge-1'"),
        (lambda body, n: fault(401, "no"), "refuses the key"),
    ],
)
def test_what_the_user_must_mend(
    place: Place, capsys: pytest.CaptureFixture[str], answer: Callable[..., Any], message: str
) -> None:
    with serving(ScriptedServer(answer).app) as url:
        place.params(url)
        status, _, said = place.run(capsys=capsys)
    assert status == 2 and message in said and "Traceback" not in said
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1


def test_no_judge(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.params("")
    status, _, said = place.run(capsys=capsys)
    assert status == 2 and "judge.server: no judge" in said
    assert not (place.folder / "judge").exists()


def test_places_that_cannot_be(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.params("http://127.0.0.1:9/v1")
    unasked = place.folder / "unasked.jsonl"
    unasked.write_text('{"answer": "a", "gen_text_store": "b"}\n')
    empty = place.folder / "empty"
    empty.mkdir()
    for given, message in (
        ([unasked], "unasked.jsonl, transcript 1: 'question' is missing"),
        ([empty], "no evaluation here"),
        ([place.folder / "nothing.parquet"], "no such file"),
        ([HAND_MADE, HAND_MADE], "two files are called hand_made_transcripts"),
    ):
        status, _, said = place.run(*given, capsys=capsys)
        assert status == 2 and message in said


def test_a_run_that_is_killed_has_lost_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    script = ScriptedServer(lambda body, number: truthful(body) if number < 3 else 60.0)
    with serving(script.app) as url:
        place.params(url, concurrency=1, timeout_seconds=100)
        command = [sys.executable, "-m", "stages.evaluate", "judge", str(place.folder / "evaluation"), *place.options()]
        environment = {**os.environ, "PYTHONPATH": ""}
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while len(script.requests) < 4:
                assert run.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            run.send_signal(signal.SIGKILL)
            run.wait()
    assert len(place.record.read_bytes().splitlines()) == 3
    rest = ScriptedServer(truthful)
    with serving(rest.app) as url:
        place.params(url)
        assert place.run(capsys=capsys)[0] == 0
    assert len(rest.requests) == 3


def test_the_summary_has_what_is_on_record(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    def judged(figures: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in figures.items() if name.startswith("acc_l")}

    place.params("")
    without, table = place.summary(capsys)
    assert not any(map(judged, without.values())) and "ACC_L" not in table
    with serving(ScriptedServer(truthful).app) as url:
        place.params(url)
        before, table = place.summary(capsys)  # a judge without requests has no verdicts
        assert before == without and "ACC_L" not in table
        place.run(place.folder / "evaluation" / "a", capsys=capsys)
    after, table = place.summary(capsys)  # the server is gone: no request is sent
    assert after["a"]["acc_l"] == 0.25 and after["a"]["acc_l_n"] == 4 and after["a"]["acc_l_unparsable"] == 1
    assert after["a"]["acc_l_judge"].startswith("judge-1, prompt ")
    assert len(after["a"]["acc_l_ci"]) == 2 and "ACC_L" in table and "0.250 [" in table
    assert judged(after["b"])["acc_l_missing"] == 3  # two of b's answers are also a's
    assert {name: value for name, value in after["a"].items() if name not in judged(after["a"])} == without["a"]
    place.params("http://127.0.0.1:9/v1", model="judge-2")
    assert place.summary(capsys)[0] == without
    place.params("")
    assert place.summary(capsys)[0] == without


def test_by_default_the_policies_of_the_parameters_are_judged(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation(place.folder / "evaluation" / "left_behind" / "held_out.parquet", "left_behind", ["something"])
    with serving(ScriptedServer(truthful).app) as url:
        place.params(url)
        options = [*place.options(), "--evaluation", str(place.folder / "evaluation")]
        assert main(["judge", *options, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"a/held_out", "b/held_out"}


def test_scoring_and_the_summary_load_no_client() -> None:
    code = (
        "import sys; from stages.evaluate.__main__ import main; main(sys.argv[1:]); sys.exit('openai' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "score", str(HAND_MADE)], cwd=ROOT, capture_output=True, check=False
    )
    assert run.returncode == 0
    light = "import sys, r1_searcher.evaluation.summary_commands; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], cwd=ROOT, check=False).returncode == 0
