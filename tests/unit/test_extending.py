"""docs/extending.md: it has a heading per extension point, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from r1_searcher import extend
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import names_in, own_parameters
from r1_searcher.files.artefacts import sha256_file
from r1_searcher.params.reading import check
from r1_searcher.points import CORPUS_SOURCES, POINTS, PROMPTS, QUESTION_SOURCES, RETRIEVERS
from r1_searcher.rollout.prompt import load_prompt

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


EXAMPLES = re.findall(r'^```python title="(.*?)"\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL)
CHOICES = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]


FILES = {name: str(ROOT / name) for name, _ in EXAMPLES}


def test_every_example_is_the_file_that_it_names() -> None:
    for name, text in EXAMPLES:
        assert text == (ROOT / name).read_text(encoding="utf-8"), name
    shown = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for profile in (ROOT / "examples").glob("*/profile.yaml"):
        extensions = yaml.safe_load(profile.read_text(encoding="utf-8")).get("extensions", [])
        assert not set(extensions) & FILES.keys() or profile.read_text(encoding="utf-8") in shown, profile


def test_every_extension_point_has_a_section_with_its_decorator() -> None:
    assert len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 1 + len(POINTS)
    for point in POINTS:
        assert hasattr(extend, point.decorator)
        assert f"`{point.decorator}`" in PAGE or f"@{point.decorator}(" in PAGE, point.decorator


def test_every_example_is_imported_and_registers_something() -> None:
    assert len(FILES) == len(EXAMPLES) > 2
    for file in FILES.values():
        found = [point.find(name, [file]) for point in POINTS for name in names_in(Path(file), point.decorator)]
        assert found and all(callable(one.value) for one in found)


def test_what_is_chosen_is_there_and_takes_its_parameters() -> None:
    """By the sections of params.yaml themselves: names, and their own parameters."""
    whole = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    assert len(CHOICES) > 1
    for choice in CHOICES:
        extensions = [FILES[name] for name in choice.pop("extensions")]
        changed = {key: {**whole[key], **given} for key, given in choice.items()}
        params = check(whole | changed | {"extensions": extensions})
        for key, given in changed.items():
            section = getattr(params, key)
            assert {name: given[name] for name in section.own} == dict(section.own)
            if not section.own:  # prompts, and the source of questions, have no parameters of their own
                point, name = {"rollout": (PROMPTS, "prompt"), "questions": (QUESTION_SOURCES, "source")}[key]
                assert given[name] in set(point.names(extensions)) - set(point.names())
                continue
            own = next(iter(section.own))
            with pytest.raises(PipelineError, match="misspelt"):
                check(whole | {key: {**given, own: {**given[own], "misspelt": 1}}, "extensions": extensions})


def test_the_retriever_searches(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("Ann wrote Fog\nBob was born in Oslo\nAnn was born in Rome\n")
    found = RETRIEVERS.find("lines", [FILES["examples/own_retriever/own_retriever.py"]])
    parameters = own_parameters(found, {"file": tmp_path / "facts.txt"}, where="retriever.lines")
    kind = found.value(settings=None, index=tmp_path, parameters=parameters)
    texts = [[passage.text for passage in passages] for passages in kind.search(["Where was Ann born", "who"], 2)]
    assert texts == [["Ann was born in Rome", "Bob was born in Oslo"], []]
    assert kind.identify().fingerprint == sha256_file(tmp_path / "facts.txt")


def test_the_prompt_is_a_template() -> None:
    text = load_prompt("by_example", [FILES["examples/own_prompt/own_prompt.py"]]).render("Who?")
    assert text.endswith(
        "<answer> James Joyce </answer>\nQuestion: Where was James Joyce born?\n<answer> Dublin </answer>"
        "\n\nQuestion: Who?\n<think>"
    )
    assert text == load_prompt(str(ROOT / "examples/own_prompt/prompt.txt")).render("Who?")


def test_the_corpus_has_passages() -> None:
    found = CORPUS_SOURCES.find("squares", [FILES["examples/own_corpus/own_corpus.py"]])
    made = list(found.value(None, own_parameters(found, {"up_to": 3}, where="corpus.squares")))
    assert made[-1] == ("", "The square of 3", "3 times 3 is 9.")
