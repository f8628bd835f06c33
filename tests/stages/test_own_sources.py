"""Sources of the user's own: passages and questions that one function in one file gives; and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.files import artefacts, passages
from stages.corpus.__main__ import main as make_corpus

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
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
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
        (YIELD, 'yield "same", letter, letter', "mine.py, passage 2: passage id 'same' occurs a second time"),
        (YIELD, 'yield "", letter, "\\ud800"', "mine.py, passage 1: 'text' is no valid Unicode"),
        (YIELD, "yield 1 / 0", "mine.py, line 11: the corpus source 'alphabet' raised ZeroDivisionError"),
        (YIELD, "return 1 / 0", "mine.py, line 11: the corpus source 'alphabet' raised ZeroDivisionError"),
        (YIELD, "return 3", "must give passages to iterate over, got 3"),
        (YIELD, "return []", "mine.py: the corpus is empty"),
        (YIELD, "if False: yield", "mine.py: the corpus is empty"),
        ("letters: int = 3", "letters: int", "corpus.alphabet.letters: Field required"),
        ('"alphabet", p', '"alphabets", p', "corpus.source: no corpus source 'alphabet' (known: alphabets, contexts"),
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
