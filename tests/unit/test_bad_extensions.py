"""Everything chosen by name: a faulty user file gives one line with the place, when parameters are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_origin

import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Point
from r1_searcher.params import SHIPPED, Params, check
from r1_searcher.params.profiles import compose
from r1_searcher.params.whole import extensible_sections
from r1_searcher.points import POINTS

BASE = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
NO_PARAMETERS = {"benchmark", "prompt"}


class Choice(NamedTuple):
    """What is chosen, and where: ``reward.set`` among the reward sets."""

    section: str
    field: str
    point: Point

    def form(self, name: str) -> Any:
        """Return ``name`` in the form that the field has."""
        section: Any = Params.model_fields[self.section].annotation
        form = get_origin(section.model_fields[self.field].annotation)
        if form is dict:
            return {"no_search": name} if self.field == "prompts" else {name: {"index": "data/index"}}
        if form is None:
            return name
        return ["search", name] if self.field == "tools" else [name]


CHOICES = [
    Choice(section, field, point)
    for section in extensible_sections()
    for field, point in Params.model_fields[section].annotation.points.items()  # type: ignore[union-attr]
]
IDS = [f"{one.section}.{one.field}" for one in CHOICES]
every_choice = pytest.mark.parametrize("choice", CHOICES, ids=IDS)


def own(folder: Path, point: Point, *, name: str = "mine", before: str = "", behind: str = "") -> str:
    """Return a file that registers ``name``, with a model where the point has parameters."""
    model = "" if point.decorator in NO_PARAMETERS else ", parameters=Own"
    path = folder / "own.py"
    path.write_text(
        "from pydantic import BaseModel\n"
        f"from r1_searcher.extend import {point.decorator}\n{before}\n"
        "class Own(BaseModel):\n    words: int = 5\n"
        f"@{point.decorator}({name!r}{model})\nclass Mine: ...\n{behind}\n"
    )
    return str(path)


def choose(file: str, choice: Choice, name: str = "mine", **given: Any) -> Params:
    """Return the built-in parameters with ``name`` chosen, plus further values."""
    changed = {choice.field: choice.form(name), **given}
    return check(compose(BASE, {"extensions": [file], choice.section: changed}))


def test_every_extension_point_is_chosen_somewhere() -> None:
    assert {point.decorator for _, _, point in CHOICES} == {point.decorator for point in POINTS}


@every_choice
def test_what_is_right_is_taken(choice: Choice, tmp_path: Path) -> None:
    file = own(tmp_path, choice.point)
    assert Path(file) in set(getattr(choose(file, choice), choice.section).chosen_files(choice.field))


@every_choice
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"before": "1 / 0"}, ", line 3: raised when it was imported: ZeroDivisionError"),
        ({"behind": "import nowhere"}, ", line 8: raised when it was imported: ModuleNotFoundError: .*'nowhere'"),
        ({"behind": "raise ValueError('two\\nlines')"}, ", line 8: raised when it was imported: ValueError: two"),
        ({"behind": "raise SystemExit(0)"}, ", line 8: raised when it was imported: SystemExit: 0"),
        ({"behind": "del Mine"}, ": the file was imported, but did not register the .* 'mine'"),
        ({"behind": "def"}, ", line 8: not valid Python"),
    ],
    ids=["raises", "imports what is not there", "says two lines", "exits", "is taken away", "is not Python"],
)
def test_a_file_that_cannot_be_imported(choice: Choice, how: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=rf"own\.py{said}") as raised:
        choose(own(tmp_path, choice.point, **how), choice)
    assert "\n" not in str(raised.value)


@every_choice
def test_a_name_that_is_taken_names_both_files(choice: Choice, tmp_path: Path) -> None:
    name = choice.point.names()[0]
    said = rf"own\.py: the {choice.point.noun} '.*' is registered already, in r1_searcher/"
    with pytest.raises(PipelineError, match=said):
        choose(own(tmp_path, choice.point, name=name), choice, name)


@every_choice
def test_an_unknown_name_says_where_and_lists_all_known_ones(choice: Choice, tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as raised:
        choose(own(tmp_path, choice.point), choice, "none")
    known = ", ".join(sorted([*choice.point.names(), "mine"]))
    where = f"{choice.section}.{choice.field}"
    assert str(raised.value).startswith(f"{where}: no {choice.point.noun} 'none' (known: {known}; ")


@every_choice
@pytest.mark.parametrize(
    ("given", "said"),
    [({"words": "many"}, r"words: .*integer"), ({"word": 3}, r"word: "), (3, r"mine: .*"), ([], r"mine: .*")],
    ids=["of the wrong type", "unknown", "a number", "a list"],
)
def test_wrong_parameters_of_its_own_name_the_key(choice: Choice, given: Any, said: str, tmp_path: Path) -> None:
    if choice.point.decorator in NO_PARAMETERS:
        said = "mine: takes no parameters: mine"
    with pytest.raises(PipelineError, match=rf"^{choice.section}\.(mine\.)?{said}") as raised:
        choose(own(tmp_path, choice.point), choice, mine=given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("int", r"own\.py, line 7: raised when it was imported: TypeError: .*pydantic model, got <class 'int'>"),
        ("{'words': int}", r"own\.py, line 7: raised when it was imported: TypeError: .*pydantic model"),
        ("Picky", r"own\.py, line 6: the parameters of 'mine' raised KeyError: 'words'"),
    ],
)
def test_a_model_that_is_none_or_raises_is_one_line(model: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from pydantic import BaseModel, model_validator\nfrom r1_searcher.extend import reward_set\n"
        "class Picky(BaseModel):\n    @model_validator(mode='before')\n    def look(cls, raw):\n"
        f"        return raw['words']\n@reward_set('mine', parameters={model})\ndef mine(case, parameters): ...\n"
    )
    with pytest.raises(PipelineError, match=said):
        choose(str(path), CHOICES[IDS.index("reward.set")])


@pytest.mark.parametrize("decorator", sorted(NO_PARAMETERS))
def test_what_takes_no_parameters_says_so_at_its_decorator(decorator: str, tmp_path: Path) -> None:
    choice = next(one for one in CHOICES if one.point.decorator == decorator)
    path = Path(own(tmp_path, choice.point))
    path.write_text(path.read_text().replace("'mine')", "'mine', parameters=Own)"))
    with pytest.raises(PipelineError, match=r"own\.py, line 6: raised when it was imported: TypeError: .*parameters"):
        choose(str(path), choice)
