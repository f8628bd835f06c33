"""Released benchmarks from files to a summary: questions, a corpus of their own, every policy, one table.

The file is hand-made, the index is real, the policies are scripts. At the end the released files themselves, if present
(R1SEARCHER_DATA).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tiny_models import random_encoder
from tiny_policy import ScriptedEngine

import r1_searcher.rollout
from r1_searcher import params as contract
from r1_searcher.benchmarks.fetch import fetch
from r1_searcher.benchmarks.make import make_corpus, make_questions
from r1_searcher.benchmarks.releases import Release, known, release_of
from r1_searcher.files import sums
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, sha256_file, write_json
from r1_searcher.files.store import ROOT_VARIABLE, Store
from r1_searcher.retrieval import open_index
from r1_searcher.retrieval.bm25 import read_meta
from r1_searcher.types.schemas import EVALUATION, PASSAGES, QUESTIONS
from stages.benchmarks.__main__ import main as benchmarks
from stages.evaluate.__main__ import main as evaluate

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
FOLDERS = [str(DATA / name) for name in ("r1searcher/eval", "hotpotqa_dev500", "hippo_train100")]

HARBOR = {"title": "Silent Harbor", "paragraph_text": "A film by Ada Kolm.", "is_supporting": True}
ADA = {"title": "Ada Kolm", "paragraph_text": "Ada Kolm was born in Trabo.", "is_supporting": True}
OTHER = {"title": "Bridge", "paragraph_text": "A bridge over a river.", "is_supporting": False}
RIVER = OTHER | {"is_supporting": True}
ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Where was Ada born?", "answer": "Trabo", "answer_aliases": ["Port Trabo"],
     "paragraphs": [HARBOR, ADA, OTHER]},
    {"id": "b", "question": "Who made Silent Harbor?", "answer": "Ada Kolm", "paragraphs": [OTHER, HARBOR]},
    {"id": "c", "question": "What goes over a river?", "answer": "a bridge", "paragraphs": [RIVER]},
]  # fmt: skip
SEARCHES = "<|begin_of_query|> born <|end_of_query|> </think> <answer> in Port Trabo </answer>"
GUESSES = "</think> <answer> Ada Kolm </answer>"


def register(release: Release) -> None:
    """The benchmark ``made``, in a user's file."""
    Path("made.py").write_text(
        "from r1_searcher.benchmarks.releases import Release\nfrom r1_searcher.extend import benchmark\n\n"
        f"@benchmark('made')\ndef made(name):\n    return {release!r}\n"
    )


