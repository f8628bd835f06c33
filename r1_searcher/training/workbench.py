"""The steps of a segment's iterations, run by its workers and kept in the store.

What is stored is not made again. A killed segment is continued: updates after the last checkpoint are replayed from
stored rollouts, and sampling continues where no rollouts are stored. Replayed and uninterrupted runs are bitwise equal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint, read_json, write_json, write_table
from r1_searcher.files.rollouts import read_rollouts
from r1_searcher.files.store import Store, readable_size
from r1_searcher.progress import Paced, Told, nobody
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.shown import show
from r1_searcher.training import batches, figures, handover
from r1_searcher.training.in_process import InProcessWorkers
from r1_searcher.training.segment import Made, SegmentState
from r1_searcher.training.workers import Job, Lesson, Policy, Trainers, Workers, WorkerSettings

Step = Literal["rollout", "watch"]


@dataclass(frozen=True)
class _Asked:
    """What a step samples: the trajectories of ``job`` by the policy after ``done`` updates, stored under (kind,
    key)."""

    kind: str
    key: str
    done: int
    job: Job


class Workbench(SegmentState):
    """The steps of one segment, each found in the store or made by the workers."""

    def __init__(
        self,
        name: str,
        *,
        params_file: Path = contract.PARAMS_FILE,
        store: Store | None = None,
        workers: Workers | None = None,
    ) -> None:
        """``workers``: default engine and trainer in this process. None is started before it is needed."""
        super().__init__(name, params_file=params_file, store=store)
        self.told: Told = nobody  # progress display for a rollout in this process
        self.workers: Workers = workers or InProcessWorkers(self.worker_settings, self._report_progress)
        if dropped := self.store.drop_drafts():
            size = readable_size(sum(draft.size for draft in dropped))
            show(f"{name}: removed {len(dropped)} unfinished drafts of killed runs ({size})")

    @property
    def worker_settings(self) -> WorkerSettings:
        """The settings that this segment's workers start with."""
        return WorkerSettings(self.params, self.segment.stage, self.start, self.roots.retriever)

    def _report_progress(self, done: int, total: int) -> None:
        self.told(done, total)

    def prepare(self) -> None:
        """Import libraries that this process will need, while it waits for something else."""
        if isinstance(self.workers, InProcessWorkers) and self.params.workers.place == "inside":
            with Paced(f"{self.name}: loading libraries"):
                self.workers.prepare()

    # --- sampling -----------------------------------------------------------------------------

    def rollout(self, iteration: int, *, sampled: bool = False) -> Made:
        """Return the iteration's trajectories: sample missing shards one after another, then join all.

        ``sampled``: another caller has just done the sampling.
        """
        made = self._sampled_step("rollout", iteration, sampled)
        if not made.stored and self.store.differs("rollouts", self.keys[iteration].rollouts, made.path.name):
            self._remove_descendants(iteration)
        return made

    def _remove_descendants(self, iteration: int) -> None:
        """Remove what was made from damaged rollouts, if sampling again gave other ones."""
        what = f"iteration {iteration + 1} was sampled again, with other rollouts"
        show(f"{self.name}: {what}: results derived from the damaged ones are made again too")
        for later in range(iteration, self.length):
            keys = self.keys[later]
            made = [("rewards", keys.rewards), ("updates", keys.policy), ("references", keys.policy)]
            made += [("watches", self._watch_key(later + 1)), ("rewards", self._watch_rewards_key(later + 1))]
            made.append(("checkpoints", keys.policy))
            if later > iteration:
                made.append(("rollouts", keys.rollouts))
            for kind, key in made:
                self.store.remove(kind, key)
            self._curves.pop(later, None)

    def watch(self, done: int, *, sampled: bool = False) -> Made:
        """Validate the policy after ``done`` updates by greedy rollouts; figures are their means."""
        made = self._sampled_step("watch", done, sampled)
        key = self._watch_rewards_key(done)
        if not made.stored:
            self.store.remove("rewards", key)  # of a validation that was damaged
        place = {"rollouts": self._watch_key(done), "segment": self.name, "iteration": self.number(done - 1)}
        rewards, _ = self._rewarded(key, made.path, place)
        return Made(made.path, figures.means(read_rewards(rewards)), made.seconds, made.stored)

    def missing(self, step: Step, number: int) -> list[int]:
        """Return the shards of a step that are still to be sampled; none if the whole is stored."""
        asked = self._job_of(step, number)
        if self.store.get(asked.kind, asked.key):
            return []
        return [shard for shard in range(self._shards(asked)) if not self.store.get(*self._place(asked, shard))]

    def hand_over(self, step: Step, number: int) -> None:
        """Write this step's weights and a probe to the store, so that any engine can load and verify them.

        Includes the first policy and checkpoints. Not while another step is sampled.
        """
        if self.workers.weights is not None:
            # Nothing to compare: after an update the engine copies the trainer's own tensors, and each opens the
            # starting folder with transformers, which checks every weight against its config.json (files/weights.py).
            return
        done = self._job_of(step, number).done
        before = self.policy_of(done)  # with overlap it samples next, and a trainer at ``done`` is past it
        if before < done < self.length and self.workers.trainer.at is None and self.missing("rollout", done):
            self._keep_probe(before)
        self._keep_probe(done)

    def _keep_probe(self, done: int) -> None:
        """Store the trainer's probe of the policy after ``done`` updates, and its weights if no folder has them."""
        if self._handed_over(done) is not None:
            return
        if self._shares_gpu and self.workers.trainer.at is None:
            self.workers.engines.sleep()  # before a trainer is loaded
        if done == 0:
            probe = handover.prompt_probe(self.start, self.params, self.questions["question"].to_pylist())
        else:
            rollouts = self.store.place("rollouts", self.keys[done - 1].rollouts)
            probe = handover.sampled_probe(rollouts / "rollouts.parquet")
        trainer = self._trainer_after(done)
        with self.store.put(handover.WEIGHTS_KIND, self._probe_key(done)) as draft:
            if self.policy_folder(done) is None:
                trainer.save_policy(draft / "policy", step=self._step_number(done), parent=self.roots.policy)
            handover.write(draft, trainer, probe, given=done == 0)
        for earlier in range(self.policy_of(done)):
            self.store.remove(handover.WEIGHTS_KIND, self._probe_key(earlier))

    def _probe_key(self, done: int) -> str:
        """Return the key of what is handed over with a policy. The first policy's own key lacks precision and
        temperature."""
        return self.keys[done - 1].policy if done else fingerprint(["probe", self.keys[0].policy])

    def sample(self, step: Step, number: int, shard: int) -> None:
        """Sample one shard of a step; any thread may, after ``hand_over``."""
        asked = self._job_of(step, number)
        job = asked.job
        if (shards := self._shards(asked)) > 1:
            offset, length = batches.shard(job.questions.num_rows, shard, shards)
            job = Job(job.questions.slice(offset, length), job.samples, job.seed, job.greedy, None, job.metadata)
        with self.store.put(*self._place(asked, shard)) as draft:
            self.workers.engines.roll_out(self._policy(asked.done), job, draft)

    def _job_of(self, step: Step, number: int) -> _Asked:
        allowed = self.params.rollout.max_error_share
        if step == "rollout":
            key = self.keys[number].rollouts
            samples, seed = self.stage.samples_a_question, self.sampling_seed(number)
            job = Job(self.drawn(number), samples, seed, False, allowed, self.provenance(number))
            return _Asked("rollouts", key, self.policy_of(number), job)
        key = self._watch_key(number)
        return _Asked("watches", key, number, Job(self.validation, 1, 0, True, allowed, {"key": key}))

    def _shards(self, asked: _Asked) -> int:
        return min(self.params.workers.shards, int(asked.job.questions.num_rows))

    def _place(self, asked: _Asked, shard: int) -> tuple[str, str]:
        """Return kind and key of a shard; a single shard is the whole."""
        if (shards := self._shards(asked)) == 1:
            return asked.kind, asked.key
        return "shards", fingerprint([asked.key, shard, shards])

    def _sampled_step(self, step: Step, number: int, sampled: bool) -> Made:
        began = time.monotonic()
        asked = self._job_of(step, number)
        here = self.missing(step, number)
        if here:
            self.hand_over(step, number)
        for shard in here:
            self.sample(step, number, shard)
        stored = self.store.get(asked.kind, asked.key) is not None and not (here or sampled)
        if self.store.get(asked.kind, asked.key) is None:
            self._join(asked)
        folder = self.store.place(asked.kind, asked.key)
        if stored:
            return Made(folder / "rollouts.parquet", {}, time.monotonic() - began, True)
        timings = read_json(folder / "timings.json")
        seconds = timings["seconds"] if sampled else time.monotonic() - began
        return Made(folder / "rollouts.parquet", {}, seconds, False, timings["policy_tokens"] / timings["seconds"])

    def _join(self, asked: _Asked) -> None:
        """Join all shards into one file, in the questions' order, and remove them."""
        from r1_searcher.rollout.outages import check_lost

        parts = [self._place(asked, shard) for shard in range(self._shards(asked))]
        folders = [self.store.place(*part) for part in parts]
        tables = [read_rollouts(folder / "rollouts.parquet") for folder in folders]
        timings = [read_json(folder / "timings.json") for folder in folders]
        table = pa.concat_tables(tables)
        try:
            check_lost(table, self.params.rollout.max_error_share)
        except PipelineError:
            for part in parts:  # else what was lost would be reused
                self.store.remove(*part)
            raise
        with self.store.put(asked.kind, asked.key) as draft:
            write_table(draft / "rollouts.parquet", table.combine_chunks())
            seconds = max(one["seconds"] for one in timings)  # sampled at the same time
            tokens = sum(one["policy_tokens"] for one in timings)
            write_json(draft / "timings.json", {"shards": timings, "policy_tokens": tokens, "seconds": seconds})
        for part in parts:
            self.store.remove(*part)

    # --- reward and update --------------------------------------------------------------------

    def reward(self, iteration: int, rollouts: Path) -> Made:
        """Reward the trajectories of ``rollouts``; figures are the means over them."""
        began, keys = time.monotonic(), self.keys[iteration]
        path, stored = self._rewarded(keys.rewards, rollouts, {"rollouts": keys.rollouts})
        found = figures.means(read_rewards(path))
        return Made(path, found, time.monotonic() - began, stored)

    def _rewarded(self, key: str, rollouts: Path, made_from: Mapping[str, Any]) -> tuple[Path, bool]:
        """Return the file of the rewards of ``rollouts``, and whether it was stored. ``made_from``: its metadata."""
        stored = self.store.get("rewards", key) is not None
        if not stored:
            from r1_searcher.rewards.scoring import reward_table

            table = reward_table(read_rollouts(rollouts), self.params.reward, self.stage.reward_stage)
            with self.store.put("rewards", key) as draft:
                write_table(draft / "rewards.parquet", table, {"key": key, **made_from})
        return self.store.place("rewards", key) / "rewards.parquet", stored

    def update(self, iteration: int, rollouts: Path, rewards: Path) -> Made:
        """Update the policy from rewarded trajectories; figures are the update's metrics.

        The trainer always runs it, stored or not: the next update needs its state.
        """
        key = self.keys[iteration].policy
        began = time.monotonic()
        if self._shares_gpu:
            self.workers.engines.sleep()  # before a trainer is loaded
        trainer = self._trainer_after(iteration)
        lesson, stored = self._lesson(iteration, rollouts, rewards), self.store.get("updates", key)
        if stored is None:
            with self.store.put("updates", key) as draft:
                trainer.update(lesson, draft)
                write_json(draft / "timings.json", {"seconds": time.monotonic() - began})
        else:
            trainer.update(lesson)
        if self.is_checkpointed(iteration + 1):
            self._checkpoint(iteration + 1)
        path = self.store.place("updates", key) / "advantages.parquet"
        return Made(path, dict(read_json(path.with_name("metrics.json"))), time.monotonic() - began, stored is not None)

    def _lesson(self, iteration: int, rollouts: Path, rewards: Path) -> Lesson:
        keys = self.keys[iteration]
        metadata = {"key": keys.policy, "rewards": keys.rewards}
        on_policy = self.policy_of(iteration) == iteration
        return Lesson(rollouts, rewards, self._reference(iteration), metadata, on_policy)

    def _reference(self, iteration: int) -> Path | None:
        """Return the reference policy's log-probabilities of an iteration's rollouts, if it has a process of its
        own."""
        if self.workers.reference is None:
            return None
        key = self.keys[iteration].policy
        if self.store.get("references", key) is None:
            rollouts = self.store.place("rollouts", self.keys[iteration].rollouts) / "rollouts.parquet"
            with self.store.put("references", key) as draft:
                self.workers.reference.logprobs(rollouts, draft / "reference.parquet")
        return self.store.place("references", key) / "reference.parquet"

    @property
    def _shares_gpu(self) -> bool:
        return self.params.hardware.gpus == 1

    def _checkpoint(self, done: int) -> None:
        """Store the policy and the trainer state after ``done`` updates."""
        key = self.keys[done - 1].policy
        if self.store.get("checkpoints", key) is None:
            with self.store.put("checkpoints", key) as draft:
                self._trainer_after(done).save(draft / "policy", step=self._step_number(done), parent=self.roots.policy)

    def _step_number(self, done: int) -> int:
        return self.segment.iteration_offset + done

    # --- weights ------------------------------------------------------------------------------

    def _trainer_after(self, done: int) -> Trainers:
        """Return the trainer after ``done`` updates: the warm one, else the last checkpoint with later updates replayed
        from the store."""
        trainer = self.workers.trainer
        if trainer.at is None:
            at = next(place for place in range(done, -1, -1) if self.policy_folder(place) is not None)
            trainer.begin(self.policy_folder(at) if at > 0 or self.continues else None, at)
        while trainer.at is not None and trainer.at < done:
            keys = self.keys[trainer.at]
            rollouts, rewards = self.store.place("rollouts", keys.rollouts), self.store.place("rewards", keys.rewards)
            trainer.update(self._lesson(trainer.at, rollouts / "rollouts.parquet", rewards / "rewards.parquet"))
        assert trainer.at == done, f"the trainer is at {trainer.at}, not at {done}"
        return trainer

    def _policy(self, done: int) -> Policy:
        """Return the policy after ``done`` updates for an engine to load."""
        if self.workers.weights is not None:
            return Policy(self.policy_key(done), self.policy_folder(done), weights=lambda: self._weights_after(done))
        policy = self._handed_over(done)
        assert policy is not None, "hand_over comes before sample"
        return policy

    def _weights_after(self, done: int) -> Mapping[str, Any]:
        self._trainer_after(done)
        assert self.workers.weights is not None
        return self.workers.weights()

    def _handed_over(self, done: int) -> Policy | None:
        """Return the policy after ``done`` updates in a folder, with its probe; None until both exist."""
        return handover.find(self.store, self.policy_key(done), self._probe_key(done), self.policy_folder(done))

    def tidy(self) -> None:
        """Remove what was handed over: a finished segment no longer needs it."""
        for done in range(self.length + 1):
            self.store.remove(handover.WEIGHTS_KIND, self._probe_key(done))
            self.store.remove("references", self.policy_key(done))
