"""Keys of the iteration artefacts, and a segment's place in the chain of segments.

An artefact's key contains all that it depends on, and nothing else:

    rollouts(i)  ← policy(i), questions of i, seeds, rollout params, retriever, shards, code of rollout
    rewards(i)   ← rollouts(i), reward params, code of reward and of the chosen set and metric
    policy(i+1)  ← policy(i), rewards(i), update params, learning rate, ranks, code of update

With ``train.overlap`` 1 it is rollouts(i) ← policy(i-1). No key contains which engine sampled a shard. So every key of
a segment is known before anything runs, and a longer segment continues a shorter one. A changed reward makes new
rollouts from the second iteration on, when the policy differs, not before.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import code_fingerprint, fingerprint
from r1_searcher.files.code import chosen_code, named_files
from r1_searcher.params import Params, TrainSegment
from r1_searcher.points import ENGINES, ESTIMATORS, LOSSES, TRAINERS
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.rollout.rows import chosen_parts

PACKAGES = ("torch", "transformers", "deepspeed", "numpy")  # another version may round differently
_REWARDS = tuple(f"rewards/{name}.py" for name in ("case", "columns", "metrics", "rules", "scoring"))
_ROLLOUT = ("rollout", "model_folders.py", "training/batches.py", "transcripts/documents.py")
_CONTRACT = (
    "transcripts/grammar.py",
    "transcripts/scripts.py",
    "types/model_config.py",
    "types/protocols.py",
    "types/schemas.py",
)


@dataclass(frozen=True)
class IterationKeys:
    """Store keys of one iteration; ``policy`` is the key of the policy that the update makes."""

    rollouts: str
    rewards: str
    policy: str


@dataclass(frozen=True)
class Roots:
    """Identities (sha256) of a segment's inputs."""

    policy: str  # of the starting policy's folder
    trainer_state: str | None  # of the trainer state that is continued; None: a fresh optimizer
    retriever: str  # its fingerprint: what it searches, and how
    questions: str  # of the training questions


def room_code() -> dict[str, str]:
    """Return fingerprints of the code that an iteration's artefacts depend on, by room, without what is chosen by name.

    The index' code is not included: the retriever's fingerprint identifies what it makes.
    """
    return {
        "rollout": code_fingerprint(*_ROLLOUT, *_CONTRACT, without=named_files(ENGINES)),
        "reward": code_fingerprint(*_REWARDS, *_CONTRACT),
        "update": code_fingerprint(
            "update", "model_folders.py", *_CONTRACT, without=named_files(ESTIMATORS, LOSSES, TRAINERS)
        ),
    }


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages whose numerics the artefacts depend on."""
    return {name: _version(name) for name in PACKAGES}


@functools.cache  # asked three times per iteration, 13 ms each
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def machine_of(params: Params) -> dict[str, Any]:
    """Return the properties of the machine that the artefacts depend on."""
    return {"threads": params.threads, "packages": package_versions()}


def _rounding(params: Params) -> dict[str, Any]:
    """Return what else determines how an engine rounds (shards change the batches); empty on a laptop."""
    found: dict[str, Any] = {}
    if params.workers.shards > 1:
        found["shards"] = params.workers.shards
    if packages := params.rollout.kind.packages:
        versions = [_version(name) for name in packages]
        found[params.rollout.engine] = {"versions": versions, "tensor_parallel": params.hardware.tensor_parallel}
    return found


def sampled_by(iteration: int, overlap: int) -> int:
    """Return the number of updates of the policy that samples ``iteration``.

    With overlap, sampling runs during the previous update and uses the policy from before it. A segment's first
    iteration is always on-policy.
    """
    return max(0, iteration - overlap)


def chain_keys(
    params: Params,
    segment: TrainSegment,
    roots: Roots,
    code: Mapping[str, str],
    left_out: Sequence[Sequence[str]] = (),
) -> list[IterationKeys]:
    """Return the keys of every iteration of ``segment``, in order. Pure; ``code`` is ``room_code()``.

    ``left_out``: per iteration the ids that it draws but does not ask (``questions.too_long``). If there are none, the
    keys equal those of a run that leaves nothing out.
    """
    stage = getattr(params.train, segment.stage)
    machine = machine_of(params)
    sampled = {
        "rollout": params.rollout.model_dump(mode="json", exclude={"max_error_share"}),
        "prompt": prompt_of(params.rollout).hash,  # its text: the parameter is only a name
        "questions": [roots.questions, stage.questions_an_iteration],
        "samples": stage.samples_a_question,
        "retriever": roots.retriever,
        "stage": segment.stage,
        "seed": params.seed,
        "code": code["rollout"],
        "chosen": chosen_parts(params.rollout),
    }
    rewarded = _rewarded(params, segment, code)
    updated = {
        # max_logprob_gap can only stop a run
        "update": params.update.model_dump(mode="json", exclude={"max_logprob_gap"}),
        "learning_rate": stage.learning_rate,
        "warmup_iterations": stage.warmup_iterations,
        "seed": params.seed,
        "code": code["update"],
        "chosen": chosen_code(params.update.chosen_files(), room="update"),
    }
    sampled |= _rounding(params)
    if params.workers.ranks > 1:
        updated["ranks"] = params.workers.ranks  # ranks change the order of sums
    if params.update.lora.rank:
        updated["peft"] = _version("peft")
    keys: list[IterationKeys] = []
    policies = [fingerprint(["start", roots.policy, roots.trainer_state, machine])]
    for local in range(segment.iterations):
        iteration = segment.iteration_offset + local
        sampling = policies[sampled_by(local, params.train.overlap)]
        gone = {"left_out": list(left_out[local])} if local < len(left_out) and left_out[local] else {}
        rollouts = fingerprint(["rollouts", sampling, sampled | gone, iteration])
        rewards = fingerprint(["rewards", rollouts, rewarded])
        policies.append(fingerprint(["policy", policies[-1], rewards, updated, iteration]))
        keys.append(IterationKeys(rollouts, rewards, policies[-1]))
    return keys


def _rewarded(params: Params, segment: TrainSegment, code: Mapping[str, str]) -> dict[str, Any]:
    """Return what a trajectory's reward depends on besides the trajectory."""
    stage = getattr(params.train, segment.stage)
    return {
        "reward": params.reward.model_dump(mode="json"),
        "chosen": chosen_code(params.reward.chosen_files(), room="rewards"),  # the parameters are only names
        "stage": stage.reward_stage,
        "code": code["reward"],
    }


