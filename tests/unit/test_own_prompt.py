"""Prompts from a user's file: chosen by name in training and per mode in evaluation, and in the keys by their text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import stage_code
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.run import rollout_of
from r1_searcher.params import SHIPPED, Params, check
from r1_searcher.params.profiles import compose
from r1_searcher.points import PROMPTS
from r1_searcher.rollout.prompt import load_prompt, prompt_of
from r1_searcher.training import chain

ROOT = Path(__file__).resolve().parents[2]
BASE = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
STAGES = stage_code.stages_of((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
OWN = """
from r1_searcher.extend import prompt

@prompt("brief")
def brief():
    return "Answer in one word.\\nQ: {question}\\n<think>\\n"

@prompt("system")
def system():
    return "Answer in one word."
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def chosen(own: str, **rollout: Any) -> Params:
    return check(compose(BASE, {"extensions": [own], "rollout": rollout}))


def test_a_prompt_of_the_users_is_rendered_like_one_that_ships(own: str) -> None:
    prompt = prompt_of(chosen(own, prompt="brief").rollout)
    assert prompt.render("Who?") == "Answer in one word.\nQ: Who?\n<think>"
    assert prompt.name == "brief" and not prompt.is_chat
    assert load_prompt("system", [own]).is_chat
    assert load_prompt("short", [own]) == load_prompt("short")


def test_an_unknown_name_lists_shipped_and_own_ones(own: str) -> None:
    known = f"known: {', '.join(sorted([*PROMPTS.names(), 'brief', 'system']))}; "
    for given, where in (({"rollout": {"prompt": "breif"}}, "rollout.prompt"), (PER_MODE, "evaluate.prompts")):
        with pytest.raises(PipelineError) as raised:
            check(compose(BASE, {"extensions": [own]} | given))
        assert f"{where}: no prompt 'breif'" in str(raised.value) and known in str(raised.value)


PER_MODE = {"evaluate": {"prompts": {"no_search": "breif"}}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    return None", r"own\.py, line 3: the prompt 'mine' returned a NoneType, and no text"),
        ("    return 1 / 0", r"own\.py, line 5: the prompt 'mine' raised ZeroDivisionError"),
        ("    return ' '", r"own\.py, line 3: the prompt is empty"),
        ("    return 'Q: {question}'", r"own\.py, line 3: a prompt with \{question\} must end in <think>"),
    ],
)
def test_what_is_no_template_is_one_line(tmp_path: Path, body: str, said: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"from r1_searcher.extend import prompt\n\n@prompt('mine')\ndef mine():\n{body}\n")
    with pytest.raises(PipelineError, match=said) as raised:
        prompt_of(chosen(str(path), prompt="mine").rollout)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("'short'", r"own\.py: the prompt 'short' is registered already, in r1_searcher/rollout/prompts/short\.txt"),
        ("'mine', parameters=int", r"own\.py, line 3: raised when it was imported: TypeError: .*'parameters'"),
    ],
)
def test_a_taken_name_and_parameters_are_refused(tmp_path: Path, given: str, said: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"from r1_searcher.extend import prompt\n\n@prompt({given})\ndef mine():\n    return 'Hello.'\n")
    with pytest.raises(PipelineError, match=said):
        chosen(str(path), prompt="mine")


def test_the_tool_and_the_prompt_open_share_a_name_and_the_tool_has_the_parameters() -> None:
    rollout = check(
        compose(BASE, {"rollout": {"prompt": "open", "tools": ["search", "open"], "open": {"calls": 1}}})
    ).rollout
    assert rollout.parameters_of("tools", "open").calls == 1  # type: ignore[union-attr]
    assert "begin_of_open" in prompt_of(rollout).template
    with pytest.raises(PipelineError, match=r"rollout\.open: takes no parameters: open"):
        check(compose(BASE, {"rollout": {"prompt": "open", "open": {"calls": 1}}}))


def test_a_mode_has_its_own_in_evaluation(own: str) -> None:
    params = check(compose(BASE, {"extensions": [own], "evaluate": {"prompts": {"no_search": "brief"}}}))
    assert prompt_of(rollout_of(params, "no_search")).template.startswith("Answer in one word.")
    assert prompt_of(rollout_of(params, "search")) == load_prompt("short")


def rollouts_key(params: Params) -> str:
    name = next(iter(params.train.segments))
    roots = chain.Roots(policy="p", trainer_state=None, retriever="i", questions="q")
    return chain.chain_keys(params, params.train.segments[name], roots, chain.room_code())[0].rollouts


def test_keys_hold_its_text_and_nothing_of_one_that_is_not_chosen(own: str) -> None:
    plain = rollouts_key(check(BASE))
    assert rollouts_key(chosen(own, prompt="short")) == plain
    params = chosen(own, prompt="brief")
    before = rollouts_key(params)
    assert before != plain
    Path(own).write_text(OWN + "# a comment\n")
    assert rollouts_key(params) == before
    Path(own).write_text(OWN.replace("one word", "two words"))
    assert rollouts_key(params) != before


def test_stages_depend_on_the_file_of_the_chosen_prompt_and_on_no_other(own: str, tmp_path: Path) -> None:
    def prompts(params: Params, stage: str) -> list[str]:
        listed = stage_code.code_of(STAGES[stage], ROOT, params)
        return [path for path in listed if "rollout/prompts/" in path or path.startswith(str(tmp_path))]

    short, file = "r1_searcher/rollout/prompts/short.txt", tmp_path / "mine.txt"
    file.write_text("{question} <think>")
    per_mode = check(compose(BASE, {"evaluate": {"prompts": {"ircot": "ircot"}}}))
    for stage in ("base_model", "base_metrics", "train"):
        assert prompts(check(BASE), stage) == prompts(per_mode, stage) == [short], stage
        assert prompts(chosen(own, prompt="brief"), stage) == [own], stage
        assert prompts(chosen(own, prompt=str(file)), stage) == [str(file)], stage
    assert prompts(per_mode, "evaluate") == ["r1_searcher/rollout/prompts/ircot.txt", short]
    assert prompts(chosen(own, prompt="brief"), "corpus") == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["inputs/prompts/mine.txt", "data/mine.txt", "/elsewhere/mine.txt"])
def test_a_path_is_written_into_dvc_yaml_once_and_taken_out_again(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, is_file = (ROOT / "dvc.yaml").read_text(encoding="utf-8"), Path.is_file
    text = stage_code.rewritten(text, ROOT, check(BASE))
    monkeypatch.setattr(Path, "is_file", lambda path: str(path).endswith(place) or is_file(path))
    params = check(compose(BASE, {"rollout": {"prompt": place}}))
    written = stage_code.rewritten(text, ROOT, params)
    assert stage_code.stages_of(written)["train"]["deps"].count(place) == 1
    assert stage_code.rewritten(written, ROOT, params) == written
    if not place.startswith("data/"):  # this folder belongs to the stages
        assert stage_code.rewritten(written, ROOT, check(BASE)) == text


def test_a_missing_file_is_said_before_dvc_says_that_a_dependency_is_missing() -> None:
    params = check(compose(BASE, {"rollout": {"prompt": "inputs/prompts/none.txt"}}))
    with pytest.raises(PipelineError, match=r"rollout\.prompt: no prompt 'inputs/prompts/none\.txt' \(known: .*base"):
        stage_code.code_of(STAGES["train"], ROOT, params)
