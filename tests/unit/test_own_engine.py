"""An engine from a user's file rolls out; an invalid one gives one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_engines import write_policy
from tiny_policy import rollout_params

from r1_searcher.errors import PipelineError
from r1_searcher.params import Rollout
from r1_searcher.points import ENGINES, TRAINERS
from r1_searcher.rollout import load_engine, roll_out

OWN = """
from pydantic import BaseModel
from r1_searcher.extend import engine
from r1_searcher.types.protocols import EngineKind, Turn

class Says(BaseModel):
    answer: str

class Parrot:
    name, overlaps = "parrot", False

    def __init__(self, tokenizer, answer):
        self.tokenizer, self.answer = tokenizer, answer

    def encode(self, text):
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids):
        return self.tokenizer.decode(list(token_ids))

    def start(self, sampling, stops):
        self.rows = []

    def add(self, trajectory, prompt_ids, seed):
        self.rows.append(trajectory)

    def step(self, interrupted=None):
        ids = self.encode(self.answer)
        ended, self.rows = self.rows, []
        return [Turn(number, ids, [-0.5] * len(ids), "</answer>") for number in ended]

    def extend(self, trajectory, token_ids): ...
    def release(self, trajectory): ...
    def load_weights(self, policy): ...
    def score(self, token_ids, *, temperature): ...
    def sleep(self): ...
    def wake(self): ...

@engine("parrot", parameters=Says)
class Kind(EngineKind):
    def __init__(self, parameters):
        self.says = parameters

    def load(self, policy, tokenizer, rollout, *, tensor_parallel):
        return Parrot(tokenizer, self.says.answer)

@engine("nothing")
class Nothing(EngineKind):
    def load(self, policy, tokenizer, rollout, *, tensor_parallel):
        return object()

@engine("broken")
class Broken(EngineKind):
    def load(self, policy, tokenizer, rollout, *, tensor_parallel):
        raise KeyError("weights")

@engine("bare")
class Bare:
    pass
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("engine") / "policy")


def rollout(folder: Path, name: str, **changes: Any) -> Rollout:
    (folder / "own.py").write_text(OWN)
    return Rollout(
        **(rollout_params().model_dump() | changes | {"engine": name, "extensions": (str(folder / "own.py"),)})
    )


def test_an_engine_of_the_users_rolls_out(policy: Path, tmp_path: Path) -> None:
    chosen = rollout(tmp_path, "parrot", parrot={"answer": " so</think>\n\n<answer> Ada </answer>"})
    questions = pa.table({"question_id": ["q"], "question": ["Who?"], "answers": [["Ada"]]})
    engine = load_engine(policy, chosen)
    table, timings = roll_out(engine, NoSearch(), questions, chosen, samples=2, seed=0)
    assert table["answer"].to_pylist() == ["Ada", "Ada"]
    assert timings["policy_tokens"] == 2 * len(engine.encode(chosen.own["parrot"]["answer"]))
    assert not chosen.kind.in_memory and not chosen.kind.fixed_cache


class NoSearch:
    fingerprint = "none"

    def search(self, queries: Any, k: int) -> Any:
        raise AssertionError("the parrot asks nothing")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"own\.py: the engine 'nothing' loads object, which has no add, decode, encode"),
        ("broken", r"own\.py, line \d+: the engine 'broken' raised KeyError: 'weights'"),
        ("bare", r"own\.py.*: the engine 'bare' is a Bare, not an EngineKind"),
    ],
)
def test_what_is_no_engine_is_one_line(policy: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        load_engine(policy, rollout(tmp_path, name))
    assert "\n" not in str(raised.value)


def test_an_unknown_engine_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no engine 'sglang'.*known: ") as raised:
        rollout(tmp_path, "sglang")
    for name in ("bare", "broken", "nothing", "parrot", *ENGINES.names()):
        assert name in str(raised.value)


def test_what_ships_says_what_it_is() -> None:
    transformers, vllm = (rollout_params().model_copy(update={"engine": one}).kind for one in ("transformers", "vllm"))
    assert transformers.in_memory and not transformers.fixed_cache and not transformers.packages
    assert vllm.fixed_cache and vllm.own_process and vllm.tensor_parallel and not vllm.in_memory
    assert {"transformers", "vllm"} <= set(ENGINES.names()) and "deepspeed" in TRAINERS.names()
