"""Profiles: overlays that compose, every shipped one, and the workspaces they run in."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import follow, worktrees
from flows import profiles as command_line
from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.params import profiles
from r1_searcher.training import chain

ROOT = Path(__file__).resolve().parents[2]
BASE = (ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
SHIPPED = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_composes_to_a_chain_that_holds(name: str) -> None:
    found = params.parse(profiles.composed(BASE, list(profiles.overlays(name, root=ROOT))))
    assert found.profile == name
    for segment in found.train.segments:
        chain.check_chain(found, segment)
    finals = {f"data/train/{segment}/policy" for segment in found.train.segments} | {"data/base_model"}
    assert set(found.evaluate.policies.values()) <= finals


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_segment_says_what_it_asks(name: str) -> None:
    """dvc.yaml fills in ${item.questions} and knows no default; a mix or a label that is named is made."""
    text = profiles.composed(BASE, list(profiles.overlays(name, root=ROOT)))
    found = params.parse(text)
    made = {f"data/mixes/{mix}.parquet" for mix in found.difficulty.mixes}
    made |= {f"data/difficulty/{label}.parquet" for label in found.difficulty.label}
    for segment in yaml.safe_load(text)["train"]["segments"].values():
        assert segment["questions"].startswith("data/questions/train") or segment["questions"] in made
    for mix in found.difficulty.mixes.values():
        assert mix.questions in made | {"data/difficulty", "data/questions/train.parquet"}


def test_laptop_is_the_base() -> None:
    assert "smoke" in SHIPPED
    assert params.parse(profiles.composed(BASE, list(profiles.overlays("laptop", root=ROOT)))) == params.parse(BASE)


def test_comments_and_untouched_lines_stay() -> None:
    text = profiles.composed(BASE, [("--seed", {"seed": 7})])
    before, after = BASE.splitlines(), text.splitlines()
    assert len(before) == len(after)
    assert [new for old, new in zip(before, after, strict=True) if old != new and "seed:" not in old] == []
    assert params.parse(text).seed == 7


def test_segments_are_replaced_as_a_whole_and_other_sections_merged() -> None:
    segment = {"stage": "stage2", "prev": "data/base_model", "iterations": 2, "iteration_offset": 0}
    overlay = {"train": {"segments": {"only": segment}, "stage2": {"learning_rate": 1e-4}}}
    found = params.parse(profiles.composed(BASE, [("test", overlay)]))
    base = params.parse(BASE)
    assert list(found.train.segments) == ["only"]
    assert found.train.stage2 == base.train.stage2.model_copy(update={"learning_rate": 1e-4})
    assert found.train.stage1 == base.train.stage1


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"rollot": {}}, "rollot: unknown parameter"),
        ({"train": {"stage2": {"learning_rat": 1}}}, r"train\.stage2\.learning_rat: unknown parameter"),
        ({"rollout": 3}, "rollout: is a section"),
        ({"seed": {"a": 1}}, "seed: is a value"),
    ],
)
def test_a_wrong_key_is_named(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        profiles.compose(yaml.safe_load(BASE), overlay)


def test_a_wrong_value_is_named_with_the_overlay() -> None:
    with pytest.raises(
        PipelineError, match=r"--set train\.stage2\.samples_a_question=0.*train\.stage2\.samples_a_question"
    ):
        changes = ["train.stage2.samples_a_question=0"]
        profiles.composed(BASE, list(profiles.overlays("laptop", changes=changes, root=ROOT)))


def test_users_own_question_files_may_have_any_name() -> None:
    found = profiles.compose(
        yaml.safe_load(BASE), {"questions": {"source": "files", "files": {"bamboogle": "b.jsonl"}}}
    )
    assert found["questions"]["files"] == {"bamboogle": "b.jsonl"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("seed=3", {"seed": 3}),
        ("train.stage2.learning_rate=2e-4", {"train": {"stage2": {"learning_rate": 2e-4}}}),
        ("index.stemmer=english", {"index": {"stemmer": "english"}}),
        ("corpus.files=[a.jsonl, b.tsv]", {"corpus": {"files": ["a.jsonl", "b.tsv"]}}),
    ],
)
def test_assignments(text: str, found: dict[str, Any]) -> None:
    assert profiles.assignment(text) == found


@pytest.mark.parametrize("text", ["seed", "=3", "a..b=1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(PipelineError, match="not an assignment"):
        profiles.assignment(text)


trees = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(base=trees, data=st.data())
def test_composing_with_a_part_of_itself_changes_nothing(base: dict[str, Any], data: st.DataObject) -> None:
    def part(tree: dict[str, Any]) -> dict[str, Any]:
        chosen = data.draw(st.sets(st.sampled_from(sorted(tree)))) if tree else set()
        return {key: part(value) if isinstance(value, dict) else value for key, value in tree.items() if key in chosen}

    assert profiles.compose(base, part(base)) == base


def test_a_seed_that_is_no_number_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["laptop", "--seed", "abc"]) == 2
    assert capsys.readouterr().err == "error: --seed: must be a whole number, got 'abc'\n"


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(PipelineError, match=r"known: .*laptop.*smoke"):
        list(profiles.overlays("lapto", root=ROOT))


def git(place: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=place, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a small checkout with a committed base."""
    place = tmp_path / "checkout"
    (place / ".dvc").mkdir(parents=True)
    (place / "params.yaml").write_text(BASE)
    (place / "code.py").write_text("one")
    (place / "metrics" / "train").mkdir(parents=True)
    (place / "metrics" / "train" / "s1-00.json").write_text("of the checkout, committed")
    (place / "plots").mkdir()
    (place / "plots" / ".gitignore").write_text("/curves.csv\n")
    (place / ".gitignore").write_text("/.workspaces/\n")
    git(place, "init", "-q")
    git(place, "-c", "user.name=t", "-c", "user.email=t@t", "add", ".")
    git(place, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "base")
    return place


