"""A user's kind of retriever: one class in one file, searched, recorded and identified like the built-in ones; and any
fault of it gives one line or one query's failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params, check
from r1_searcher.retrieval import identify, open_retriever
from r1_searcher.retrieval.retrievers import is_lasting, kind_property
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError, search_each, windows_of

ROOT = Path(__file__).resolve().parents[2]
RAW = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text())

OWN = """
from pydantic import BaseModel
from r1_searcher.extend import retriever
from r1_searcher.types.protocols import Passage
from r1_searcher.types.retriever_kind import Identity, RetrieverKind

class Greeting(BaseModel):
    word: str = "hello"

@retriever("greeting", parameters=Greeting)
class Greetings(RetrieverKind):
    def identify(self):
        return Identity("version 1", "nothing", "greets")

    def open(self, corpus, take):
        return self

    def search(self, queries, k):
        return [self.answer(query, k) for query in queries]

    def answer(self, query, k):
        return [Passage("p0", query, f"{self.parameters.word} {query}", 1.0)]
"""


def own(folder: Path, text: str = OWN, **retriever: object) -> Params:
    path = folder / "mine.py"
    path.write_text(text)
    section = {**RAW["retriever"], "kind": "greeting", **retriever}
    return check({**RAW, "extensions": [str(path)], "retriever": section})


def opened(folder: Path, text: str = OWN, **retriever: object) -> Retriever:
    return open_retriever(own(folder, text, **retriever), index=folder)


def test_it_searches_with_its_own_parameters(tmp_path: Path) -> None:
    found = opened(tmp_path, greeting={"word": "bye"}).search(["Ann", "Bob"], 2)
    assert found == [[Passage("p0", name, f"bye {name}", 1.0)] for name in ("Ann", "Bob")]


def test_a_kind_says_what_others_ask_of_it(tmp_path: Path) -> None:
    own_kind = own(tmp_path, OWN.replace("(RetrieverKind):", "(RetrieverKind):\n    vectors = True")).retriever
    shipped = own_kind.model_copy(update={"kind": "service"})
    asked = ("lasting", "vectors", "remote")
    assert [kind_property(own_kind, name) for name in asked] == [True, True, False]
    assert [kind_property(shipped, name) for name in asked] == [False, False, True]


def test_its_fingerprint_is_of_file_parameters_and_what_it_says(tmp_path: Path) -> None:
    first = own(tmp_path)
    name = identify(first, index=tmp_path).fingerprint
    assert open_retriever(first, index=tmp_path, fingerprint=name).fingerprint == name
    others = {
        identify(own(tmp_path, greeting={"word": "bye"}), index=tmp_path).fingerprint,
        identify(own(tmp_path, OWN.replace("version 1", "version 2")), index=tmp_path).fingerprint,
        identify(own(tmp_path, OWN + "# changed\n"), index=tmp_path).fingerprint,
    }
    assert len(others | {name}) == 4
    assert identify(own(tmp_path), index=tmp_path).fingerprint == name


def test_a_file_that_changes_under_a_run_is_refused(tmp_path: Path) -> None:
    name = identify(own(tmp_path), index=tmp_path).fingerprint
    with pytest.raises(PipelineError, match="the retriever has changed since this run began"):
        open_retriever(own(tmp_path, OWN + "# changed\n"), index=tmp_path, fingerprint=name)


def test_one_that_does_not_last_is_recorded_and_replayed(tmp_path: Path) -> None:
    fleeting = OWN.replace("    def identify", "    lasting = False\n\n    def identify")
    searches = {"mode": "auto", "folder": str(tmp_path / "searches")}
    settings = own(tmp_path, fleeting, searches=searches)
    assert not is_lasting(settings.retriever) and is_lasting(own(tmp_path).retriever)
    found = opened(tmp_path, fleeting, searches=searches).search(["Ann"], 2)
    replay = opened(tmp_path, fleeting, searches={**searches, "mode": "replay"})
    assert replay.search(["Ann"], 2) == found
    with pytest.raises(PipelineError, match="no recorded search for 'Bob'"):
        replay.search(["Bob"], 2)


def test_it_is_unknown_without_its_file_and_its_parameters_are_checked(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"retriever\.kind: no retriever kind 'greeting' \(known: .*bm25, .*dense, .*hybrid"
    ):
        check({**RAW, "retriever": {**RAW["retriever"], "kind": "greeting"}})
    with pytest.raises(PipelineError, match=r"retriever\.greeting\.words"):
        own(tmp_path, greeting={"words": "x"})
    with pytest.raises(PipelineError, match=r"retriever\.greeting.*unknown parameter"):
        own(tmp_path, kind="bm25", greeting={"word": "x"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("class Greetings(RetrieverKind)", "class Greetings", "not a subclass of RetrieverKind"),
        (
            'return Identity("version 1", "nothing", "greets")',
            "1 / 0",
            r"mine\.py, line 13: identify .* raised Zero",
        ),
        ('return Identity("version 1", "nothing", "greets")', 'return "x"', "must return an Identity of three strings"),
        ("return self\n", "return open('/nowhere/x')\n", r"mine\.py, line 16: open .* raised FileNotFoundError"),
        ("return self\n", "return 3\n", r"must return something that has search\(queries, k\), got 3"),
        ("def open(", "def opened(", "Can't instantiate abstract class Greetings"),
    ],
)
def test_a_broken_class_is_one_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in OWN
    with pytest.raises(PipelineError, match=said) as raised:
        opened(tmp_path, OWN.replace(old, new))
    assert "\n" not in str(raised.value) and "mine.py" in str(raised.value)


ANSWER = '[Passage("p0", query, f"{self.parameters.word} {query}", 1.0)]'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("1 / 0", r"mine\.py, line 22: ZeroDivisionError"),
        ("None", "must give a query a list of Passage"),
        ('["text"]', "must give a query a list of Passage"),
        ('[Passage("p0", query, 3, 1.0)]', "must give a query a list of Passage"),
        ('[Passage("p0", query, "text", float("nan"))]', "must give a query a list of Passage"),
        ('[Passage("p0", query, "text", 1.0)] * (k + 1)', "3 passages, not at most 2"),
    ],
)
def test_a_bad_answer_is_that_querys_failure_alone(answer: str, said: str, tmp_path: Path) -> None:
    assert ANSWER in OWN
    one = opened(tmp_path, OWN.replace(ANSWER, f'({answer}) if query == "bad" else {ANSWER}'))
    before, bad, after = search_each(one, ["Ann", "bad", "Bob"], 2)
    assert [before, after] == [[Passage("p0", name, f"hello {name}", 1.0)] for name in ("Ann", "Bob")]
    assert isinstance(bad, RetrieverError)
    with pytest.raises(RetrieverError, match=said):
        one.search(["bad"], 2)


@pytest.mark.parametrize("wrong", ["None", "'text'", "[[]]", "3"])
def test_what_is_no_list_for_each_query_fails_them_all(wrong: str, tmp_path: Path) -> None:
    one = opened(tmp_path, OWN.replace("return [self.answer(query, k) for query in queries]", f"return {wrong}"))
    assert all(isinstance(entry, RetrieverError) for entry in search_each(one, ["Ann", "Bob"], 2)[:1])
    if wrong != "[[]]":
        with pytest.raises(RetrieverError, match=r"mine\.py"):
            one.search(["Ann", "Bob"], 2)


IDENTIFY = """
import sys
from pathlib import Path
from r1_searcher.errors import PipelineError
from r1_searcher.params import shipped
from r1_searcher.retrieval import identify
try:
    identify(shipped(), index=Path("nowhere"))
