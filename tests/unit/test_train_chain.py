"""Keys of iteration artefacts: what changes which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params, check
from r1_searcher.params.profiles import compose
from r1_searcher.training import chain

BASE = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
)
BASE["train"]["segments"] = {  # the tests' own, whatever the laptop profile's figures are
    "s1-00": {"stage": "stage1", "prev": "data/base_model", "iterations": 18, "iteration_offset": 0},
    "s2-00": {"stage": "stage2", "prev": "data/train/s1-00/policy", "iterations": 30, "iteration_offset": 0},
    "s2-01": {"stage": "stage2", "prev": "data/train/s2-00/policy", "iterations": 30, "iteration_offset": 30},
}
ROOTS = chain.Roots(policy="p", trainer_state=None, retriever="i", questions="q")
CODE = {"rollout": "r", "reward": "w", "update": "u"}


def params(**overlay: Any) -> Params:
    return check(compose(BASE, overlay))


def keys(
    found: Params, roots: chain.Roots = ROOTS, code: dict[str, str] = CODE, name: str = "s2-00"
) -> list[chain.IterationKeys]:
    return chain.chain_keys(found, found.train.segments[name], roots, code)


def changed(new: list[chain.IterationKeys]) -> dict[str, int | None]:
    """Return the first iteration at which each kind of key differs from the base's; None: nowhere."""
    old = keys(params())
    return {
        kind: next(
            (n for n, (a, b) in enumerate(zip(old, new, strict=True)) if getattr(a, kind) != getattr(b, kind)), None
        )
        for kind in ("rollouts", "rewards", "policy")
    }


NOTHING = {"rollouts": None, "rewards": None, "policy": None}
ALL = {"rollouts": 0, "rewards": 0, "policy": 0}


def test_equal_inputs_have_equal_keys_and_no_two_keys_are_equal() -> None:
    assert changed(keys(params())) == NOTHING
    found = [key for item in keys(params()) for key in (item.rollouts, item.rewards, item.policy)]
    assert len(found) == len(set(found)) == 3 * 30


@pytest.mark.parametrize(
    ("overlay", "first"),
    [
        ({"rollout": {"temperature": 0.9}}, ALL),
        ({"seed": 1}, ALL),
        ({"threads": 1}, ALL),
        ({"train": {"stage2": {"samples_a_question": 4}}}, ALL),
        ({"reward": {"answer_metric": "em"}}, {"rollouts": 1, "rewards": 0, "policy": 0}),
        ({"update": {"clip": 0.3}}, {"rollouts": 1, "rewards": 1, "policy": 0}),
        ({"train": {"stage2": {"learning_rate": 1e-4}}}, {"rollouts": 1, "rewards": 1, "policy": 0}),
        ({"train": {"stage1": {"learning_rate": 1e-4}}}, NOTHING),
        ({"train": {"stage2": {"evaluate_every": 3, "checkpoint_every": 1}}}, NOTHING),
        ({"rollout": {"max_error_share": 0.5}}, NOTHING),
        ({"evaluate": {"k": 5}}, NOTHING),
        ({"questions": {"too_long": "leave_out"}}, NOTHING),
        ({"profile": "other"}, NOTHING),
    ],
)
def test_a_parameter_changes_what_depends_on_it_and_nothing_else(
    overlay: dict[str, Any], first: dict[str, int | None]
) -> None:
    assert changed(keys(params(**overlay))) == first


@pytest.mark.parametrize(
    ("roots", "code", "first"),
    [
        (chain.Roots("other", None, "i", "q"), CODE, ALL),
        (chain.Roots("p", "state", "i", "q"), CODE, ALL),
        (chain.Roots("p", None, "other", "q"), CODE, ALL),
        (chain.Roots("p", None, "i", "other"), CODE, ALL),
        (ROOTS, {**CODE, "rollout": "new"}, ALL),
        (ROOTS, {**CODE, "reward": "new"}, {"rollouts": 1, "rewards": 0, "policy": 0}),
        (ROOTS, {**CODE, "update": "new"}, {"rollouts": 1, "rewards": 1, "policy": 0}),
    ],
)
def test_inputs_and_code_too(roots: chain.Roots, code: dict[str, str], first: dict[str, int | None]) -> None:
    assert changed(keys(params(), roots, code)) == first


