"""State of a training segment: its parameters, keys and questions, and its progress according to the store.

Nothing is loaded or made here; ``workbench`` does that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint, read_json, read_table, sha256_tree
from r1_searcher.files.store import Store
from r1_searcher.files.window import check_window
from r1_searcher.params import Params, TrainSegment, TrainStage
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.rewards.rules import rules_from
from r1_searcher.training import batches, chain, figures, preflight
from r1_searcher.training.engine_worker import INDEX
from r1_searcher.training.segment_questions import SegmentQuestions
from r1_searcher.types.schemas import QUESTIONS

VALIDATION_QUESTIONS = Path("data/questions/validation.parquet")
TIMINGS = ".timings"  # in the store: one file per segment, one line per iteration


@dataclass(frozen=True)
class Made:
    """Result of a step: its file, figures, seconds, and whether it was already stored."""

    path: Path
    figures: dict[str, float]
    seconds: float
    stored: bool
    tokens_per_second: float | None = None  # policy tokens per second of sampling


class SegmentState:
    """One segment of training. Iterations count from 0 within the segment; ``done`` counts updates."""

    def __init__(self, name: str, *, params_file: Path = contract.PARAMS_FILE, store: Store | None = None) -> None:
        """Read parameters and identities; loads nothing heavy. Raises ``PipelineError`` for an inconsistent chain."""
        self.name = name
        self.params: Params = contract.load(params_file)
        chain.check_chain(self.params, name)
        self.segment: TrainSegment = self.params.train.segments[name]
        self.stage: TrainStage = getattr(self.params.train, self.segment.stage)
        self.start = Path(self.segment.prev)
        self.store = store or Store()
        self.continues = chain.continues_optimizer(self.params, name)
        self.code = chain.room_code()
        self.questions = self._read_questions()
        watched = read_table(VALIDATION_QUESTIONS, QUESTIONS).slice(0, self.stage.evaluate_questions)
        self.asked = SegmentQuestions(
            self.params, self.segment, self.questions, watched, watched_file=VALIDATION_QUESTIONS.as_posix()
        )
        self.roots = chain.Roots(
            policy=sha256_tree(self.start),
            trainer_state=sha256_tree(self.start.parent / "trainer_state") if self.continues else None,
            retriever=_retriever_fingerprint(self.params),
            questions=sha256_tree(self.segment.questions),
        )
        left_out = [self.asked.left_out_of(iteration) for iteration in range(self.length)]
        self.keys = chain.chain_keys(self.params, self.segment, self.roots, self.code, left_out)
        self._curves: dict[int, dict[str, Any]] = {}
        self._contents: dict[Path, str] = {}  # hashes of policy folders, which are large and do not change

    def _read_questions(self) -> pa.Table:
        """Return the segment's training questions, after checking that they suffice for an iteration."""
        table = read_table(self.segment.questions, QUESTIONS)
        if table.num_rows < self.stage.questions_an_iteration:
            raise PipelineError(
                f"{table.num_rows} training questions, but an iteration asks {self.stage.questions_an_iteration}",
                where=self.segment.questions,
                fix=f"lower train.{self.segment.stage}.questions_an_iteration",
            )
        preflight.check_ids(table["question_id"].to_pylist(), self.segment.questions)
        preflight.check_groups(self.stage, self.segment.stage, self.params.update)
        return table

    @property
    def length(self) -> int:
        """Number of iterations of this segment."""
        return self.segment.iterations

    def number(self, iteration: int) -> int:
        """Return an iteration's number over the whole chain of segments, from 1: the curves' x axis."""
        return chain.iterations_before(self.params, self.name) + iteration + 1

    # --- where to start -----------------------------------------------------------------------

    def resume_point(self) -> int:
        """Return how many updates need not be repeated: those of the last checkpoint before which nothing is missing,
        or 0.

        With overlap the next rollouts come from the policy before that checkpoint's: either they or that policy must be
        stored.
        """
        there: list[int] = []
        for done in range(1, self.length + 1):
            keys = self.keys[done - 1]
            if not (
                self.store.get("rollouts", keys.rollouts)
                and self.store.get("rewards", keys.rewards)
                and self.store.get("updates", keys.policy)
            ):
                break
            if not self._watched(done - 1):
                break
            there.append(done)
        # From the last one back: checkpoints are large, and `get` reads them.
        return next((done for done in reversed(there) if self._is_stored(done) and self._goes_on_from(done)), 0)

    def _is_stored(self, done: int) -> bool:
        return self.store.get("checkpoints", self.keys[done - 1].policy) is not None

    def found(self, first: int) -> str | None:
        """Describe what an earlier run stored after iteration ``first`` that this run can use; None if nothing."""
        keys = self.keys[first:]
        counts = {
            "rollouts": sum(self.store.get("rollouts", one.rollouts) is not None for one in keys),
            "rewards": sum(self.store.get("rewards", one.rewards) is not None for one in keys),
            "updates": sum(self.store.get("updates", one.policy) is not None for one in keys),
        }
        if not any(counts.values()):
            return None
        return (
            f"kept by an earlier run and used again: {', '.join(f'{number} {kind}' for kind, number in counts.items())}"
        )

    def _goes_on_from(self, done: int) -> bool:
        if done == self.length or self.store.get("rollouts", self.keys[done].rollouts):
            return True
        sampled = self.policy_of(done)
        return sampled == done or self.policy_folder(sampled) is not None

    def _watched(self, done: int) -> bool:
        return not self.is_watched(done) or self.store.get("watches", self._watch_key(done)) is not None

    def is_watched(self, done: int) -> bool:
        """Return whether the policy after ``done`` updates is validated: the first, the last, and every n-th."""
        return done in (0, self.length) or done % self.stage.evaluate_every == 0

    def is_checkpointed(self, done: int) -> bool:
        """Return whether the policy after ``done`` updates is kept with its trainer state."""
        return done == self.length or done % self.stage.checkpoint_every == 0

    # --- inputs of an iteration ---------------------------------------------------------------

    def policy_of(self, iteration: int) -> int:
        """Return the number of updates of the policy that samples an iteration: all earlier ones or, with overlap, one
        fewer."""
        return chain.sampled_by(iteration, self.params.train.overlap)

    def policy_key(self, done: int) -> str:
        """Return the key of the policy after ``done`` updates."""
        return self.roots.policy if done == 0 else self.keys[done - 1].policy

    def policy_folder(self, done: int) -> Path | None:
        """Return a stored folder of the policy after ``done`` updates; it has trainer state unless it is the start."""
        if done == 0:
            return self.start
        checkpoint = self.store.get("checkpoints", self.keys[done - 1].policy)
        return None if checkpoint is None else checkpoint / "policy"

    def drawn(self, iteration: int) -> pa.Table:
        """Return the questions of an iteration."""
        return self.asked.drawn(iteration)

    def sampling_seed(self, iteration: int) -> int:
        """Return the seed of an iteration's samples."""
        return batches.sampling_seed(
            seed=self.params.seed, stage=self.segment.stage, iteration=self.segment.iteration_offset + iteration
        )

    @property
    def validation(self) -> pa.Table:
        """The validation questions."""
        return self.asked.validation

    @functools.cached_property
    def _validation_identity(self) -> str:
        parts = [sha256_tree(VALIDATION_QUESTIONS), self.stage.evaluate_questions]
        return fingerprint([*parts, self.asked.left_out_of_watches] if self.asked.left_out_of_watches else parts)

    def _watch_key(self, done: int) -> str:
        """Return the key of a validation. The first and last are keyed by the policy's content, so that the end of one
        segment is not measured again at the beginning of the next."""
        if done == 0:
            policy = self.roots.policy
        elif done == self.length:
            folder = self.policy_folder(done)
            policy = self.keys[done - 1].policy if folder is None else self._content(folder)
        else:
            policy = self.keys[done - 1].policy
        return chain.watch_key(self.params, policy, self._validation_identity, self.roots.retriever, self.code)

    def _watch_rewards_key(self, done: int) -> str:
        return chain.watch_rewards_key(self.params, self.name, self._watch_key(done), self.code, self.number(done - 1))

    def _content(self, folder: Path) -> str:
        if folder not in self._contents:
            self._contents[folder] = sha256_tree(folder)
        return self._contents[folder]

    def provenance(self, iteration: int) -> dict[str, Any]:
        """Return the metadata of a rollouts file: all its inputs; no times, no machine names."""
        left_out = self.asked.left_out_of(iteration)
        return {
            **({"left_out": left_out} if left_out else {}),
            "key": self.keys[iteration].rollouts,
            "policy": self.policy_key(self.policy_of(iteration)),
            "start": self.roots.policy,
            "retriever": self.roots.retriever,
            "questions": self.roots.questions,
            "rollout": self.params.rollout.model_dump(mode="json"),
            "samples": self.stage.samples_a_question,
            "seed": self.params.seed,
            "iteration": self.segment.iteration_offset + iteration,
            "code": self.code["rollout"],
            "packages": chain.package_versions(),
        }

    def check_before(self) -> list[str]:
        """Check all questions of this segment before sampling (``r1_searcher.training.preflight``); return warnings.

        Loads only the policy's tokenizer. Raises ``PipelineError``.
        """
        reward = self.params.reward
        rules = rules_from(reward)
        rules.check_stage(self.stage.reward_stage)
        check_window(self.start, self.params.rollout.max_total_tokens)
        warnings = self.asked.warnings()
        for where, rows, render, tokenizer in self.asked.prompts():
            warnings += preflight.check_prompts(rows, render, tokenizer, self.params.rollout, where=where)
        # Only a warning: these files are no inputs of training, and the policy does not depend on them.
        for where, rows in self.asked.evaluated():
            warnings += preflight.evaluation_would_stop(rows, render, tokenizer, self.params.rollout, where=where)
        return warnings

    # --- results so far -----------------------------------------------------------------------

    def curve(self, iteration: int) -> dict[str, Any]:
        """Return an iteration's row of the curves, from the store: means of the rewards, metrics of the update."""
        if iteration not in self._curves:
            keys = self.keys[iteration]
            rewards = read_rewards(self.store.place("rewards", keys.rewards) / "rewards.parquet")
            metrics = read_json(self.store.place("updates", keys.policy) / "metrics.json")
            place = {"iteration": self.number(iteration), "stage": self.segment.stage, "segment": self.name}
            self._curves[iteration] = {**metrics, **figures.means(rewards), **place}
        return self._curves[iteration]

    def check_retriever(self, rewards: Made) -> None:
        """Raise ``PipelineError`` if the retriever lost too many of an iteration's trajectories."""
        figures.check_errors(rewards.figures, self.params.rollout.max_error_share)

    def check_collapse(self, iteration: int) -> None:
        """Raise ``PipelineError`` if the last iterations show that training has collapsed; all that was made is
        kept."""
        history = [self.curve(place) for place in range(iteration + 1)]
        found = figures.collapse(history, self.stage.collapse, f"train.{self.segment.stage}.collapse")
        if found is not None:
            raise PipelineError(
                f"training stops at iteration {iteration + 1}: {found.why}; finished work is kept in {self.store.root}",
                where=f"segment {self.name}",
                fix=found.advice,
            )

    def equal_rewards(self, iteration: int) -> str | None:
        """Return a warning if the last iterations trained nothing because rewards were equal within every group."""
        history = [self.curve(place) for place in range(iteration + 1)]
        return figures.equal_rewards(history, self.stage.collapse.patience)

    def note_timings(self, iteration: int, seconds: Mapping[str, float | None]) -> None:
        """Append an iteration's seconds to the store's timings, which differ between equal runs and are in no
        output."""
        path = self.store.root / TIMINGS / f"{self.params.profile}-{self.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": self.number(iteration), **seconds}) + "\n")


def _retriever_fingerprint(params: Params) -> str:
    """Return what a search depends on, without opening anything."""
    from r1_searcher.retrieval import identify

    return identify(params, index=INDEX).fingerprint
