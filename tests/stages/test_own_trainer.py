"""A trainer from a user's file, plain torch: it trains a tiny policy through the workers, and from files to files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from fixtures_update import make_policy, make_rewards, make_rollouts
from safetensors.torch import load_file
from tiny_project import make_project

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.files.weights import weights_sha256
from r1_searcher.params import SHIPPED, Params, parse
from r1_searcher.training.workbench import Workbench
from r1_searcher.types.schemas import ADVANTAGES, ROLLOUTS
from r1_searcher.update import load_trainer
from stages.update.__main__ import main

OWN = '''
import shutil
import torch
from pathlib import Path
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from r1_searcher.extend import trainer
from r1_searcher.files.artefacts import atomic, write_json
from r1_searcher.files.weights import weights_sha256

class Momentum(BaseModel):
    momentum: float

class Plain:
    """REINFORCE, a trajectory at a time, by SGD with momentum."""

    def __init__(self, policy, rate, momentum):
        self.start, self.rate, self.momentum, self.iteration = Path(policy), rate, momentum, 0
        self.model = AutoModelForCausalLM.from_pretrained(policy)
        self.speed = {name: torch.zeros_like(weight) for name, weight in self.model.named_parameters()}

    def _logprobs(self, ids, mask):
        logits = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = [place for place, own in enumerate(mask) if own]
        return logits[[place - 1 for place in places], [ids[place] for place in places]]

    def logprobs(self, token_ids, policy_mask):
        with torch.no_grad():
            return [self._logprobs(*row).tolist() for row in zip(token_ids, policy_mask)]

    def reference_logprobs(self, token_ids, policy_mask):
        raise NotImplementedError

    def update(self, batch):
        gap, total, count = 0.0, 0.0, sum(map(len, batch.advantages))
        self.model.zero_grad()
        for ids, mask, advantages, old in zip(batch.token_ids, batch.policy_mask, batch.advantages, batch.old_logprobs):
            new = self._logprobs(ids, mask)
            loss = -(new * torch.tensor(advantages)).sum() / count
            loss.backward()
            gap += (new.detach() - torch.tensor(old)).abs().sum().item() / count
            total += loss.item()
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                self.speed[name].mul_(self.momentum).add_(weight.grad)
                weight -= self.rate * self.speed[name]
        self.iteration += 1
        return {"loss": total, "learning_rate": self.rate, "logprob_gap_mean": gap}

    def export_weights(self):
        return {name: weight.detach() for name, weight in self.model.state_dict().items()}

    def save_policy(self, policy, *, step, parent):
        with atomic(policy, folder=True) as draft:
            self.model.save_pretrained(draft)
            for file in self.start.glob("*token*"):
                shutil.copy(file, draft / file.name)
            sha256 = weights_sha256(draft)
            write_json(draft / "manifest.json", {"sha256": sha256, "parent": parent, "step": step})
        return sha256

    def save(self, policy, *, step, parent, trainer_state=None):
        self.save_policy(policy, step=step, parent=parent)
        with atomic(trainer_state or Path(policy).parent / "trainer_state", folder=True) as draft:
            save_file(self.speed, draft / "speed.safetensors")
            write_json(draft / "iteration.json", self.iteration)

    def load(self, policy, trainer_state=None):
        state = trainer_state or Path(policy).parent / "trainer_state"
        self.model.load_state_dict(load_file(Path(policy) / "model.safetensors"), strict=False)
        self.speed = load_file(state / "speed.safetensors")
        self.iteration = int((state / "iteration.json").read_text())

@trainer("plain", parameters=Momentum)
def plain(policy, update, *, parameters, learning_rate, **others):
    return Plain(policy, learning_rate, parameters.momentum)

@trainer("nothing")
def nothing(policy, update, **others):
    return object()

@trainer("raises")
def raises(policy, update, **others):
    return update.optimizer
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def choose(file: Path, own: str, name: str = "plain") -> Params:
    """Choose a user's trainer in a params.yaml."""
    raw = yaml.safe_load((file if file.exists() else SHIPPED).read_text(encoding="utf-8"))
    raw |= {"extensions": [own], "threads": 1}
    raw["update"] |= {"trainer": name} | ({"plain": {"momentum": 0.5}} if name == "plain" else {})
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return parse(file.read_text(encoding="utf-8"))


