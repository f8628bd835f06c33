"""The audit before training, on hand-made overlaps and a tiny index: its figures, its verdict, its one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

import r1_searcher.rollout
from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.run import benchmarks
from r1_searcher.files import artefacts
from r1_searcher.questions.audit import audit, findings
from r1_searcher.questions.audit import lines as shown_lines
from r1_searcher.questions.closed_book import closed_book
from r1_searcher.questions.coverage import coverage, evenly_spaced
from r1_searcher.questions.files import read_questions
from r1_searcher.questions.gold_answers import notes, script_warnings, unscorable
from r1_searcher.questions.overlap import grams, leakage, overlap
from r1_searcher.retrieval import build_index
from r1_searcher.texts import parse_yaml
from r1_searcher.transcripts.scripts import Scripts
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage
from stages.questions.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")

PASSAGES = [
    ("Silent Harbor", "Silent Harbor was made by Mara Velto."),
    ("Mara Velto", "Mara Velto was born in the town of Kolm."),
    ("Oak", "No other tree is like an oak."),
]
# Answers, titles, and the hits of a search for the question and of an oracle, with one passage each.
HOP_1 = ("Who made Silent Harbor?", ["Velto", "Mara Velto"], ["Silent Harbor"])
HOP_2 = ("Where was the maker of Silent Harbor born?", ["Kolm"], ["Silent Harbor", "Mara Velto"])
CLOSED = ("Is an oak no tree?", ["no"], ["Oak", "Elm"])
UNKNOWN: tuple[str, list[str], list[str]] = ("What is like an oak?", ["an other tree!"], [])


def table(*rows: tuple[str, list[str], list[str]]) -> pa.Table:
    named = [
        {"question_id": f"q{number}", "question": question, "answers": answers, "supporting_titles": titles}
        for number, (question, answers, titles) in enumerate(rows)
    ]
    return pa.Table.from_pylist(named, schema=schemas.QUESTIONS)


def asking(*questions: str) -> pa.Table:
    return table(*((question, ["x"], []) for question in questions))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters (k 1), an index and question splits, as the working directory."""
    monkeypatch.chdir(tmp_path)
    set_params()
    named = ("passage_id", "title", "text")
    rows = [dict(zip(named, (f"p{number}", *passage), strict=True)) for number, passage in enumerate(PASSAGES)]
    build_index(
        pa.Table.from_pylist(rows, schema=schemas.PASSAGES), params.shipped().index, tmp_path / "data/index", "test"
    )
    splits = {"train": table(HOP_1), "validation": table(HOP_2), "held_out": table(HOP_2, CLOSED, UNKNOWN)}
    for name, split in splits.items():
        artefacts.write_table(f"data/questions/{name}.parquet", split)
    return tmp_path


def set_params(**audit: Any) -> None:
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    raw["rollout"]["k"] = raw["evaluate"]["k"] = 1
    raw["audit"] |= audit
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


# --- leakage ------------------------------------------------------------------------------------


def test_three_measures_of_the_same_question() -> None:
    long = "in which year did the only brother of the painter leave the old town"
    splits = {
        "train": asking(
            "Who made Oak?", f"Tell me, {long} for good", "One two three four five six seven eight nine ten"
        ),
        "held_out": asking(
            "Who made Oak?",  # exact
            "who made OAK",  # the same words
            long,  # all of its n-grams, in a longer question
            "one two three four five six seven eight nine eleven",  # two of three 8-grams: below 0.7
            "Who made Elm?",  # shorter than an n-gram, and another question
            "made Oak",  # shorter than an n-gram: only the whole counts
        ),
    }
    found = leakage(splits, ngram=8, ngram_share=0.7)
    assert found == {"held_out": {"num_questions": 6, "exact": 1, "normalised": 2, "ngram": 3}}
    assert leakage(splits, ngram=8, ngram_share=0.6)["held_out"]["ngram"] == 4