def test_a_workspace_has_the_checkouts_files_as_they_are_now(checkout: Path) -> None:
    (checkout / "code.py").write_text("two, not committed")
    (checkout / "new.py").write_text("new")
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    assert (workspace / "code.py").read_text() == "two, not committed"
    assert (workspace / "new.py").read_text() == "new"
    assert (workspace / "params.yaml").read_text() == "composed"
    assert str(checkout / ".dvc" / "cache") in (workspace / ".dvc" / "config.local").read_text()
    assert (checkout / "params.yaml").read_text() == BASE


@pytest.fixture
def corpus(checkout: Path) -> Path:
    """Write a user's file in ``inputs/``, an hour old."""
    file = checkout / "inputs" / "corpus" / "mine.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("a passage")
    os.utime(file, ns=(1_700_000_000_123_456_789,) * 2)
    return file


def brought(file: Path, checkout: Path) -> Path:
    """Prepare the workspace; returns the file's place in it."""
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    return workspace / file.relative_to(checkout)


def test_an_input_is_a_link_whose_time_is_the_files(checkout: Path, corpus: Path) -> None:
    place = brought(corpus, checkout)
    assert place.is_symlink() and place.resolve() == corpus
    before = place.lstat()
    assert brought(corpus, checkout).lstat() == before  # left alone
    assert place.stat().st_mtime_ns == 1_700_000_000_123_456_789
    with open(corpus.with_name("new"), "w") as new:  # how most editors save
        new.write("another passage")
    os.replace(corpus.with_name("new"), corpus)
    assert place.read_text() == "another passage"


def test_a_link_takes_the_place_of_an_earlier_copy(checkout: Path, corpus: Path) -> None:
    place = checkout / ".workspaces" / "smoke" / corpus.relative_to(checkout)
    worktrees.prepare_workspace(checkout / ".workspaces" / "smoke", "composed", checkout)
    place.unlink(missing_ok=True)
    place.write_text("copied by an earlier release")
    assert brought(corpus, checkout).resolve() == corpus
    assert corpus.read_text() == "a passage"
    assert [path.name for path in place.parent.iterdir()] == ["mine.jsonl"]


def test_an_input_that_is_gone_from_the_checkout_is_gone_from_the_workspace(checkout: Path, corpus: Path) -> None:
    place = brought(corpus, checkout)
    own = place.with_name("of-the-workspace.jsonl")
    own.write_text("put there by hand")
    corpus.unlink()
    brought(corpus, checkout)
    assert not place.is_symlink()  # DVC would fail on a dangling link
    assert own.exists()