def watch_rewards_key(params: Params, name: str, watch: str, code: Mapping[str, str], number: int) -> str:
    """Return the key of a validation's rewards in segment ``name``, after iteration ``number`` of the chain.

    The end of a segment and the beginning of the next share the validation ``watch``, which each rewards by its stage.
    """
    rewarded = _rewarded(params, params.train.segments[name], code)
    return fingerprint(["watch rewards", watch, rewarded, name, number])


def previous_segment(params: Params, name: str) -> str | None:
    """Return the segment whose policy ``name`` starts from; None if it starts from another folder."""
    prev = params.train.segments[name].prev
    for other in params.train.segments:
        if prev == f"data/train/{other}/policy":
            return other
    return None


def check_chain(params: Params, name: str) -> None:
    """Raise ``PipelineError`` if a segment's ``prev`` or ``iteration_offset`` contradicts the rest of the chain."""
    segment = params.train.segments.get(name)
    if segment is None:
        known = ", ".join(params.train.segments)
        raise PipelineError(f"no segment {name!r}", where="params.yaml, train.segments", fix=f"known: {known}")
    seen = [name]
    before = previous_segment(params, name)
    while before is not None:
        if before in seen:
            raise PipelineError(f"segment {name!r} comes before itself", where="params.yaml, train.segments")
        seen.append(before)
        before = previous_segment(params, before)
    before = previous_segment(params, name)
    if before is None or not _same_stage(params, before, name):
        return
    done = params.train.segments[before].iteration_offset + params.train.segments[before].iterations
    if segment.iteration_offset != done:
        raise PipelineError(
            f"iteration_offset is {segment.iteration_offset}, but after {before} it is {done}",
            where=f"params.yaml, train.segments.{name}",
            fix=f"set it to {done}; otherwise questions would be drawn twice or left out",
        )


def continues_optimizer(params: Params, name: str) -> bool:
    """Return whether a segment continues the previous one's trainer state: only within a stage. A new stage starts a
    fresh optimizer."""
    before = previous_segment(params, name)
    return before is not None and _same_stage(params, before, name)


def iterations_before(params: Params, name: str) -> int:
    """Return the number of iterations of all earlier segments, over stages: the offset of the curves' x axis."""
    before = previous_segment(params, name)
    return 0 if before is None else iterations_before(params, before) + params.train.segments[before].iterations


def watch_key(params: Params, policy: str, questions: str, retriever: str, code: Mapping[str, str]) -> str:
    """Return the key of a validation: greedy rollouts of ``policy`` on the first ``questions`` (both identities)."""
    asked = params.rollout.model_dump(mode="json", exclude={"max_error_share", "temperature", "top_p"})
    prompt = prompt_of(params.rollout).hash
    chosen = chosen_parts(params.rollout)
    where = {**machine_of(params), **_rounding(params)}
    return fingerprint(["watch", policy, questions, retriever, asked, prompt, code["rollout"], chosen, where])


def _same_stage(params: Params, one: str, other: str) -> bool:
    return params.train.segments[one].stage == params.train.segments[other].stage


def describe(params: Params, name: str) -> dict[str, Any]:
    """Return the segment's own settings, for a run's page."""
    segment = params.train.segments[name]
    return {**segment.model_dump(), **getattr(params.train, segment.stage).model_dump(exclude={"collapse"})}