def test_all_training_splits_are_one_pool_and_are_not_held_against_each_other() -> None:
    splits = {
        "train": asking("A b?"),
        "train_stage1": asking("C d?", "A b?"),
        "training": asking("C D"),
        "x": asking("a B!"),
    }
    found = leakage(splits, ngram=8, ngram_share=0.7)
    assert {name: shared["normalised"] for name, shared in found.items()} == {"training": 1, "x": 1}
    assert overlap(splits).keys() == {"training", "x"}


def test_supporting_titles_are_counted_where_both_sides_know_any() -> None:
    known = leakage({"train": table(HOP_1), "held_out": table(HOP_2, CLOSED)}, ngram=8, ngram_share=0.7)
    assert known["held_out"]["same_title"] == 1
    assert "same_title" not in leakage({"train": table(HOP_1), "x": asking("a")}, ngram=8, ngram_share=1)["x"]


def test_grams() -> None:
    assert grams("a b c", 2) == [("a", "b"), ("b", "c")]
    assert grams("a b", 2) == grams("a b", 5) == [("a", "b")]


def test_golds_that_nobody_can_match_are_noted_and_stop_nothing() -> None:
    golds = [["The", "..."], ["The", "Ann"], ["北京"], ["北京", "Beijing"], ["Ann"]]
    splits = {"train": table(*((f"Q {n}?", one, []) for n, one in enumerate(golds))), "x": asking("fine?")}
    found = unscorable(splits)
    assert found == {"train": {"empty": 1, "script": 1}}
    (empty,) = notes(found, {"train": 5})
    assert empty.startswith("1 of the 5 questions of train have only gold answers that normalise to nothing")
    (script,) = script_warnings(found, {"train": 5}, "paper")
    assert "1 of the 5 questions of train have only gold answers in a script that reward.scripts paper" in script
    assert unscorable({"x": asking("fine?")}) == {}


@pytest.mark.parametrize(
    ("question", "gold", "scripts", "found"),
    [
        ("黄山在哪里？", "安徽省", "paper", {"script": 1, "asked": 1}),
        ("黄山在哪里？", "Anhui", "paper", {"asked": 1}),
        ("黄山在哪里？", "安徽省", ("Han",), None),
        ("黄山在哪里？", "安徽省", "any", None),
        ("Где Байкал?", "Сибирь", "paper", None),
        ("Где Байкал?", "Сибирь", ("Latin",), {"script": 1, "asked": 1}),
        ("Where is Baikal?", "1984", ("Cyrillic",), {"asked": 1}),
    ],
)
def test_questions_that_the_rule_on_scripts_forbids_are_said_before_training(
    question: str, gold: str, scripts: Scripts, found: dict[str, int] | None
) -> None:
    splits = {"train": table((question, [gold], []))}
    assert unscorable(splits, scripts) == ({} if found is None else {"train": found})
    raw = parse_yaml((ROOT / "r1_searcher/params/defaults.yaml").read_text(), where="defaults")
    raw["reward"]["scripts"] = scripts if isinstance(scripts, str) else list(scripts)
    report = audit(splits, params.check(raw), None)
    said = [line for line in shown_lines(report) if line.startswith("warning:") and "reward.scripts" in line]
    assert len(said) == (found is not None)
    assert not report["findings"]  # training goes on


# --- coverage -----------------------------------------------------------------------------------


def test_what_searches_answer(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit"]) == 0
    found = artefacts.read_json("metrics/audit.json")["coverage"]
    assert found["train"] == {
        "num_questions": 1,
        "k": 1,
        "question": {"answer": 1.0, "titles": 1.0, "answerable": 1.0},
        "oracle": {"num_questions": 1, "answer": 1.0, "titles": 1.0, "answerable": 1.0},
    }
    # A search for the question finds one of two hops; one per title finds both.
    assert found["validation"]["question"] == {"answer": 0.0, "titles": 0.0, "answerable": 0.0}
    assert found["validation"]["oracle"]["answerable"] == 1.0
    # "no" in Oak's passage is no answer; there is no passage Elm; articles and case do not count.
    assert found["held_out"]["question"] == {"answer": 0.3333, "titles": 0.0, "answerable": 0.3333}
    assert found["held_out"]["oracle"] == {"num_questions": 2, "answer": 0.5, "titles": 0.5, "answerable": 0.5}
    assert "held_out: answerable 33.3% by a search for the question, 50.0% with oracle" in capsys.readouterr().out


class Shelf:
    """A retriever that finds all of three passages, and records its calls."""

    fingerprint = "shelf"

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], int]] = []

    def search(self, queries: Any, k: int) -> list[list[Passage]]:
        self.calls.append((list(queries), k))
        return [[Passage(title, title, text, 1.0) for title, text in PASSAGES][:k] for _ in queries]