def learn(bench: Workbench, iterations: int) -> list[dict[str, float]]:
    """Return the metrics of each update."""
    found = []
    for iteration in range(iterations):
        rollouts = bench.rollout(iteration).path
        found.append(dict(bench.update(iteration, rollouts, bench.reward(iteration, rollouts).path).figures))
    return found


def test_it_trains_through_the_workers_and_goes_on_where_a_killed_run_stopped(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine samples the second iteration with its weights, and an update by hand gives the same ones."""
    place = make_project(tmp_path / "project", {})
    choose(place / "params.yaml", own)
    monkeypatch.chdir(place)
    bench = Workbench("s1")
    metrics = learn(bench, 2)
    assert all(one["logprob_gap_mean"] < 1e-5 for one in metrics)  # engine and trainer compute the same model
    last = bench.store.place("checkpoints", bench.keys[1].policy) / "policy"
    policies = [load_file(folder / "model.safetensors") for folder in (place / "data/base_model", last)]
    assert any(not torch.equal(policies[0][name], policies[1][name]) for name in policies[0])
    assert metrics[0]["learning_rate"] == 5e-3

    sampled = artefacts.read_table(bench.store.place("rollouts", bench.keys[1].rollouts) / "rollouts.parquet", ROLLOUTS)
    bench.store.remove("updates", bench.keys[1].policy)
    bench.store.remove("checkpoints", bench.keys[1].policy)
    bench.store.remove("rollouts", bench.keys[1].rollouts)
    again = Workbench("s1")
    assert learn(again, 2)[1] == metrics[1]
    assert weights_sha256(last) == artefacts.read_json(last / "manifest.json")["sha256"]
    for name, tensor in load_file(last / "model.safetensors").items():
        assert torch.equal(tensor, policies[1][name]), name
    file = again.store.place("rollouts", again.keys[1].rollouts) / "rollouts.parquet"
    assert artefacts.read_table(file, ROLLOUTS) == sampled


def test_it_trains_from_files_to_files(own: str, tmp_path: Path) -> None:
    choose(tmp_path / "params.yaml", own)
    rollouts = make_rollouts()
    artefacts.write_table(tmp_path / "rollouts.parquet", rollouts)
    artefacts.write_table(tmp_path / "rewards.parquet", make_rewards(rollouts))
    make_policy(tmp_path / "policy")
    given = {name: tmp_path / f"{name}.parquet" for name in ("rollouts", "rewards")}
    given |= {"params": tmp_path / "params.yaml"}

    def update(policy: Path, out: Path, *more: str) -> int:
        paths = given | {"policy": policy, "out": out / "policy", "advantages": out / "advantages.parquet"}
        words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
        return main([*words, "--stage", "stage1", *more]) or 0

    one, two = tmp_path / "one", tmp_path / "two"
    assert update(tmp_path / "policy", one) == 0
    assert update(one / "policy", two, "--state", str(one / "trainer_state")) == 0
    assert (two / "trainer_state/iteration.json").read_text().strip() == "2"
    assert artefacts.read_json(two / "policy/manifest.json")["parent"] == weights_sha256(one / "policy")
    assert artefacts.read_table(two / "advantages.parquet", ADVANTAGES).num_rows == 16


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"own\.py, line \d+: the trainer 'nothing' is a object, which has no export_weights, iteration"),
        ("raises", r"own\.py, line \d+: the trainer 'raises' raised AttributeError: .*'optimizer'"),
    ],
)
def test_what_is_no_trainer_is_one_line(name: str, said: str, own: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        load_trainer(tmp_path, choose(tmp_path / "params.yaml", own, name), learning_rate=1e-3)
    assert "\n" not in str(raised.value)
