"""A user's sources: passages and questions from one function in one file; and their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.files import artefacts, passages
from r1_searcher.types import schemas
from stages.corpus.__main__ import main as make_corpus
from stages.questions.__main__ import main as make_questions

ROOT = Path(__file__).resolve().parents[2]

CORPUS = """
from pydantic import BaseModel
from r1_searcher.extend import corpus_source

class Alphabet(BaseModel):
    letters: int = 3

@corpus_source("alphabet", parameters=Alphabet)
def alphabet(request, parameters):
    for letter in "abcdefgh"[:parameters.letters]:
        yield "", letter.upper(), f"{letter} is a letter"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1SEARCHER_STORE", str(tmp_path / "store"))
    return tmp_path


def use(text: str, section: str, **changes: Any) -> None:
    Path("mine.py").write_text(text)
    raw = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    raw[section] |= changes
    Path("params.yaml").write_text(yaml.safe_dump({**raw, "extensions": ["mine.py"]}))


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_a_corpus_of_the_users_own(project: Path) -> None:
    use(CORPUS, "corpus", source="alphabet", alphabet={"letters": 5}, rows_a_part=2)
    assert make_corpus([]) == 0
    table = passages.read("data/corpus")
    assert table["title"].to_pylist() == list("ABCDE") and set(table["source"].to_pylist()) == {"alphabet"}
    assert len(set(table["passage_id"].to_pylist())) == 5
    report = artefacts.read_json("data/corpus/report.json")
    assert (report["source"], report["passages"], report["kept"], report["facts"]) == ("alphabet", 5, 5, 0)
    assert report["files"][0]["file"] == "mine.py"


def test_its_repeated_and_empty_passages_are_left_out_and_counted(project: Path) -> None:
    more = '    yield "", "A", "a is a letter"\n    yield "", "Z", "  "\n    yield "given", "Y", "y"\n'
    use(CORPUS + more, "corpus", source="alphabet")
    assert make_corpus([]) == 0
    report = artefacts.read_json("data/corpus/report.json")
    assert (report["read"], report["kept"]) == (6, 4)
    assert report["skipped"] == {"repeated_passage": 1, "empty_text": 1}
    assert report["files"][0]["examples"]["empty_text"] == ["mine.py, passage 5: Z"]
    assert passages.read("data/corpus")["passage_id"].to_pylist()[-1] == "given"


YIELD = 'yield "", letter.upper(), f"{letter} is a letter"'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (YIELD, "yield letter", "mine.py, passage 1: must be (id, title, text), got 'a'"),
        (YIELD, 'yield "", letter, 3', "mine.py, passage 1: 'text' must be a string, got 3"),
        (YIELD, 'yield 3.5, letter, "x"', "mine.py, passage 1: 'id' must be a string or a whole number"),
        (YIELD, 'yield "same", letter, letter', "mine.py, passage 2: passage id 'same' is a duplicate"),
        (YIELD, 'yield "", letter, "\\ud800"', "mine.py, passage 1: 'text' is not valid Unicode"),
        (YIELD, "yield 1 / 0", "mine.py, line 11: the corpus source 'alphabet' raised ZeroDivisionError"),
        (YIELD, "return 1 / 0", "mine.py, line 11: the corpus source 'alphabet' raised ZeroDivisionError"),
        (YIELD, "return 3", "must give passages to iterate over, got 3"),
        (YIELD, "return []", "mine.py: the corpus is empty"),
        (YIELD, "if False: yield", "mine.py: the corpus is empty"),
        ("letters: int = 3", "letters: int", "corpus.alphabet.letters: Field required"),
        ('"alphabet", p', '"alphabets", p', "corpus.source: no corpus source 'alphabet' (known: "),
        ("class Alphabet", "1 / 0\nclass Alphabet", "mine.py, line 5: raised when it was imported: ZeroDivisionError"),
    ],
)
def test_a_bad_corpus_is_one_line_and_the_old_one_stays(
    old: str, new: str, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in CORPUS
    Path("data/corpus").mkdir(parents=True)
    Path("data/corpus/old").touch()
    use(CORPUS.replace(old, new), "corpus", source="alphabet")
    assert make_corpus([]) == 2
    assert said in error_line(capsys)
    assert [path.name for path in Path("data").rglob("*")] == ["corpus", "old"]


QUESTIONS = """
from r1_searcher.extend import question_source

@question_source("sums")
def sums(request, parameters):
    def asked(split, number):
        return {"question": f"What is {number} + {number}, in {split}?", "answer": 2 * number}
    return {split: [asked(split, number) for number in range(20)] for split in ("train", "validation", "held_out")}
"""


def test_questions_of_the_users_own(project: Path) -> None:
    use(QUESTIONS, "questions", source="sums")
    assert make_questions([]) == 0
    table = artefacts.read_table("data/questions/validation.parquet", schemas.QUESTIONS)
    assert table.slice(3, 1).select(["question_id", "question", "answers", "dataset"]).to_pylist() == [
        {
            "question_id": "sums_validation-4",
            "question": "What is 3 + 3, in validation?",
            "answers": ["6"],
            "dataset": "sums_validation",
        }
    ]
    report = artefacts.read_json("data/questions/report.json")
    assert report["source"] == "sums" and report["splits"]["train"]["num_questions"] == 20


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"answer": 2 * number',
            '"answer": True',
            "mine.py, train: 20 rows cannot be used: 1: 'answer' must be a string or a list of strings",
        ),
        (
            '"answer": 2 * number',
            '"answer": ""',
            "mine.py, train: 20 rows cannot be used: 1: 'answer' contains no answer; 2: 'answer' contains",
        ),
        (
            '{"question"',
            '{"id": "same", "question"',
            "mine.py, train: 19 rows cannot be used: 2: question id 'same' is a duplicate",
        ),
        ('return {"question"', 'return "x"; {"question"', "mine.py, train 1: must be a mapping with question and"),
        ('f"What', '"\\ud800" f"What', "mine.py, train 1: is not valid Unicode"),
        ("range(20)", "range(0)", "mine.py, train: no question"),
        ("range(20)", "range(3)", "3 questions, but an iteration of training asks 16"),
        ('"held_out")', '"test")', "mine.py, line 4: no questions for held_out (needed: train, validation, held_out"),
        ('"held_out")', '"held_out", "../x")', "gives a split '../x' is not a valid name"),
        ("    def asked", "    return 3\n\n    def asked", "must return questions by split, got 3"),
        ("    def asked", "    1 / 0\n\n    def asked", "line 6: the question source 'sums' raised ZeroDivisionError"),
    ],
)
def test_bad_questions_are_one_line_and_the_old_ones_stay(
    old: str, new: str, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in QUESTIONS
    Path("data/questions").mkdir(parents=True)
    Path("data/questions/old").touch()
    use(QUESTIONS.replace(old, new), "questions", source="sums")
    assert make_questions([]) == 2
    assert said in error_line(capsys)
    assert [path.name for path in Path("data").rglob("*")] == ["questions", "old"]
