"""docs/extending.md: it has a heading per extension point, and its example is what it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from r1_searcher import extend
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import own_parameters
from r1_searcher.points import POINTS, REWARD_SETS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}.*?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_extension_point_has_a_section_with_its_decorator() -> None:
    assert len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 1 + len(POINTS)
    for point in POINTS:
        assert hasattr(extend, point.decorator)
        assert f"`{point.decorator}`" in PAGE or f"@{point.decorator}(" in PAGE, point.decorator


def test_the_example_registers_what_its_parameters_choose(tmp_path: Path) -> None:
    chosen = yaml.safe_load(block("yaml"))
    place = tmp_path / chosen["extensions"][0]
    place.write_text(block("python"), encoding="utf-8")
    assert REWARD_SETS.file(chosen["reward"]["set"], [str(place)]) == place


def test_the_example_is_imported_and_takes_its_parameters(tmp_path: Path) -> None:
    chosen = yaml.safe_load(block("yaml"))
    place = tmp_path / chosen["extensions"][0]
    place.write_text(block("python"), encoding="utf-8")
    name = chosen["reward"]["set"]
    found = REWARD_SETS.find(name, [str(place)])
    parameters = own_parameters(found, chosen["reward"][name], where="reward.brevity")
    assert parameters is not None and parameters.model_dump() == {"per_word": 0.02}
    with pytest.raises(PipelineError, match="per_wrod"):
        own_parameters(found, {"per_wrod": 1}, where="reward.brevity")


def test_the_example_is_python() -> None:
    ast.parse(block("python"))
