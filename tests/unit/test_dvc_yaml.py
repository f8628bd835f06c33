"""dvc.yaml against the code: a stage depends on its imports, and every parameter belongs to a stage."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import stage_code
from r1_searcher.errors import PipelineError
from r1_searcher.params import SHIPPED, Params, parse, shipped
from r1_searcher.params.profiles import composed, overlays
from r1_searcher.params.reading import check_listed

ROOT = Path(__file__).resolve().parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
# dvc.yaml is as shipped, or as `python -m flows.stage_code` wrote it for names chosen by the user.
OWN = parse((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS = OWN if stage_code.rewritten(TEXT, ROOT, OWN) == TEXT else shipped()
STAGES: dict[str, dict[str, Any]] = stage_code.stages_of(TEXT)

NO_STAGES = {"extensions", "hardware", "regression", "tracking"}  # parameters of commands outside the pipeline
ANY = "<any>"  # in a parameter's name: any value of the stage's foreach or matrix


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_the_imports(name: str) -> None:
    listed = [dep for dep in STAGES[name]["deps"] if stage_code.is_code(dep)]
    assert listed == stage_code.code_of(STAGES[name], ROOT, PARAMS), "write them: python -m flows.stage_code"


def test_the_command_that_writes_them_leaves_the_rest_alone() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert stage_code.rewritten(text, ROOT, PARAMS) == text
    stale = text.replace("r1_searcher/rewards/metrics.py, ", "")
    assert stale != text and stage_code.rewritten(stale, ROOT, PARAMS) == text


def test_the_closure_sees_imports_inside_functions_and_none_for_types(tmp_path: Path) -> None:
    for name, text in {
        "stages/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stages import c\n"
        "def f():\n    import stages.b\n",
        "stages/b.py": "x = 1\n",
        "stages/c.py": "x = 2\n",
        "stages/__init__.py": '"""Nothing but words."""\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert stage_code.closure({tmp_path / "stages/a.py"}, tmp_path) == {"stages/a.py", "stages/b.py"}


def test_a_chosen_file_that_dvc_does_not_watch_stops_a_stage(tmp_path: Path) -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    check_listed(PARAMS, text)
    mine = tmp_path / "mine.py"
    mine.write_text("from r1_searcher.extend import reward_set\n@reward_set('mine')\ndef mine(case): ...\n")
    overlay = {"extensions": [str(mine)], "reward": {"set": "mine"}}
    chosen = parse(composed(SHIPPED.read_text(encoding="utf-8"), [("test", overlay)]))
    with pytest.raises(PipelineError, match=r"mine\.py is chosen .*flows.stage_code"):
        check_listed(chosen, text)
    written = stage_code.rewritten(text, ROOT, chosen)
    check_listed(chosen, written)
    stages = stage_code.stages_of(written)
    assert str(mine) in stages["train"]["deps"] and str(mine) not in stages["corpus"]["deps"]
    assert not any("rewards/sets/paper" in dep for dep in stages["train"]["deps"])
    assert stage_code.rewritten(written, ROOT, PARAMS) == text


@pytest.mark.slow
def test_own_parameters_of_what_a_stage_chooses_are_its_parameters(tmp_path: Path) -> None:
    """Stages that depend on single keys of a section would not see them change."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pydantic import BaseModel\nfrom r1_searcher.extend import answer_metric, reward_set\n"
        "class Own(BaseModel):\n    words: int = 1\n"
        "@reward_set('mine', parameters=Own)\ndef rewards(case, parameters): ...\n"
        "@answer_metric('first', parameters=Own)\ndef metric(prediction, golds, parameters): ...\n"
    )
    overlay = {
        "extensions": [str(mine)],
        "reward": {"set": "mine", "mine": {"words": 2}},
        "evaluate": {"metrics": ["f1_squad", "first"], "first": {"words": 4}},
        "difficulty": {"metric": "first", "first": {"words": 3}},
    }
    chosen = parse(composed(SHIPPED.read_text(encoding="utf-8"), [("test", overlay)]))
    written = stage_code.rewritten(stage_code.rewritten(TEXT, ROOT, shipped()), ROOT, chosen)
    keys = {name: stage.get("params", []) for name, stage in stage_code.stages_of(written).items()}
    assert "reward.scripts" in keys["audit"] and "reward.scripts" in keys["audit_benchmark"]
    assert keys["evaluate_benchmark"][-1] == "evaluate.first" and keys["difficulty"][-1] == "difficulty.first"
    assert "reward" in keys["base_metrics"] and "reward.mine" not in keys["base_metrics"]
    assert stage_code.rewritten(written, ROOT, chosen) == written
    assert stage_code.rewritten(written, ROOT, shipped()) == stage_code.rewritten(TEXT, ROOT, shipped())


