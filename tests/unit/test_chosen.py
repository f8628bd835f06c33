"""Names chosen in params.yaml: known, or one line; own parameters under the chosen name, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Point
from r1_searcher.params.chosen import Extensible

MINE = """
from pydantic import BaseModel
from r1_searcher.extensions import Point

thing = Point("thing", "thing", "r1_searcher.nothing_ships_here", "part.kind").register

class Size(BaseModel):
    words: int = 5

@thing("sized", parameters=Size)
def sized(parameters):
    return parameters.words

@thing("plain")
def plain():
    return 0
"""


class Part(Extensible):
    points: ClassVar = {"kind": Point("thing", "thing", "r1_searcher.nothing_ships_here", "part.kind")}
    section: ClassVar = "part"
    kind: str
    number: int = 1


@pytest.fixture
def mine(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return (str(path),)


def part(extensions: tuple[str, ...], **given: Any) -> Part:
    return Part.model_validate({"extensions": extensions, **given})


def test_own_parameters_are_given_checked_and_written_again(mine: tuple[str, ...]) -> None:
    made = part(mine, kind="sized", sized={"words": 3})
    found = made.found("kind")
    assert found.value(made.parameters_of("kind")) == 3
    assert made.model_dump() == {"kind": "sized", "number": 1, "sized": {"words": 3}}
    assert [path.name for path in made.chosen_files()] == ["mine.py"]


def test_own_parameters_have_their_models_defaults(mine: tuple[str, ...]) -> None:
    made = part(mine, kind="sized")
    assert made.found("kind").value(made.parameters_of("kind")) == 5
    assert made.model_dump() == {"kind": "sized", "number": 1}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "sizd"}, "no thing 'sizd'.*known: plain, sized"),
        ({"kind": "sized", "sized": {"words": "many"}}, "part.sized.words"),
        ({"kind": "sized", "sized": {"word": 3}}, "part.sized.word"),
        ({"kind": "plain", "plain": {"words": 3}}, "takes no parameters"),
    ],
)
def test_what_is_wrong_is_one_line(given: dict[str, Any], said: str, mine: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        part(mine, **given)
    assert "\n" not in str(raised.value)


def test_parameters_of_a_name_that_is_not_chosen_are_an_unknown_key(mine: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="sized"):
        part(mine, kind="plain", sized={"words": 3})


def test_a_field_of_the_section_is_never_taken_for_a_name(mine: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError, match="no thing 'number'"):
        part(mine, kind="number", number=2)