def test_inputs_may_be_links_and_folders_of_other_repositories(checkout: Path, tmp_path: Path, corpus: Path) -> None:
    far = tmp_path / "far"
    (far / "model").mkdir(parents=True)
    (far / "model" / "config.json").write_text("{}")
    (corpus.parent / "far").symlink_to(far / "model")
    cloned = checkout / "inputs" / "base_model" / "cloned"
    cloned.mkdir(parents=True)
    git(cloned, "init", "-q")
    (cloned / "part").mkdir()
    (cloned / "part" / "weights").write_text("weights")
    place = brought(cloned, checkout)
    assert place.is_dir() and not place.is_symlink()  # DVC would not see the files of a linked folder
    assert (place / "part" / "weights").resolve() == cloned / "part" / "weights"
    assert not (place / ".git").exists()
    linked = brought(corpus, checkout).with_name("far")
    assert (linked / "config.json").read_text() == "{}"

    # A linked folder that became a real one: nothing may be written through the old link.
    (corpus.parent / "far").unlink()
    (corpus.parent / "far").mkdir()
    (corpus.parent / "far" / "config.json").write_text("new")
    brought(corpus, checkout)
    assert (linked / "config.json").resolve() == corpus.parent / "far" / "config.json"
    assert not (far / "model" / "config.json").is_symlink()
    # And back: the folder's content makes room.
    shutil.rmtree(corpus.parent / "far")
    (corpus.parent / "far").symlink_to(far / "model")
    brought(corpus, checkout)
    assert linked.is_symlink() and (linked / "config.json").read_text() == "{}"


def test_without_links_an_input_is_copied_once_with_its_time(
    checkout: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: object, target_is_directory: bool = False) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    place = brought(corpus, checkout)
    assert place.read_text() == "a passage" and not place.is_symlink()
    assert place.stat().st_mtime_ns == corpus.stat().st_mtime_ns
    before = place.stat()
    after = brought(corpus, checkout).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    corpus.write_text("b passage")  # as long
    assert brought(corpus, checkout).read_text() == "b passage"