def test_one_call_for_every_query_once_and_every_split_sees_its_own_k() -> None:
    shelf = Shelf()
    found = coverage({"train": table(HOP_2), "held_out": table(HOP_2, HOP_1)}, {"train": 1, "held_out": 2}, shelf)
    ((queries, k),) = shelf.calls
    assert k == 2 and sorted(queries) == sorted({HOP_1[0], HOP_2[0], "Silent Harbor", "Mara Velto"})
    assert [found[name]["question"]["titles"] for name in ("train", "held_out")] == [0.0, 1.0]


def test_a_sample_is_spaced_over_the_file() -> None:
    split = asking(*(f"q {number}" for number in range(10)))
    assert evenly_spaced(split, 4)["question"].to_pylist() == ["q 0", "q 2", "q 5", "q 7"]
    assert evenly_spaced(split, 10) is split


# --- the verdict --------------------------------------------------------------------------------


def test_findings_have_a_line_each() -> None:
    limits = params.load(ROOT / "r1_searcher/params/defaults.yaml").audit.model_copy(
        update={"max_overlap": 0.1, "min_coverage": 0.9}
    )
    report = {
        "overlap": {
            "clean": {"num_questions": 10, "normalised": 1, "ngram": 9},
            "leaky": {"num_questions": 10, "normalised": 2, "ngram": 2},
        },
        "coverage": {
            "enough": {"k": 2, "question": {"answerable": 0.0}, "oracle": {"answerable": 0.9}},
            "untold": {"k": 2, "question": {"answerable": 0.0}},
            "poor": {"k": 2, "question": {"answerable": 0.0}, "oracle": {"answerable": 0.89}},
        },
    }
    assert findings(report, limits) == [
        "2 of the 10 questions of leaky are asked in training too (20.0%; audit.max_overlap 10.0%)",
        "search can answer 89.0% of the questions of poor, with 2 passages per search (audit.min_coverage 90.0%)",
    ]


