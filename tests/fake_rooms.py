"""Fakes for rollout and update that are quick, bitwise repeatable, and depend on their state.

The policy is four numbers. A trajectory's tokens depend on (policy, question, seed); the trainer has momentum, so that
resuming without its state ends elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.files.artefacts import sha256_file, sha256_tree, write_json
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import ADVANTAGES, PASSAGES, QUESTIONS, ROLLOUTS

PASSAGE_ROWS = [{"passage_id": "p0", "title": "Ada", "text": "Ada was born in Rome.", "source": "test"}]
Weights = list[float]
calls: list[str] = []  # the calls of the fakes, in order


def write_policy(folder: Path, weights: Weights, step: int, parent: str | None) -> None:
    """Write a policy folder as elsewhere: a weights file and a manifest."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(struct.pack("4d", *weights))
    sha256 = sha256_file(folder / "model.safetensors")
    write_json(folder / "manifest.json", {"sha256": sha256, "parent": parent, "step": step})


def read_policy(folder: Path) -> Weights:
    return list(struct.unpack("4d", (folder / "model.safetensors").read_bytes()))


class FakeEngine:
    name = "fake"

    def __init__(self, policy: Path) -> None:
        self.weights = read_policy(policy)
        if os.environ.get("FAKE_BLIND"):  # it starts, with weights other than the folder's
            self.weights = [1.0, *self.weights[1:]]

    def load_state(self, weights: Weights) -> None:
        self.weights = list(weights)

    def load_weights(self, policy: Path) -> None:
        if not os.environ.get("FAKE_DEAF"):
            self.weights = read_policy(policy)

    def score(self, token_ids: list[list[int]], *, temperature: float) -> list[list[float]]:
        return [[sum(self.weights)] * len(ids) for ids in token_ids]


class FakeTrainer:
    def __init__(self, policy: Path, learning_rate: float) -> None:
        self.weights, self.momentum, self.learning_rate = read_policy(policy), [0.0] * 4, learning_rate

    def export_weights(self) -> Weights:
        return list(self.weights)

    def logprobs(self, token_ids: list[list[int]], policy_mask: list[list[bool]]) -> list[list[float]]:
        return [[sum(self.weights)] * sum(mask) for mask in policy_mask]

    def save_policy(self, policy: Path, *, step: int, parent: str) -> None:
        if os.environ.get("RANK", "0") == "0":
            write_policy(policy, self.weights, step, parent)

    def save(self, policy: Path, *, step: int, parent: str) -> None:
        self.save_policy(policy, step=step, parent=parent)
        if os.environ.get("RANK", "0") != "0":
            return
        state = policy.parent / "trainer_state"
        state.mkdir()
        (state / "momentum.json").write_text(json.dumps(self.momentum))

    def load(self, policy: Path) -> None:
        self.weights = read_policy(policy)
        self.momentum = json.loads((policy.parent / "trainer_state" / "momentum.json").read_text())


