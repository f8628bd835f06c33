"""Every shell command of README and docs is run: here, or by the test or CI step that the table names."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import documented
import pytest
import torch
import yaml
from documented import BY_HAND, ELSEWHERE, PAGES, PIPELINE, PROJECT, REMOTES, ROOT, STATUS, commands
from tiny_policy import questions_table
from tiny_project import make_project

from r1_searcher.evaluation.headline import write_headline
from r1_searcher.files.artefacts import read_table, write_table
from stages.evaluate.__main__ import main as evaluate

SHOWN = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_known(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    unknown = [line for place, line in SHOWN if place == name and not documented.is_known(name, line)]
    assert unknown == [], "say in tests/documented.py who runs it"


def test_a_new_command_is_not_known() -> None:
    page = "Text\n\n    dvc repro   # makes\n    curl example.org\n\n"
    page += "```sh\nmake nothing\n```\n\n```python\nimport os\n```\n\n    corpus:\n      source: files\n"
    assert commands(page) == ["dvc repro", "curl example.org", "make nothing"]
    assert [documented.is_known("docs/gpu.md", line) for line in commands(page)] == [True, False, False]
    assert not documented.is_known("docs/gpu.md", "make trainer") and not documented.is_known("docs/gpu.md", "dvc gc")


def test_the_tables_name_nothing_that_is_not_shown() -> None:
    shown = {line for _, line in SHOWN}
    assert set(PROJECT) | set(PIPELINE) <= shown
    assert set(ELSEWHERE) == {documented.elsewhere(line) for line in shown} - {""}
    assert [begun for begun in BY_HAND if not any(line.startswith(begun) for line in shown)] == []


@pytest.mark.parametrize("begun", ELSEWHERE)
def test_what_runs_a_command_elsewhere_is_there(begun: str) -> None:
    file, text = ELSEWHERE[begun]
    assert text in (ROOT / file).read_text(encoding="utf-8")


def test_the_page_of_remotes_is_run_as_it_stands() -> None:
    test = (ROOT / REMOTES[1]).read_text(encoding="utf-8")
    begun = [block[0].strip() for block in documented.blocks((ROOT / REMOTES[0]).read_text(encoding="utf-8"))]
    assert begun and all(re.search(rf'block\("{" ".join(first.split()[:2])}', test) for first in begun)


def test_deployments_are_prefect_yamls() -> None:
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    named = {
        line.split("prefect deployment run ")[1].split()[0] for _, line in SHOWN if "prefect deployment run " in line
    }
    assert named and {name.split("/")[1] for name in named} <= {entry["name"] for entry in entries}


def test_benchmarks_have_the_options_that_are_shown() -> None:
    for line in {line for _, line in SHOWN if line.startswith("python benchmarks/")}:
        script = (ROOT / line.split()[1]).read_text(encoding="utf-8")
        assert [option for option in re.findall(r"--[a-z-]+", line) if f'"{option}"' not in script] == [], line


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with two policies, their evaluations, and transcripts."""
    policies = {f"stage{number}": f"data/train/s{number}-00/policy" for number in (1, 2)}
    root = make_project(tmp_path_factory.mktemp("commands") / "project", {}, evaluate__policies=policies)
    for place in (*policies.values(), "path/to/model"):
        shutil.copytree(root / "data/base_model", root / place)
    titles = read_table(root / "data/corpus/passages.parquet")["title"].to_pylist()[12:15]
    write_table(root / "data/questions/held_out.parquet", questions_table([f"Who is {title}?" for title in titles]))
    shutil.copytree(ROOT / "profiles", root / "profiles")
    (root / "tests/data").mkdir(parents=True)
    for place in ("transcripts.jsonl", "tests/data/hand_made_transcripts.jsonl"):
        shutil.copy(ROOT / "tests/data/hand_made_transcripts.jsonl", root / place)
    (root / "predictions.jsonl").write_text('{"answer": "Ada", "pred": "Ada"}\n')
    (root / "predictions.json").write_text('{"q1": "Ada"}\n')
    (root / "dev.json").write_text('[{"id": "q1", "question": "Who?", "answer": "Ada"}]\n')
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, policy in policies.items():
            assert evaluate(["run", "--name", name, "--policy", policy, "--out", f"data/evaluation/{name}"]) == 0
    torch.set_num_threads(before)
    return root


