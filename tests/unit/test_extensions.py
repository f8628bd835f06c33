"""Extension points: names are read without importing, and any fault of a user's file gives one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Point, names_in, own_parameters

POINT = Point("thing", "thing", "r1_searcher.nothing_ships_here", "some.parameter")
HEAD = "from r1_searcher.extensions import Point\nthing = Point('thing', 'thing', 'x', 'y').register\n"


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(HEAD + text)
    return str(path)


def test_only_the_file_of_the_selected_name_is_imported(tmp_path: Path) -> None:
    good = write(tmp_path, "@thing('a')\ndef a():\n    return 1\n")
    other = write(tmp_path, "@thing('b')\ndef b(): ...\nraise RuntimeError('imported')\n", "other.py")
    assert POINT.names([good, other]) == ["a", "b"]
    assert POINT.find("a", [good, other]).value() == 1


def test_one_function_may_have_two_names(tmp_path: Path) -> None:
    place = write(tmp_path, "@thing('a')\n@thing('b')\ndef both():\n    return 1\n")
    assert POINT.find("a", [place]).value is POINT.find("b", [place]).value


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    place = write(tmp_path, "@thing('a')\ndef a(): ...\n")
    with pytest.raises(PipelineError, match=r"no thing 'c'.*known: a"):
        POINT.find("c", [place])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@thing('a')\ndef a(): ...\n1 / 0\n", r"raised when it was imported: ZeroDivisionError.*"),
        ("@thing('a')\ndef a(): ...\ndel a\n", "was imported, but did not register"),
        ("@thing('a')\ndef a(: ...\n", "not valid Python"),
        ("@thing('a'.upper())\ndef a(): ...\n", "not a string literal"),
        ("@thing('a')\ndef a(): ...\n@thing('a')\ndef b(): ...\n", "registered twice"),
    ],
)
def test_a_broken_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        POINT.find("a", [write(tmp_path, text)])
    assert "\n" not in str(raised.value) and "mine.py" in str(raised.value)
    assert not any(name.startswith("r1_searcher_extension_mine") for name in sys.modules if text.startswith("1 /"))


def test_the_line_of_an_import_error_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="line 5"):
        POINT.find("a", [write(tmp_path, "@thing('a')\ndef a(): ...\n1 / 0\n")])


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"extensions.*none\.py"):
        names_in(tmp_path / "none.py", "thing")


def test_a_taken_name_names_both_files(tmp_path: Path) -> None:
    one = write(tmp_path, "@thing('a')\ndef a(): ...\n", "one.py")
    two = write(tmp_path, "@thing('a')\ndef a(): ...\n", "two.py")
    with pytest.raises(PipelineError, match=r"registered already, in .*one.py") as raised:
        POINT.names([one, two])
    assert "two.py" in str(raised.value)


def test_a_changed_file_is_imported_anew(tmp_path: Path) -> None:
    place = write(tmp_path, "@thing('a')\ndef a():\n    return 1\n")
    assert POINT.find("a", [place]).value() == 1
    write(tmp_path, "@thing('a')\ndef a():\n    return 2\n")  # of the same size, and usually in the same second
    assert POINT.find("a", [place]).value() == 2
    assert not (tmp_path / "__pycache__").exists()


def test_own_parameters_are_checked(tmp_path: Path) -> None:
    text = (
        "from pydantic import BaseModel\nclass Limit(BaseModel):\n    words: int\n"
        "@thing('a', parameters=Limit)\ndef a(): ...\n"
    )
    found = POINT.find("a", [write(tmp_path, text)])
    assert own_parameters(found, {"words": 3}, where="some.a").words == 3  # type: ignore[union-attr]
    for given, said in (({"words": "x"}, "some.a.words"), ({"word": 3}, "some.a.word"), (None, "some.a.words")):
        with pytest.raises(PipelineError, match=said):
            own_parameters(found, given, where="some.a")


def test_what_takes_no_parameters_refuses_them(tmp_path: Path) -> None:
    found = POINT.find("a", [write(tmp_path, "@thing('a')\ndef a(): ...\n")])
    assert own_parameters(found, None, where="some.a") is None
    with pytest.raises(PipelineError, match="takes no parameters"):
        own_parameters(found, {"x": 1}, where="some.a")