def _noise(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _called(what: str) -> None:
    """Record a call; the call numbered FAKE_KILL_AT ends the process."""
    calls.append(what)
    if str(len(calls)) == os.environ.get("FAKE_KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    if str(len(calls)) == os.environ.get("FAKE_RAISE_AT"):
        raise MemoryError("as in a test")
    _lose(f"{what}/{os.environ.get('RANK', '')}")


def _lose(what: str) -> None:
    """End this process if the file FAKE_LOSE names its work (or hang, if it says so); the file is then removed, unless
    it says always."""
    order = Path(os.environ.get("FAKE_LOSE", "no such file"))
    words = order.read_text().split() if order.exists() else []
    if what in words:
        if "always" not in words:
            try:
                order.unlink()
            except FileNotFoundError:  # another process was first
                return
        os.kill(os.getpid(), signal.SIGSTOP if "stop" in words else signal.SIGKILL)


def engine_worker(settings: object) -> object:
    """An engine worker in its own process, with the fakes as stages."""
    _be_a_fake_process()
    from r1_searcher.training.engine_worker import EngineWorker

    return EngineWorker(settings)  # type: ignore[arg-type]


def trainer_worker(settings: object) -> object:
    """The same for a trainer."""
    _be_a_fake_process()
    from r1_searcher.training.trainer_worker import TrainerWorker

    return TrainerWorker(settings)  # type: ignore[arg-type]


def _meet(iteration: int) -> None:
    """If FAKE_MEETING is a folder: write there which iteration is done, and wait until that file is removed."""
    if folder := os.environ.get("FAKE_MEETING"):
        here = Path(folder, str(iteration))
        here.touch()
        while here.exists():
            time.sleep(0.05)


def _be_a_fake_process() -> None:
    sys.modules.update(fakes() | {"torch": module("torch", set_num_threads=lambda threads: None)})
    sys.modules["r1_searcher.training.rendezvous"] = module(
        "r1_searcher.training.rendezvous", join_process_group=lambda: None
    )  # these add nothing up
    Path("processes").mkdir(exist_ok=True)
    Path("processes", str(os.getpid())).touch()


def use_fake_workers() -> None:
    """Let flows start these instead of the real ones."""
    import flows.workers

    flows.workers.ENGINE, flows.workers.TRAINER = "fake_rooms:engine_worker", "fake_rooms:trainer_worker"


def roll_out(
    engine: FakeEngine,
    retriever: object,
    questions: pa.Table,
    rollout: object,
    *,
    samples: int,
    seed: int,
    greedy: bool = False,
    mode: str = "search",
    told: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pa.Table, dict[str, float]]:
    _called("watch" if greedy else "rollout")
    rows = []
    for question in questions.to_pylist():
        for sample in range(samples):
            noise = _noise(engine.weights, question["question"], sample, 0 if greedy else seed)
            answer = question["answers"][0] if noise[0] % 2 else "nobody"
            text = f"thought {noise[1]}</think>\n\n<answer> {answer} </answer>"
            if os.environ.get("FAKE_BROKEN"):
                text = "gibberish"
            tokens = list(noise[: 4 + noise[2] % 8])
            errors = os.environ.get("FAKE_ERRORS")
            failed = errors == "all" or (errors is not None and noise[3] % 2 == 0)
            turn: dict[str, Any] = {
                "query": "who",
                "passage_ids": [],
                "scores": [],
                "error": "gone" if failed else None,
            }
            rows.append(
                {
                    "trajectory_id": f"{question['question_id']}#{sample}",
                    "question_id": question["question_id"],
                    "sample": sample,
                    "question": question["question"],
                    "answers": question["answers"],
                    "prompt": "prompt",
                    "token_ids": [1, *tokens],
                    "token_source": [grammar.PROMPT, *[grammar.POLICY] * len(tokens)],
                    "policy_logprobs": [-0.5] * len(tokens),
                    "turns": [turn] if failed or noise[3] % 2 == 0 else [],
                    "segments": [{"source": "policy", "text": text}],
                    "text": text,
                    "answer": answer,
                    "finish_reason": grammar.FINISH_RETRIEVER_ERROR if failed else grammar.FINISH_ANSWER,
                    "seed": seed,
                }
            )
    told(len(rows), len(rows))
    policy_tokens = float(sum(len(row["policy_logprobs"]) for row in rows))
    return pa.Table.from_pylist(rows, schema=ROLLOUTS), {"search_seconds": 0.0, "policy_tokens": policy_tokens}


def update_policy(
    trainer: FakeTrainer, rollouts: pa.Table, rewards: pa.Table, *settings: object, **more: object
) -> tuple[pa.Table, dict[str, float]]:
    _called("update")
    mean = sum(rewards["total"].to_pylist()) / rewards.num_rows
    push = [mean * byte / 255 for byte in _noise(rollouts["text"].to_pylist())[:4]]
    trainer.momentum = [0.9 * old + new for old, new in zip(trainer.momentum, push, strict=True)]
    trainer.weights = [w + trainer.learning_rate * m for w, m in zip(trainer.weights, trainer.momentum, strict=True)]
    rows = [
        {"trajectory_id": row["trajectory_id"], "advantages": [mean] * len(row["policy_logprobs"])}
        | {"returns": [mean] * len(row["policy_logprobs"]), "ref_logprobs": []}
        for row in rollouts.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=ADVANTAGES), {"loss": -mean}


def module(name: str, **names: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(names)
    return made


def fakes() -> dict[str, types.ModuleType]:
    """Return fakes for sys.modules in place of the stages with models."""
    import r1_searcher

    rollout = module(
        "r1_searcher.rollout",
        roll_out=roll_out,
        load_engine=lambda policy, params, tensor_parallel: FakeEngine(Path(policy)),
    )
    rollout.__path__ = [str(Path(r1_searcher.__file__).parent / "rollout")]  # its prompts are the real ones
    update = module(
        "r1_searcher.update",
        update_policy=update_policy,
        load_trainer=lambda policy, params, learning_rate, **more: FakeTrainer(Path(policy), learning_rate),
    )
    update.__path__ = [str(Path(r1_searcher.__file__).parent / "update")]
    return {
        "r1_searcher.rollout": rollout,
        "r1_searcher.update": update,
        "r1_searcher.model_folders": module(
            "r1_searcher.model_folders",
            load_tokenizer=lambda policy: types.SimpleNamespace(encode=lambda text, **more: list(text.encode())),
        ),
        "r1_searcher.rollout.engines": module("r1_searcher.rollout.engines"),
        "r1_searcher.update.trainer": module("r1_searcher.update.trainer"),
        "r1_searcher.retrieval": module(
            "r1_searcher.retrieval",
            identify=lambda params, index: types.SimpleNamespace(
                **dict.fromkeys(("fingerprint", "corpus", "description"), sha256_tree(index))
            ),
            open_retriever=lambda params, index, corpus=None, fingerprint=None: object(),
        ),
    }


def write_project(root: Path, params_text: str) -> None:
    """Make a project folder with everything that training reads."""
    from r1_searcher.files.artefacts import write_table, write_text

    write_text(root / "params.yaml", params_text)
    for split, count in (("train", 12), ("validation", 4)):
        rows = [
            {"question_id": f"{split}{n}", "question": f"who is {split} {n}?", "answers": [f"name {n}"]}
            | {"dataset": "test", "kind": "composition", "supporting_titles": []}
            for n in range(count)
        ]
        write_table(root / "data/questions" / f"{split}.parquet", pa.Table.from_pylist(rows, schema=QUESTIONS))
    write_table(root / "data/corpus/passages.parquet", pa.Table.from_pylist(PASSAGE_ROWS, schema=PASSAGES))
    write_json(root / "data/index/meta.json", {})
    write_policy(root / "data/base_model", [0.1, 0.2, 0.3, 0.4], 0, None)


if __name__ == "__main__":  # a whole run in its own process: python fake_rooms.py SEGMENT
    sys.modules.update(fakes())
    use_fake_workers()
    from flows.server import LOST_VARIABLE

    if os.environ.get(LOST_VARIABLE):  # the run now restarts its own server: as patient as Prefect is
        os.environ.pop("PREFECT_CLIENT_MAX_RETRIES", None)
    from flows.log import SegmentLog
    from flows.train import main

    def last(log: SegmentLog, iteration: int, *made: Any) -> None:
        if str(iteration) == os.environ.get("FAKE_LAST_ITERATION"):
            os.kill(os.getpid(), signal.SIGKILL)
        _meet(iteration)
        say(log, iteration, *made)

    say: Any = SegmentLog.iteration
    SegmentLog.iteration = last  # type: ignore[assignment, method-assign]

    raise SystemExit(main(["--segment", sys.argv[1]]))