@pytest.mark.parametrize("line", PROJECT)
def test_a_command_in_a_tiny_project(line: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python -m`` in this process, so that modules are loaded once."""
    monkeypatch.chdir(project)
    _, _, module, *words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", [module, *words])
    before = torch.get_num_threads()
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        raise SystemExit(0)
    torch.set_num_threads(before)
    assert (ended.value.code or 0) == STATUS.get(line, 0)


def written(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage of dvc.yaml whose command only writes its outputs; code and inputs are no dependencies."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    steps = []
    for entry in entries:
        path = next(iter(entry)) if isinstance(entry, dict) else entry
        file = path if Path(path).suffix else f"{path}/file"
        text = "{}" if file.endswith(".json") else "iteration,reward,response_length,searches,format_rate,f1,cover_em"
        steps.append(f"mkdir -p {Path(file).parent} && echo '{text}' > {file}")
        if path == "metrics/headline":
            steps[-1] = f"mkdir -p metrics && cp -r headline {path}"
        if path == "data/questions":  # stages depend on single files of it
            steps += [f"cp {file} {path}/{name}.parquet" for name in ("train", "validation", "held_out")]
    kept = [
        dep for dep in stage.get("deps", []) if not dep.startswith(("r1_searcher/", "stages/", "flows/", "inputs/"))
    ]
    return {**stage, "cmd": " && ".join(steps) or "true", "deps": kept}


# Of the default profile's size, with a benchmark of a long name.
FIGURES: dict[str, dict[str, Any]] = {
    policy: {
        benchmark: {"em": 0.996667, "cover_em": 0.996667, "f1": 0.173333, "f1_ci": [0.1, 0.2], "n": 300}
        | {"format_rate": 0.976667, "search_rate": 0.994444, "searches_per_question": 1.033333}
        for benchmark in ("held_out", "held_out_kind", "comparison", "hotpotqa_contexts")
    }
    for policy in ("base", "stage1", "stage2", "no_search", "plain_rag")
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the pipeline's stages and parameters, in which nothing is computed."""
    root = tmp_path_factory.mktemp("pipeline") / "checkout"
    root.mkdir()
    whole = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for name, stage in whole["stages"].items():
        whole["stages"][name] = {**stage, "do": written(stage["do"])} if "do" in stage else written(stage)
    (root / "dvc.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", root / "params.yaml")
    write_headline(FIGURES, root / "headline")
    (root / ".gitignore").write_text("/data/\n/plots/\n/report/\n/dvc_plots/\n")
    for command in ("git init -q", "dvc init -q", "git add .", "git commit -q -m begun"):
        shell(root, command)
    return root


def shell(root: Path, command: str) -> str:
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
        "DVC_NO_ANALYTICS": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    variables |= {
        f"GIT_{who}_{what}": "tests@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        shlex.split(command), cwd=root, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dvcs_commands(pipeline: Path) -> None:
    """One after the other, because they depend on one another."""
    for line in PIPELINE:
        shell(pipeline, line)
    assert (pipeline / "report/report.html").is_file() and (pipeline / "dvc_plots/index.html").is_file()
    assert yaml.safe_load((pipeline / "params.yaml").read_text())["train"]["stage2"]["learning_rate"] == 2e-4


def test_what_dvc_and_make_dag_print_fits_a_terminal(pipeline: Path) -> None:
    shell(pipeline, "dvc repro summary")
    shell(pipeline, "git add metrics")
    shell(pipeline, "git commit -q -m made")
    shown = shell(pipeline, "dvc metrics show").splitlines()
    assert shown[0].split() == ["Path", "cover_em", "em", "f1", "format_rate", "search_rate", "searches"]
    assert len(shown) == 1 + sum(map(len, FIGURES.values()))  # a row per benchmark and policy, and nothing else
    other = {policy: {name: row | {"em": 0.5} for name, row in rows.items()} for policy, rows in FIGURES.items()}
    write_headline(other, pipeline / "metrics/headline")
    changed = shell(pipeline, "dvc metrics diff").splitlines()
    assert len(changed) == len(shown)
    drawn = shell(pipeline, f"env PYTHONPATH={shlex.quote(str(ROOT))} python -m flows.dag").splitlines()
    assert drawn[0] == "base_model" and any(line.startswith("train (2)  after audit, base_model, ") for line in drawn)
    assert max(map(len, shown + changed + drawn)) <= 120