def test_a_warning_leaves_training_alone_and_stop_takes_its_verdict_away(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Path("data/audit/verdict.json")
    set_params(min_coverage=0.5)
    assert main(["audit"]) == 0
    assert artefacts.read_json("metrics/audit.json")["num_findings"] == 0
    clean = verdict.read_bytes()
    set_params(min_coverage=0.6)
    assert main(["audit"]) == 0
    warned = capsys.readouterr().out
    assert "warning: search can answer 50.0% of the questions of held_out" in warned
    assert verdict.read_bytes() == clean
    artefacts.write_table("data/questions/held_out.parquet", table(HOP_1))
    set_params(min_coverage=0.6, on_fail="stop")
    assert main(["audit"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: audit: 1 of the 1 questions of held_out are asked in training too (100.0%;")
    assert not verdict.exists()
    assert artefacts.read_json("metrics/audit.json")["num_findings"] == 1


def test_the_same_bytes_twice(project: Path) -> None:
    assert main(["audit"]) == 0
    first = Path("metrics/audit.json").read_bytes()
    assert main(["audit"]) == 0
    assert Path("metrics/audit.json").read_bytes() == first


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: Path("data/questions/train.parquet").unlink(), "data/questions/train.parquet: no training questions"),
        (lambda: artefacts.write_table("data/questions/x.parquet", table()), "data/questions/x.parquet: contains no"),
        (lambda: Path("data/index/meta.json").unlink(), "data/index: no index here"),
        (lambda: set_params(min_coverage=2), "params.yaml, audit.min_coverage"),
    ],
)
def test_faults(project: Path, spoil: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    spoil()
    assert main(["audit"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not Path("data/audit").exists()


def test_a_released_benchmark_is_held_against_the_training_splits(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefacts.write_table("data/benchmarks/extra/questions.parquet", table(HOP_1, HOP_2))
    artefacts.write_json("data/benchmarks/extra/search.json", {"index": "data/index"})
    command = ["audit", "--benchmark=data/benchmarks/extra", "--metrics=extra.json"]
    assert main(command) == 0
    found = artefacts.read_json("extra.json")
    assert found["overlap"].keys() == found["coverage"].keys() == {"extra"}
    assert found["overlap"]["extra"]["exact"] == 1 and found["coverage"]["extra"]["oracle"]["answerable"] == 1.0
    set_params(on_fail="stop")
    assert main(command) == 2
    assert "1 of the 2 questions of extra are asked in training too" in capsys.readouterr().err
    assert not Path("data/audit").exists()


@pytest.mark.parametrize("chosen", [{"kind": "online"}, {"searches": {"mode": "replay", "folder": ""}}])
def test_a_service_and_a_replay_are_not_searched(
    project: Path, chosen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["retriever"] |= chosen
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(["audit"]) == 0
    assert "coverage was not measured" in capsys.readouterr().out
    assert artefacts.read_json("metrics/audit.json").keys() == {"overlap", "findings", "num_findings"}
    assert Path("data/audit/verdict.json").exists()


def test_searches_of_the_audit_are_not_recorded(project: Path) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["retriever"]["searches"] = {"mode": "record", "folder": "record"}
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(["audit"]) == 0
    assert "coverage" in artefacts.read_json("metrics/audit.json")
    assert not Path("record").exists()


def test_overlap_alone_needs_no_index(project: Path) -> None:
    Path("data/index/meta.json").unlink()
    assert main(["audit", "--overlap-only"]) == 0
    assert "coverage" not in artefacts.read_json("metrics/audit.json")


def test_the_audit_loads_no_framework(project: Path) -> None:
    code = "import sys; from stages.questions.__main__ import main; main(['audit']); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'prefect')))"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert Path("metrics/audit.json").exists()


# --- under DVC ----------------------------------------------------------------------------------


def repro(stage: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "dvc", "repro", stage],
        env=os.environ
        | {"PATH": paths, "PYTHONPATH": str(ROOT), "DVC_SITE_CACHE_DIR": str(Path(".dvc/site").resolve())},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_training_waits_for_the_audit_and_is_not_made_anew_by_it(project: Path) -> None:
    """dvc.yaml's own audit, and its first segment with `touch` as its command: how DVC treats their dependencies."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    keep = ("data/audit", "data/questions", "data/index")
    deps = [dep for dep in stages["train"]["do"]["deps"] if dep.startswith(keep)]
    deps.append(params.shipped().train.segments["s1-00"].questions)
    audit = stages["audit"] | {"deps": [dep for dep in stages["audit"]["deps"] if dep.startswith(keep)]}
    trained = {"cmd": "echo >> trained.txt && touch policy", "deps": deps, "outs": ["policy"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"audit": audit, "train": trained}}), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], check=True)

    def lines() -> int:
        return len(Path("trained.txt").read_text().splitlines()) if Path("trained.txt").exists() else 0

    set_params(min_coverage=0.6, on_fail="stop")
    stopped = repro("train")
    assert stopped.returncode != 0 and lines() == 0
    assert "error: audit: search can answer 50.0% of the questions of held_out" in stopped.stderr
    set_params(min_coverage=0.6)
    assert repro("train").returncode == 0 and lines() == 1
    artefacts.write_table("data/questions/held_out.parquet", table(HOP_1, HOP_2))
    again = repro("train")
    assert again.returncode == 0 and "Running stage 'audit'" in again.stdout
    assert artefacts.read_json("metrics/audit.json")["num_findings"] == 1
    assert lines() == 1, "other figures and findings, the same verdict"


# --- the released sets --------------------------------------------------------------------------


@needs_data
def test_the_released_sets() -> None:
    """The release's training questions against its evaluation questions (docs/benchmarks.md has the table)."""
    read = {
        name: read_questions(DATA / f"r1searcher/{path}.jsonl")
        for name, path in (("train", "train/stage_2"), ("train_stage1", "train/stage_1"))
    }
    sizes = {"hotpotqa_500": 500, "2wiki_500": 500, "musique_500": 500, "bamboogle": 125}
    read |= {name: read_questions(DATA / f"r1searcher/eval/{name}.jsonl") for name in sizes}
    found = leakage(read, ngram=8, ngram_share=0.7)
    by_form = {"2wiki_500": 4}  # questions of 2Wiki's templates, about other things
    assert found == {
        name: {"num_questions": number, "exact": 0, "normalised": 0, "ngram": by_form.get(name, 0)}
        for name, number in sizes.items()
    }


def test_closed_book_is_greedy_and_may_not_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def roll_out(engine: Any, retriever: Any, questions: pa.Table, rollout: Any, **how: Any) -> Any:
        how.pop("told")(len(asked), 4)
        asked.append(how)
        rows = questions.to_pylist()
        answers = ["in Kolm", "Kolm", None, "Rome"][: len(rows)]
        rows = [row | {"answer": answer, "answers": ["Kolm"]} for row, answer in zip(rows, answers, strict=True)]
        return pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS), {}

    monkeypatch.setattr(r1_searcher.rollout, "roll_out", roll_out)
    splits = {"train": asking("a", "b", "c", "d", "e", "f", "g", "h")}
    rollout = params.load(ROOT / "r1_searcher/params/defaults.yaml").rollout
    found = closed_book(None, splits, rollout, number=4)  # type: ignore[arg-type]
    assert found == {"train": {"num_questions": 4, "em": 0.25, "cover_em": 0.5}}
    assert asked == [{"samples": 1, "seed": 0, "greedy": True, "mode": "no_search"}]


def test_two_training_sets_in_the_releases_layout(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hand-made rows as in the release: both sets are for training, and neither is a benchmark."""
    rows = {
        "stage_1": [{"idx": 7, "question": "Who is A?", "answer": "Ann", "pred_anses": ["", " Ann "]}],
        "stage_2": [{"idx": 1, "question": "who is a", "answer": "Ann", "gen_text_store": ""}],
        "hotpotqa_500": [{"idx": 1, "question": "Who is B?", "answer": "Bob", "gen_text_store": ""}],
        "bamboogle": [{"idx": 1, "question": "WHO is A", "answer": "Ann", "gen_text_store": ""}],
    }
    for name, lines in rows.items():
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    splits = {"train": "stage_2", "train_stage1": "stage_1", "validation": "hotpotqa_500", "held_out": "bamboogle"}
    raw["questions"] |= {"source": "files", "files": {name: f"{file}.jsonl" for name, file in splits.items()}}
    for stage in ("stage1", "stage2"):
        raw["train"][stage]["questions_an_iteration"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main([]) == 0
    assert "train_stage1," not in capsys.readouterr().out.partition("note")[2]
    (first,) = artefacts.read_table("data/questions/train_stage1.parquet", schemas.QUESTIONS).to_pylist()
    assert (first["question_id"], first["answers"], first["dataset"]) == ("stage_1-7", ["Ann"], "stage_1")
    assert benchmarks(Path("data/questions")).keys() == {"held_out"}
    assert main(["audit", "--overlap-only"]) == 0
    found = artefacts.read_json("metrics/audit.json")["overlap"]
    assert {name: shared["normalised"] for name, shared in found.items()} == {"validation": 0, "held_out": 1}


def test_an_unknown_policy(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--policy", "nowhere"]) == 2
    assert "nowhere: no such model folder" in capsys.readouterr().err
    with pytest.raises(PipelineError, match="no such file"):
        artefacts.read_json("data/audit/closed_book.json")