def test_other_files_are_copies_streamed_and_only_where_they_changed(checkout: Path) -> None:
    """A run's code and settings do not change during it. 64 MB are not read into memory."""
    big = checkout / "mine.jsonl"
    with open(big, "wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    place = brought(big, checkout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert place.stat().st_size == 64 << 20 and not place.is_symlink() and peak < 16 << 20
    before = place.stat()
    assert brought(big, checkout).stat().st_ino == before.st_ino
    assert place.stat().st_mtime_ns == big.stat().st_mtime_ns


def test_a_refreshed_workspace_keeps_what_it_made(checkout: Path) -> None:
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    (workspace / "dvc.lock").write_text("schema: '2.0'\n")
    (workspace / "data").mkdir()
    (workspace / "data" / "big").write_text("made here")
    (checkout / "dvc.lock").write_text("made in the checkout")
    (checkout / "code.py").unlink()
    worktrees.prepare_workspace(workspace, "composed again", checkout)
    assert (workspace / "dvc.lock").read_text() == "schema: '2.0'\n"
    assert (workspace / "data" / "big").read_text() == "made here"
    assert (workspace / "params.yaml").read_text() == "composed again"
    assert not (workspace / "code.py").exists()


def test_metrics_and_plots_of_a_workspace_are_its_own(checkout: Path) -> None:
    """Git has the checkout's: mistaken for the workspace's, they would make its stages stale."""
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    metric = workspace / "metrics" / "train" / "s1-00.json"
    assert not metric.exists()
    made = {metric: "made here", workspace / "plots" / ".gitignore": "/curves.csv\n/s2-01.csv\n"}
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (checkout / "metrics" / "train" / "s1-00.json").write_text("of the checkout, not committed")
    (checkout / "metrics" / "new.json").write_text("of the checkout, new")
    worktrees.prepare_workspace(workspace, "composed again", checkout)
    assert {path: path.read_text() for path in made} == made
    metric.unlink()
    worktrees.prepare_workspace(workspace, "composed again", checkout)
    assert not metric.exists()
    assert not (workspace / "metrics" / "new.json").exists()


def test_a_folder_that_is_no_workspace_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(PipelineError, match="is not empty"):
        worktrees.prepare_workspace(tmp_path / "mine", "composed", checkout)


def test_the_base_is_the_committed_one_only_where_another_profile_stands(checkout: Path) -> None:
    own = BASE.replace("k1: 1.5", "k1: 1.2")
    (checkout / "params.yaml").write_text(own)
    assert profiles.base_text(checkout) == own
    (checkout / "params.yaml").write_text(own.replace("profile: laptop", "profile: smoke"))
    assert profiles.base_text(checkout) == BASE


def test_a_new_parameter_needs_no_commit_first(checkout: Path) -> None:
    """HEAD's file lacks a parameter that is required today, and the checkout's file has it."""
    (checkout / "params.yaml").write_text(BASE.replace("  k1: 1.5\n", ""))
    git(checkout, "commit", "--quiet", "-am", "before the parameter")
    (checkout / "params.yaml").write_text(BASE)
    assert profiles.base_text(checkout) == BASE
    (checkout / "params.yaml").write_text(BASE.replace("profile: laptop", "profile: smoke"))
    with pytest.raises(PipelineError, match=r"params.yaml as it is committed, index.*k1: Field required"):
        profiles.base_text(checkout)


def test_a_workspace_whose_making_was_killed_is_made_again(checkout: Path) -> None:
    workspace = checkout / ".workspaces" / "smoke"
    git(checkout, "worktree", "add", "--detach", str(workspace))  # metrics are still the checkout's
    worktrees.prepare_workspace(workspace, "composed", checkout)
    assert not (workspace / "metrics" / "train" / "s1-00.json").exists()
    shutil.rmtree(workspace)
    (checkout / ".git" / "worktrees" / "smoke" / "locked").write_text("initializing")
    worktrees.prepare_workspace(workspace, "composed", checkout)
    assert (workspace / "code.py").exists()


def test_another_repository_is_no_workspace(checkout: Path) -> None:
    other = checkout / ".workspaces" / "smoke"
    other.mkdir(parents=True)
    git(other, "init", "-q")
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(PipelineError, match="is another repository"):
        worktrees.prepare_workspace(other, "composed", checkout)
    assert (other / "thesis.tex").exists()


def test_what_a_killed_git_left_does_not_stop_a_workspace(checkout: Path) -> None:
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    left = checkout / ".git" / "worktrees" / "smoke" / "index.lock"
    left.touch()
    worktrees.prepare_workspace(workspace, "composed", checkout)
    assert not left.exists()


def test_a_workspaces_damaged_lock_is_restored(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    (workspace / "dvc.lock").write_text("")
    worktrees.prepare_workspace(workspace, "composed", checkout)
    assert "dvc.lock was damaged (empty)" in capsys.readouterr().out
    assert not (workspace / "dvc.lock").exists()  # no copy, and none in git


def test_a_workspaces_settings_are_its_own(checkout: Path) -> None:
    workspace = checkout / ".workspaces" / "smoke"
    worktrees.prepare_workspace(workspace, "composed", checkout)
    settings = (workspace / ".dvc" / "config.local").read_text()
    assert f"site_cache_dir = {checkout / '.dvc' / 'tmp' / 'site'}" in settings
    assert f"dir = {checkout / '.dvc' / 'cache'}" in settings
    assert (checkout / ".dvc" / "tmp" / "site").stat().st_mode & 0o777 == 0o700


def test_dvcs_advice_is_kept_off_the_terminal() -> None:
    shown = [
        "Running stage 'a':\n", "> cmd\n", "\n", "a line of the stage\n", "Updating lock file 'dvc.lock'\n", "\n",
        "To track the changes with git, run:\n", "\n", "\tgit add dvc.lock plots/.gitignore\n", "\n",
        "To enable auto staging, run:\n", "\n", "\tdvc config core.autostage true\n", "\n", "Running stage 'b':\n",
        "Use `dvc push` to send your updates to remote storage.\n",
    ]  # fmt: skip
    assert "".join(follow.without_advice(shown)) == (
        "Running stage 'a':\n> cmd\n\na line of the stage\nUpdating lock file 'dvc.lock'\n\nRunning stage 'b':\n"
    )
