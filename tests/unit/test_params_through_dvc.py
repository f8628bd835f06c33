"""DVC rewrites params.yaml for `dvc exp run -S`: the result has the same content, and can be read again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import modify_yaml, parse_yaml

from r1_searcher import params
from r1_searcher.params import profiles

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_what_dvc_writes_is_read_again(tmp_path: Path, profile: str) -> None:
    base = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
    text = profiles.composed(base, list(profiles.overlays(profile, root=ROOT)))
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    before = parse_yaml(text, file)
    with modify_yaml(file) as found:
        found["seed"] = 17
    assert parse_yaml(file.read_text(encoding="utf-8"), file) == {**before, "seed": 17}
    assert params.load(file).seed == 17


@pytest.mark.slow
def test_dvc_exp_run_sets_a_parameter(tmp_path: Path) -> None:
    """With DVC itself, on our params.yaml and a stage that copies it."""
    shutil.copy(ROOT / "r1_searcher/params/defaults.yaml", tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  copy:\n    cmd: cp params.yaml copied.yaml\n    params: [train.stage2.learning_rate]\n"
        "    outs: [copied.yaml]\n"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    dvc = (sys.executable, "-m", "dvc")
    for words in (
        ("git", "init", "-q"),
        (*dvc, "init", "-q"),
        (*dvc, "config", "core.site_cache_dir", str(tmp_path / "site")),
        ("git", "add", "."),
        ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "base"),
    ):
        assert run(*words).returncode == 0
    ended = run(*dvc, "exp", "run", "-S", "train.stage2.learning_rate=2e-4")
    assert ended.returncode == 0, ended.stderr
    assert params.load(tmp_path / "copied.yaml").train.stage2.learning_rate == 2e-4
