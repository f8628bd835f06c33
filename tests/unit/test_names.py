"""Parameters that reach a shell or a path are names or plain paths, wherever dvc.yaml puts them."""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher import names, params
from r1_searcher.errors import PipelineError
from r1_searcher.params import SHIPPED, profiles

ROOT = Path(__file__).resolve().parents[2]
RAW = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))

HOSTILE = ("a; touch x", "$(touch x)", "`x`", "../../victim", "a b", "a\nb", "a'b", "-o", "", "a|b", "a>b", "${seed}")
SEGMENT = {"stage": "stage1", "prev": "data/base_model", "iterations": 1, "iteration_offset": 0, "questions": "q"}

# Every value that dvc.yaml takes from the parameters as text, and how to set it.
TAKEN: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "train.segments key": lambda raw, text: raw["train"].update(segments={text: SEGMENT}),
    "train.segments prev": lambda raw, text: raw["train"]["segments"]["s1-00"].update(prev=text),
    "train.segments questions": lambda raw, text: raw["train"]["segments"]["s1-00"].update(questions=text),
    "train.segments stage": lambda raw, text: raw["train"]["segments"]["s1-00"].update(stage=text),
    "train.segments iterations": lambda raw, text: raw["train"]["segments"]["s1-00"].update(iterations=text),
    "difficulty.label key": lambda raw, text: raw["difficulty"].update(label={text: {"policy": "p", "questions": "q"}}),
    "difficulty.label policy": lambda raw, text: raw["difficulty"].update(
        label={"a": {"policy": text, "questions": "q"}}
    ),
    "difficulty.label questions": lambda raw, text: raw["difficulty"].update(
        label={"a": {"policy": "p", "questions": text}}
    ),
    "difficulty.mixes key": lambda raw, text: raw["difficulty"].update(mixes={text: {"questions": "q", "counts": {}}}),
    "difficulty.mixes questions": lambda raw, text: raw["difficulty"].update(
        mixes={"a": {"questions": text, "counts": {}}}
    ),
    "benchmarks.corpora item": lambda raw, text: raw["benchmarks"].update(corpora=[text]),
    "benchmarks.sets key": lambda raw, text: raw["benchmarks"].update(sets={text: {"index": "data/index"}}),
    "benchmarks.sets index": lambda raw, text: raw["benchmarks"].update(sets={"a": {"index": text}}),
    "evaluate.policies key": lambda raw, text: raw["evaluate"].update(policies={text: "data/base_model"}),
}
# Names of files and folders that no command of dvc.yaml contains.
ALSO: dict[str, Callable[[dict[str, Any], str], object]] = {
    "profile": lambda raw, text: raw.update(profile=text),
    "questions.files key": lambda raw, text: raw["questions"].update(files={text: "a.jsonl"}),
}


def taken_by_dvc() -> set[str]:
    """Return where dvc.yaml takes text from the parameters, named as in TAKEN."""
    found = set()
    for block in DVC["stages"].values():
        for taken in re.findall(r"\$\{(key|item|item\.\w+)\}", str(block)):
            if "matrix" in block:
                found.add(f"{block['matrix'][taken.removeprefix('item.')][2:-1]} key")
            else:
                found.add(f"{block['foreach'][2:-1]} {taken.removeprefix('item.')}")
    return found


def test_each_value_that_dvc_takes_is_here() -> None:
    assert taken_by_dvc() == set(TAKEN)


@pytest.mark.parametrize("where", [*TAKEN, *ALSO])
def test_text_with_a_meaning_of_its_own_is_refused(where: str) -> None:
    for text in HOSTILE:
        raw = copy.deepcopy(RAW)
        ({**TAKEN, **ALSO}[where])(raw, text)
        with pytest.raises(PipelineError, match=re.escape(where.split(maxsplit=1)[0])) as caught:
            params.check(raw)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["/models/Qwen2.5-7B", "data/../data/index", "./a+b@c=d,e", "models/jörg"])
def test_plain_paths_are_paths(text: str) -> None:
    assert names.path_text(text) == text


@pytest.mark.parametrize("text", ["..", "a/../../b", "./../b", "~/x", "a*", "-rf", "s3://bucket"])
def test_paths_out_of_the_project_and_patterns_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        names.path_text(text)


@given(st.text(max_size=80))
def test_what_is_a_name_is_one_word_of_the_shell_and_one_part_of_a_path(text: str) -> None:
    for check in (names.name, names.profile_name):
        try:
            check(text)
        except ValueError:
            continue
        assert shlex.quote(text) == text or not text.isascii()
        assert Path(text).name == text and len(text.encode()) < 220 and text.isprintable()


@pytest.mark.parametrize("name", ["../../x", "..", "smoke; touch x", "/etc/passwd", ".hidden", "-x", "a" * 51, "a\nb"])
def test_a_profile_is_a_name(name: str) -> None:
    with pytest.raises(PipelineError, match="is not a valid profile name"):
        list(profiles.overlays(name, root=ROOT))


def test_a_profile_that_is_code_is_refused_before_dvc_reads_it() -> None:
    change = 'benchmarks.corpora=["hotpotqa_contexts; touch PWNED #"]'
    with pytest.raises(
        PipelineError, match=r"benchmarks\.corpora\.0: 'hotpotqa_contexts; touch PWNED #' is not a valid name"
    ):
        profiles.composed(
            SHIPPED.read_text(encoding="utf-8"), list(profiles.overlays("smoke", changes=[change], root=ROOT))
        )


@pytest.mark.parametrize("target", ["plan", "train", "regression"])
def test_make_gives_its_variables_as_they_stand(target: str, tmp_path: Path) -> None:
    """A fake Python records its arguments; nothing else may have run."""
    said = tmp_path / "said"
    (tmp_path / "python").write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(said)!r}, 'a').write(repr(sys.argv))\n"
    )
    (tmp_path / "python").chmod(0o755)
    profile, seed = f"smoke'; touch {tmp_path}/one #", f"1; touch {tmp_path}/two $(shell touch {tmp_path}/three)"
    run = subprocess.run(
        ["make", "-s", target, "-o", "setup", f"BIN={tmp_path}", f"PROFILE={profile}", f"SEED={seed}", f"SEEDS={seed}"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert repr(profile) in said.read_text()
    option = {"plan": "", "train": f"--seed={seed}", "regression": f"--seeds={seed}"}[target]
    assert not option or repr(option) in said.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python", "said"]