@pytest.mark.slow
def test_a_name_that_nobody_chose_makes_no_stage_stale(tmp_path: Path) -> None:
    """A further reward set, estimator and retriever, in the library and in a user's file."""
    copy = tmp_path / "checkout"
    for name in ("r1_searcher", "stages", "flows"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = {name: stage_code.code_of(stage, copy, PARAMS) for name, stage in STAGES.items()}
    # A workspace's lists are of its own files, whichever checkout writes them.
    assert before == {name: stage_code.code_of(stage, ROOT, PARAMS) for name, stage in STAGES.items()}
    for decorator, folder in (
        ("reward_set", "rewards/sets"),
        ("advantage_estimator", "update/estimators"),
        ("retriever", "retrieval/kinds"),
    ):
        place = copy / "r1_searcher" / folder
        place.mkdir(exist_ok=True)
        (place / "unused.py").write_text(
            f"from r1_searcher.extend import {decorator}\n@{decorator}('unused')\ndef unused(): ...\n"
        )
    assert before == {name: stage_code.code_of(stage, copy, PARAMS) for name, stage in STAGES.items()}


def test_prompts_and_templates_are_dependencies() -> None:
    assert "r1_searcher/rollout/prompts/short.txt" in stage_code.code_of(STAGES["train"], ROOT, shipped())
    assert "r1_searcher/judging/prompts" in STAGES["summary"]["deps"]
    assert "r1_searcher/report/templates" in STAGES["report"]["deps"]


@pytest.mark.parametrize("name", ["corpus", "index", "base_model"])
def test_what_other_stages_do_makes_no_stage_stale(name: str) -> None:
    deps = STAGES[name]["deps"]
    assert not any("reward" in dep or "update" in dep or "evaluat" in dep or "params" in dep for dep in deps)


def test_of_a_command_with_several_verbs_a_stage_depends_on_its_own() -> None:
    """Serving an index, and comparing and judging evaluations, do not make them stale."""
    index, evaluate = (stage_code.code_of(STAGES[name], ROOT, shipped()) for name in ("index", "evaluate"))
    assert "r1_searcher/retrieval/make.py" in index and "r1_searcher/evaluation/policies.py" in evaluate
    assert not any(f"retrieval/{part}" in dep for part in ("service", "online", "remote") for dep in index)
    assert not any(f"r1_searcher/{part}" in dep for part in ("statistics", "judging", "cli") for dep in evaluate)


def test_training_depends_on_nothing_of_evaluation() -> None:
    for name in ("base_model", "train"):
        stage = STAGES[name]
        assert not any("evaluat" in str(item) for item in [*stage["deps"], *stage["params"]])


def test_a_changed_audit_trains_nothing_anew() -> None:
    """Training waits for the verdict, whose bytes never change, and not for the figures."""
    deps = STAGES["train"]["deps"]
    assert "data/audit/verdict.json" in STAGES["audit"]["outs"] and "data/audit/verdict.json" in deps
    assert not any(str(dep).startswith("metrics") for dep in deps)


def test_a_change_of_one_training_stage_leaves_the_other_alone() -> None:
    keys = STAGES["train"]["params"]
    assert "train.${item.stage}" in keys and "train.segments.${key}" in keys
    assert "train" not in keys and "train.segments" not in keys


def test_vectors_of_the_corpus_make_no_new_base_model() -> None:
    keys = STAGES["base_model"]["params"]
    assert "index.k1" in keys and "index" not in keys and "index.dense" not in keys


def test_every_parameter_is_some_stages() -> None:
    used = {str(key).split(".")[0] for stage in STAGES.values() for key in stage.get("params", [])}
    assert used == set(Params.model_fields) - NO_STAGES


def test_what_a_stage_names_in_the_parameters_is_there() -> None:
    raw = PARAMS.model_dump()
    for name, stage in STAGES.items():
        for key in stage.get("params", []):
            place: Any = raw
            for part in re.sub(r"\$\{[^}]*\}", ANY, str(key)).split("."):
                if part == ANY and not place:  # a matrix that is empty in this profile
                    break
                assert part == ANY or part in place, f"{name}: {key}"
                place = place[next(iter(place)) if part == ANY else part]


def test_no_output_is_in_the_store() -> None:
    outs = [out for stage in STAGES.values() for out in stage.get("outs", [])]
    assert not any(".store" in str(out) for out in outs)


def test_the_headline_is_the_one_metric_and_stands_in_git() -> None:
    """`dvc metrics show` has a column for each figure of each metric, so no other output may be one."""
    metrics = [item for stage in STAGES.values() for item in stage.get("metrics", [])]
    assert metrics == [{"metrics/headline": {"cache": False}}]
    assert STAGES["summary"]["metrics"] == metrics


def test_every_other_output_is_cached() -> None:
    """DVC keeps no run cache for a stage with an uncached output that is no metric."""
    outs = [out for stage in STAGES.values() for out in stage.get("outs", [])]
    assert [out for out in outs if not isinstance(out, str)] == []


def test_the_papers_curves_are_drawn() -> None:
    drawn = {column for plot in DVC["plots"] for settings in plot.values() for column in settings["y"].values()}
    assert {"reward", "response_length", "searches", "format_rate", "f1", "cover_em"} <= drawn


def test_a_released_benchmark_depends_on_its_definition_alone() -> None:
    overlay = list(overlays("hotpotqa-contexts", root=ROOT))
    chosen = parse(composed(SHIPPED.read_text(encoding="utf-8"), overlay))
    for name in ("benchmark", "benchmark_corpus"):
        listed = stage_code.code_of(STAGES[name], ROOT, chosen)
        assert [path for path in listed if "/released" in path] == [
            "r1_searcher/benchmarks/released/hotpotqa_contexts.py"
        ]
        assert not any("/released" in path for path in stage_code.code_of(STAGES[name], ROOT, PARAMS))