def test_the_text_of_a_prompt_file_is_part_of_the_keys(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    named = params(rollout={"prompt": str(prompt)})
    prompt.write_text("Q: {question}\nA: <think>", encoding="utf-8")
    before = keys(named)
    prompt.write_text("Question: {question}\nAnswer: <think>", encoding="utf-8")
    assert keys(named)[0].rollouts != before[0].rollouts


def test_the_code_of_chosen_engines_and_tools_is_part_of_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = params()
    before, watched = keys(found), chain.watch_key(found, "p", "q", "r", CODE)
    monkeypatch.setattr(chain, "chosen_parts", lambda rollout: ["another", "file"])
    assert keys(found)[0].rollouts != before[0].rollouts
    assert chain.watch_key(found, "p", "q", "r", CODE) != watched


def test_questions_that_are_left_out_change_nothing_before_the_iteration_that_draws_one() -> None:
    found = params()
    left_out: list[list[str]] = [[] for _ in range(30)]
    assert chain.chain_keys(found, found.train.segments["s2-00"], ROOTS, CODE, left_out) == keys(found)
    left_out[7] = ["train-3"]
    gone = chain.chain_keys(found, found.train.segments["s2-00"], ROOTS, CODE, left_out)
    assert changed(gone) == {"rollouts": 7, "rewards": 7, "policy": 7}


def test_a_longer_segment_continues_a_shorter_one() -> None:
    segments = {**BASE["train"]["segments"], "s2-00": {**BASE["train"]["segments"]["s2-00"], "iterations": 40}}
    assert keys(params(train={"segments": segments}))[:30] == keys(params())


def segments(**changes: Any) -> Params:
    found = yaml.safe_load(yaml.safe_dump(BASE["train"]["segments"]))
    for name, change in changes.items():
        found[name.replace("_", "-")] |= change
    return params(train={"segments": found})


def test_the_chain_of_segments() -> None:
    found = params()
    assert [chain.previous_segment(found, name) for name in found.train.segments] == [None, "s1-00", "s2-00"]
    assert [chain.continues_optimizer(found, name) for name in found.train.segments] == [False, False, True]
    assert [chain.iterations_before(found, name) for name in found.train.segments] == [0, 18, 48]
    for name in found.train.segments:
        chain.check_chain(found, name)


def test_a_wrong_offset_is_named() -> None:
    with pytest.raises(PipelineError, match="iteration_offset is 29, but after s2-00 it is 30"):
        chain.check_chain(segments(s2_01={"iteration_offset": 29}), "s2-01")


def test_a_circle_is_found() -> None:
    with pytest.raises(PipelineError, match="comes before itself"):
        chain.check_chain(segments(s1_00={"prev": "data/train/s2-01/policy"}), "s2-01")


def test_an_unknown_segment_lists_the_known() -> None:
    with pytest.raises(PipelineError, match="known: s1-00, s2-00, s2-01"):
        chain.check_chain(params(), "s3-00")


def test_the_rooms_code_has_fingerprints() -> None:
    code = chain.room_code()
    assert len(set(code.values())) == 3
    assert all(len(value) == 64 for value in code.values())


def test_shards_ranks_and_overlap_are_in_the_keys_and_where_workers_run_is_not() -> None:
    assert changed(keys(params(workers={"place": "local"}))) == NOTHING
    assert changed(keys(params(workers={"place": "local", "engines": 2, "shards": 2}))) == ALL
    assert keys(params(workers={"shards": 2})) == keys(
        params(workers={"place": "local", "engines": 2, "shards": 2, "ray_address": "auto"})
    )
    assert changed(keys(params(workers={"place": "local", "ranks": 2}))) == {"rollouts": 1, "rewards": 1, "policy": 0}


def test_with_overlap_an_iteration_is_sampled_by_the_policy_before_the_last_update() -> None:
    local: dict[str, Any] = {"workers": {"place": "local"}, "update": {"importance_cap": 2.0}}
    plain = keys(params(**local))
    overlapped = keys(params(**local, train={"overlap": 1}))
    assert overlapped[0] == plain[0]  # the first iteration is on-policy
    assert overlapped[1].rollouts != plain[1].rollouts
    assert [chain.sampled_by(iteration, 1) for iteration in range(4)] == [0, 0, 1, 2]
    with pytest.raises(PipelineError, match=r"off-policy: it needs update\.importance_cap above 0"):
        params(workers={"place": "local"}, train={"overlap": 1})
    with pytest.raises(PipelineError, match=r"train\.overlap needs workers\.place local or ray"):
        params(update={"importance_cap": 2.0}, train={"overlap": 1})


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ({"workers": {"engines": 2, "shards": 2}}, "place inside has one process for all"),
        ({"workers": {"place": "local", "engines": 2}}, "of 2 engines some would have nothing to do"),
        (
            {
                "workers": {"place": "local"},
                "hardware": {"gpus": 3, "gpu_memory_gib": 8, "trainer_gpus": 2, "engine_gpus": 1},
            },
            r"workers\.ranks \(1\) must be hardware\.trainer_gpus \(2\)",
        ),
        (
            {
                "workers": {"place": "local"},
                "hardware": {"gpus": 3, "gpu_memory_gib": 8, "trainer_gpus": 1, "engine_gpus": 2},
            },
            r"must be hardware\.engine_gpus \(2\)",
        ),
    ],
)
def test_workers_that_do_not_fit_are_one_line(overlay: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        params(**overlay)


def test_versions_are_looked_up_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    chain._version.cache_clear()

    def version(name: str) -> str:
        asked.append(name)
        return "1"

    monkeypatch.setattr(chain, "version", version)
    assert chain.package_versions() == chain.package_versions() == dict.fromkeys(chain.PACKAGES, "1")
    chain._version.cache_clear()
    assert asked == list(chain.PACKAGES)