def made() -> Release:
    return release_of("made", ["made.py"])


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The file as it is published."""
    path = tmp_path / "mirror" / "made_by_hand.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


@pytest.fixture
def project(tmp_path: Path, released: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose parameters name the hand-made benchmark ``made``, and two policies that are scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "store"))
    release = Release(
        "made",
        "by hand",
        released.name,
        "http://127.0.0.1:9",
        sha256_file(released),
        released.stat().st_size,
        3,
        "none",
        True,
    )
    register(release)
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    raw["extensions"] = ["made.py"]
    raw["benchmarks"] |= {
        "mirrors": [str(released.parent)],
        "corpora": ["made"],
        "sets": {"made": {"index": "data/benchmarks/made/index"}},
    }
    raw["rollout"] |= {"max_turn_tokens": 300, "max_total_tokens": 2000}
    raw["evaluate"]["policies"] = {"base": "data/base", "stage2": "data/final"}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    for name in ("base", "final"):
        write_json(f"data/{name}/manifest.json", {"sha256": name, "step": 0})

    def load_engine(policy: Path, rollout: contract.Rollout) -> ScriptedEngine:
        return ScriptedEngine({row["question"]: SEARCHES if policy.name == "final" else GUESSES for row in ROWS})

    monkeypatch.setattr(r1_searcher.rollout, "load_engine", load_engine)
    return tmp_path


def make_all() -> None:
    assert benchmarks(["corpus", "made"]) == 0
    assert benchmarks(["questions", "made"]) == 0
    for policy in ("base", "stage2"):
        assert evaluate(["benchmark", "made", "--name", policy]) == 0


def test_questions_keep_aliases_gold_titles_and_what_they_are_searched_in(project: Path) -> None:
    make_all()
    folder = Path("data/benchmarks/made")
    rows = read_table(folder / "questions.parquet", QUESTIONS).to_pylist()
    assert [row["question_id"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["answers"], rows[0]["supporting_titles"]) == (
        ["Trabo", "Port Trabo"],
        ["Silent Harbor", "Ada Kolm"],
    )
    assert {row["dataset"] for row in rows} == {"made"}
    search = read_json(folder / "search.json")
    assert all(sums.check_single(folder / name) for name in ("questions.parquet", "search.json"))
    assert search == {"index": "data/benchmarks/made/index", "content": read_meta(Path(search["index"]))["content"]}


def test_a_benchmark_that_is_searched_by_vectors_names_them(project: Path) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    model = random_encoder(project / "model")
    raw["index"]["dense"] |= {"model": str(model), "query_prefix": "", "passage_prefix": "", "device": "cpu"}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert benchmarks(["corpus", "made"]) == benchmarks(["questions", "made"]) == 0
    folder = Path("data/benchmarks/made")
    vectors = read_json(folder / "index/dense/meta.json")["fingerprint"]
    assert read_json(folder / "search.json")["dense"] == vectors


def with_sets(**sets: dict[str, Any]) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["benchmarks"]["sets"] |= sets
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def test_questions_of_ones_own_with_an_index_of_their_own(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_all()
    corpus = Path("data/benchmarks/made/index").rename("our-index")
    question = ROWS[0]["question"]
    Path("ours.tsv").write_text(f"{question}\tin Port Trabo\nWho else?\tNobody\n")
    with_sets(ours={"index": str(corpus), "questions": "ours.tsv", "columns": {"question": 1, "answers": 2}})
    assert benchmarks(["questions", "ours"]) == 0
    assert "benchmark ours: 2 questions, searched in our-index" in capsys.readouterr().out
    assert read_json("data/benchmarks/ours/search.json")["index"] == "our-index"
    asked = read_table("data/benchmarks/ours/questions.parquet", QUESTIONS).to_pylist()
    assert [(row["question"], row["answers"], row["dataset"]) for row in asked] == [
        (question, ["in Port Trabo"], "ours"),
        ("Who else?", ["Nobody"], "ours"),
    ]
    Path("ours.tsv").write_text(f"{question}\tin Port Trabo\n")
    assert benchmarks(["questions", "ours"]) == 0
    assert evaluate(["benchmark", "ours", "--name", "stage2"]) == 0
    assert read_table("data/benchmark_evaluation/ours/stage2/ours.parquet")["em"].to_pylist() == [1.0]
    Path("ours.tsv").unlink()
    capsys.readouterr()
    assert benchmarks(["questions", "ours"]) == 2
    said = capsys.readouterr().err
    assert "ours.tsv: no such file" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"our-own": {"index": "i", "questions": "q.tsv"}}, "benchmarks.*sets.our-own: a benchmark's name has no -"),
        ({"bamboogle": {"index": "i", "questions": "q.tsv"}}, "this is a released benchmark; give your own questions"),
        ({"ours": {"index": "i"}}, "ours"),
        ({"made": {"index": "i", "columns": {"question": 1}}}, "columns is for a file of your own"),
        ({"ours": {"index": "i", "questions": "q;rm"}}, "not a path that is safe in commands"),
    ],
)
def test_a_set_that_cannot_be_is_one_line(
    project: Path, sets: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_sets(**sets)
    assert benchmarks(["questions", "made"]) == 2
    shown = capsys.readouterr().err
    assert re.search(said, shown) and shown.count("\n") == 1


def test_the_corpus_has_every_paragraph_once_and_its_index_finds_them(project: Path) -> None:
    make_all()
    passages = read_table("data/benchmarks/made/corpus/passages.parquet", PASSAGES)
    assert passages["title"].to_pylist() == ["Silent Harbor", "Ada Kolm", "Bridge"]
    assert set(passages["source"].to_pylist()) == {"made"}
    index = open_index("data/benchmarks/made/index", corpus="data/benchmarks/made/corpus")
    assert index.search(["born"], 1)[0][0].title == "Ada Kolm"


def test_passage_ids_do_not_depend_on_the_order_of_the_questions(project: Path, released: Path) -> None:
    found = []
    for order in (ROWS, ROWS[::-1], ROWS[:1]):
        released.write_text("".join(f"{json.dumps(row)}\n" for row in order))
        make_corpus(made(), released, contract.shipped().index, Path("out"))
        table = read_table("out/corpus/passages.parquet", PASSAGES)
        found.append(dict(zip(table["title"].to_pylist(), table["passage_id"].to_pylist(), strict=True)))
    assert found[0] == found[1] == found[2]


def test_every_policy_is_evaluated_and_one_table_shows_all_with_intervals(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_all()
    path = Path("data/benchmark_evaluation/made/stage2/made.parquet")
    rows = read_table(path, EVALUATION).to_pylist()
    assert [row["em"] for row in rows] == [0, 0, 0] and [row["cover_em"] for row in rows] == [1, 0, 0]  # by the alias
    card = read_metadata(path)["card"]
    assert (card["benchmark"], card["num_questions"]) == ("made", 3)
    assert card["corpus"] == sha256_file("data/benchmarks/made/corpus/passages.parquet")

    # Write the questions of the corpus beside it, as in the pipeline.
    Path("data/questions").mkdir()
    os.link("data/benchmarks/made/questions.parquet", "data/questions/held_out.parquet")
    given = ["--index", "data/benchmarks/made/index", "--corpus", "data/benchmarks/made/corpus"]
    assert evaluate(["all", *given]) == 0
    assert read_json("data/benchmark_evaluation/policies.json") == {"base": "data/base", "stage2": "data/final"}
    capsys.readouterr()
    assert evaluate(["summary"]) == 0
    summary = read_json("metrics/evaluation.json")
    headline = read_json("metrics/headline/made/stage2.json")
    assert headline["em"] == summary["stage2"]["made"]["em"] and "em_ci" not in headline
    assert {policy: set(row) for policy, row in summary.items()} == {
        "base": {"held_out", "made"},
        "stage2": {"held_out", "made"},
    }
    assert {key: value for key, value in summary["stage2"]["made"].items() if key in ("n", "em", "cover_em")} == {
        "n": 3, "em": 0, "cover_em": 0.333333
    }  # fmt: skip
    figures = summary["base"]["made"]
    rates = {name for name, value in figures.items() if isinstance(value, float)}
    assert "em" in rates and {f"{name}_ci" for name in rates} == {name for name in figures if name.endswith("_ci")}
    said = capsys.readouterr().out
    assert "made       stage2  3  0.000 [0.000, 0.000]  0.333 [0.000, 1.000]" in said


def test_a_killed_evaluation_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_all()
    path = Path("data/benchmark_evaluation/made/stage2/made.parquet")
    whole = path.read_bytes()
    text = Path("params.yaml").read_text()
    text = text.replace("seed: 0", "seed: 1").replace("batch_questions: 200", "batch_questions: 1")
    Path("params.yaml").write_text(text)
    asked: list[str] = []
    roll_out = r1_searcher.rollout.roll_out

    def until_killed(engine: Any, retriever: Any, questions: pa.Table, *given: Any, **settings: Any) -> Any:
        if len(asked) == 2:
            asked.append("killed")
            raise KeyboardInterrupt
        asked.extend(questions["question_id"].to_pylist())
        return roll_out(engine, retriever, questions, *given, **settings)

    monkeypatch.setattr(r1_searcher.rollout, "roll_out", until_killed)
    assert evaluate(["benchmark", "made", "--name", "stage2"]) == 130
    assert path.read_bytes() == whole  # the old content stays until the new one is whole
    assert evaluate(["benchmark", "made", "--name", "stage2"]) == 0
    assert asked == ["a", "b", "killed", "c"]
    rows = read_table(path, EVALUATION).to_pylist()
    assert [row["question_id"] for row in rows] == ["a", "b", "c"]
    path.unlink()
    assert evaluate(["benchmark", "made", "--name", "stage2"]) == 0  # nothing is recomputed
    assert read_table(path, EVALUATION).to_pylist() == rows and len(asked) == 4
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("k: 2", "k: 1"))
    assert evaluate(["benchmark", "made", "--name", "stage2"]) == 0  # another protocol: everything is
    assert asked[4:] == ["a", "b", "c"]


def test_a_summary_leaves_out_what_the_parameters_no_longer_name(project: Path) -> None:
    make_all()
    for policy in ("base", "stage2"):
        Path("data/evaluation").mkdir(exist_ok=True)
        Path("data/evaluation", policy).symlink_to(Path("data/benchmark_evaluation/made", policy).resolve())
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["benchmarks"]["sets"] = {}
    del raw["evaluate"]["policies"]["base"]
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert evaluate(["summary"]) == 0
    assert {policy: list(row) for policy, row in read_json("metrics/evaluation.json").items()} == {"stage2": ["made"]}


def test_only_so_many_questions(project: Path, released: Path) -> None:
    make_all()
    number = make_questions(made(), released, "data/benchmarks/made/index", 2, Path("out"))
    assert number == 2 and read_table("out/questions.parquet", QUESTIONS)["question_id"].to_pylist() == ["a", "b"]


def spoil_line(path: Path) -> None:
    path.write_text(path.read_text().replace('"answer": "Ada Kolm", ', ""))


def broken_line(path: Path) -> None:
    path.write_text(path.read_text().replace('{"id": "c"', '{"id": "c'))


def one_missing(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "broken",
    [
        (spoil_line, "made_by_hand.jsonl, line 2: column 'answers' is missing"),
        (broken_line, "made_by_hand.jsonl, line 3: not JSON"),
        (one_missing, "holds 2 questions, not the 3 of the release"),
    ],
)
def test_a_broken_file_names_its_line(
    released: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: tuple[Any, str]
) -> None:
    make_all()
    spoil, said = broken
    spoil(released)
    spoilt = Release(
        "made",
        "by hand",
        released.name,
        "http://127.0.0.1:9",
        sha256_file(released),
        released.stat().st_size,
        3,
        "none",
        True,
    )
    register(spoilt)
    capsys.readouterr()
    assert benchmarks(["questions", "made"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (benchmarks, ["questions", "hotpot"], "no released benchmark 'hotpot' (known: "),
        (benchmarks, ["questions", "bamboogle"], "the benchmark bamboogle is not selected for evaluation"),
        (benchmarks, ["questions", "made"], "data/benchmarks/made/index/meta.json: no such file"),
        (evaluate, ["benchmark", "bamboogle", "--name", "base"], "unknown benchmark 'bamboogle' (known: made)"),
        (evaluate, ["benchmark", "made", "--name", "stage3"], "unknown policy 'stage3' (known: base, stage2)"),
        (evaluate, ["benchmark", "made", "--name", "base"], "data/benchmarks/made/search.json: no such file"),
    ],
)
def test_what_is_not_there_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], command: Any, arguments: list[str], said: str
) -> None:
    assert command(arguments) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_a_benchmark_without_paragraphs_makes_no_corpus(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = Release(
        "made",
        "",
        "made_by_hand.jsonl",
        "http://127.0.0.1:9",
        made().sha256,
        made().num_bytes,
        3,
        "none",
    )
    register(bare)
    assert benchmarks(["corpus", "made"]) == 2
    assert "made has no paragraphs to search" in capsys.readouterr().err


def test_fetch_lays_copies_into_a_folder(project: Path, released: Path) -> None:
    assert benchmarks(["fetch", "made", "--out", "inputs/benchmarks"]) == 0
    assert Path("inputs/benchmarks/made_by_hand.jsonl").read_bytes() == released.read_bytes()


needs_data = pytest.mark.skipif(
    not all(Path(folder).is_dir() for folder in FOLDERS), reason=f"the released files are not in {DATA}"
)


@needs_data
@pytest.mark.parametrize("name", known())
def test_released_files_are_as_pinned(name: str, tmp_path: Path) -> None:
    from r1_searcher.questions.files import read_questions

    release = release_of(name)
    questions = read_questions(fetch(release, FOLDERS, Store(tmp_path)))
    assert questions.num_rows == release.num_questions
    assert any(map(any, questions["supporting_titles"].to_pylist())) == release.contexts


@needs_data
def test_hotpotqa_with_contexts_has_every_gold_passage(tmp_path: Path) -> None:
    release = release_of("hotpotqa_contexts")
    source = fetch(release, FOLDERS, Store(tmp_path / "store"))
    settings = contract.parse((ROOT / "r1_searcher/params/defaults.yaml").read_text()).index
    meta = make_corpus(release, source, settings, tmp_path)
    assert meta["num_passages"] == 4858
    make_questions(release, source, str(tmp_path / "index"), 1000, tmp_path)
    gold = read_table(tmp_path / "questions.parquet", QUESTIONS)["supporting_titles"].to_pylist()
    titles = set(read_table(tmp_path / "corpus/passages.parquet", PASSAGES)["title"].to_pylist())
    assert len(gold) == 500 and all(len(row) == 2 and titles.issuperset(row) for row in gold)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return Release(", "return 3; Release(", "the benchmark 'made' must return a Release, got 3"),
        ("name='made'", "name='other'", "must give its Release the name that it is called with, not 'other'"),
        ("sha256='", "sha256='x", "must have a sha256 of 64 hex digits"),
        ("file='", "file='../", "must have the name of a file, no path"),
        ("num_questions=3", "num_questions='3'", "must have whole numbers of bytes and questions"),
        ("return", "1 / 0\n    return", "made.py, line 6: the benchmark 'made' raised ZeroDivisionError"),
        ("'made'", "'hotpotqa'", "the released benchmark 'hotpotqa' is registered already"),
    ],
)
def test_a_bad_definition_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    text = Path("made.py").read_text()
    assert old in text
    Path("made.py").write_text(text.replace(old, new))
    assert benchmarks(["corpus", "made"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1 and "made.py" in message
    assert not Path("data/benchmarks").exists()


def test_the_list_names_the_users_own_last(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks(["list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[::2]]
    assert names == [*known(), "made"]