except PipelineError:
    print(*(name for name in sys.modules if name.startswith("r1_searcher.retrieval.")))
"""


def test_only_the_chosen_kind_is_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IDENTIFY], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.removeprefix("r1_searcher.retrieval.") for name in ran.stdout.split()}
    assert "kinds.bm25" in loaded
    others = {*(f"kinds.{kind}" for kind in ("dense", "hybrid", "online", "service")), "online", "dense", "remote"}
    assert loaded & {*others, "extension", "online.client", "remote.client"} == set()


AROUND = """
    def around(self, passage, before, after):
        return [Passage(f"p{number}", passage.title, "text", 0) for number in range(before + 1 + after)]
"""


def test_it_may_have_windows_too(tmp_path: Path) -> None:
    asked = Passage("p0", "Ann", "hello Ann", 1.0)
    assert windows_of(opened(tmp_path)) is None
    windows = windows_of(opened(tmp_path, OWN + AROUND))
    assert windows is not None
    assert windows.around(asked, 1, 0) == [Passage(f"p{number}", "Ann", "text", 0.0) for number in (0, 1)]
    for old, new, said in (
        ("before + 1", "before + 2", "around gave 3 passages, not at most 2"),
        ('"text"', "None", "around must give a list of Passage"),
        ("return [", "raise KeyError(1)\n        return [", "KeyError: 1"),
    ):
        faulty = windows_of(opened(tmp_path, OWN + AROUND.replace(old, new)))
        assert faulty is not None
        with pytest.raises(RetrieverError, match=said):
            faulty.around(asked, 1, 0)
