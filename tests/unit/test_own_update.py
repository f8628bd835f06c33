"""Estimators and policy losses from a user's file: chosen by name, with their own parameters, and in the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fixtures_update import update_params

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params, check
from r1_searcher.params.profiles import compose
from r1_searcher.points import ESTIMATORS
from r1_searcher.training import chain, preflight
from r1_searcher.update.advantages import Advantages, compute_advantages

BASE = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8")
)
OWN = """
import numpy as np
from pydantic import BaseModel
from r1_searcher.extend import advantage_estimator, policy_loss

class Scale(BaseModel):
    times: float

@advantage_estimator("raw", parameters=Scale)
def raw(samples, parameters):
    returns = samples.returns(samples.rewards * parameters.times)
    return returns, returns

@advantage_estimator("short")
def short(samples):
    return [np.zeros(1) for _ in samples.rewards], samples.returns(samples.rewards)

@advantage_estimator("endless")
def endless(samples):
    returns = samples.returns(samples.rewards / 0.0)
    return returns, returns

@advantage_estimator("few")
def few(samples):
    return [], []

@advantage_estimator("alone")
def alone(samples):
    return samples.returns(samples.rewards)

@advantage_estimator("raises")
def raises(samples):
    return samples.reward

@policy_loss("reinforce")
def reinforce(logprobs, old_logprobs, advantages, settings):
    return -logprobs * advantages
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def estimate(name: str, own: str, **more: Any) -> Advantages:
    update = update_params(estimator=name, extensions=(own,), **more)
    return compute_advantages([1.0, 0.5], ["a", "b"], [2, 1], update.chosen(ESTIMATORS))


def test_an_estimator_of_the_users_takes_its_own_parameters(own: str) -> None:
    found = estimate("raw", own, raw={"times": 3})
    np.testing.assert_array_equal(np.concatenate(found.values), [3.0, 3.0, 1.5])
    with pytest.raises(PipelineError, match=r"update\.raw\.time\b"):
        update_params(estimator="raw", extensions=(own,), raw={"times": 3, "time": 3})
    with pytest.raises(PipelineError, match=r"update\.raw\.times"):
        update_params(estimator="raw", extensions=(own,))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", r"advantages of trajectory 0 are not a finite number for each of its 2 policy tokens"),
        ("endless", r"advantages of trajectory 0 are not a finite number"),
        ("few", r"returned 0 arrays of advantages for 2 trajectories"),
        ("alone", r"returned list, not advantages and returns"),
        ("raises", r"own\.py, line 33: the advantage estimator 'raises' raised AttributeError: .*'reward'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_wrong_estimator_is_one_line(name: str, said: str, own: str) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        estimate(name, own)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("field", "known"), [("estimator", ("grpo", "reinforce++", "rloo")), ("loss", ("ppo",))])
def test_an_unknown_name_lists_the_known_ones(field: str, known: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError) as raised:
        update_params(**{field: "none"})
    assert f"update.{field}: no " in str(raised.value) and "known: " in str(raised.value)
    assert all(name in str(raised.value) for name in known)


def test_one_sample_per_question_is_refused_only_if_the_estimator_compares_groups(own: str) -> None:
    stage = check(BASE).train.stage1.model_copy(update={"samples_a_question": 1})
    preflight.check_groups(stage, "stage1", update_params(estimator="raw", extensions=(own,), raw={"times": 1}))
    for name in ("grpo", "reinforce++", "rloo"):
        with pytest.raises(PipelineError, match=f"trains nothing: {name.replace('+', '[+]')} compares"):
            preflight.check_groups(stage, "stage1", update_params(estimator=name))


def policy_keys(params: Params) -> list[str]:
    name = next(iter(params.train.segments))
    roots = chain.Roots(policy="p", trainer_state=None, retriever="i", questions="q")
    keys = chain.chain_keys(params, params.train.segments[name], roots, chain.room_code())
    return [keys[0].rollouts, keys[0].rewards, keys[0].policy]


def test_a_chosen_file_is_in_the_keys_of_the_update_and_no_other(own: str) -> None:
    plain = policy_keys(check(BASE))
    assert policy_keys(check(compose(BASE, {"extensions": [own]}))) == plain  # nothing of it is chosen
    chosen = check(compose(BASE, {"extensions": [own], "update": {"estimator": "raw", "raw": {"times": 2.0}}}))
    one = policy_keys(chosen)
    assert one[:2] == plain[:2] and one[2] != plain[2]
    Path(own).write_text(OWN + "\n# other content\n")
    assert policy_keys(chosen)[:2] == plain[:2] and policy_keys(chosen)[2] != one[2]


def test_of_shipped_names_only_the_chosen_ones_file_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from r1_searcher.files import artefacts, code

    counted: set[Path] = set()

    def count(path: Path) -> str:
        counted.add(path)
        return "0"

    for module in (artefacts, code):
        monkeypatch.setattr(module, "sha256_file", count)
    policy_keys(check(compose(BASE, {"update": {"estimator": "rloo"}})))
    folder = Path(artefacts.__file__).parent.parent / "update"
    names = {path.relative_to(folder).as_posix() for path in counted if path.is_relative_to(folder)}
    assert {name for name in names if "/" in name and "__init__" not in name} == {
        "estimators/rloo.py",
        "policy_losses/ppo.py",
        "trainer_kinds/deepspeed.py",
    }
    assert {"trainer.py", "advantages.py"} <= names
