"""A policy on its way from the trainer to engines that open a folder: its weights, in the store until the next one.

Weights alone, without the optimizer's state: a checkpoint is not made for this, and where there is one, or the policy
is the segment's first, its folder is the one. In any case there is a probe: a few sequences with the trainer's
log-probabilities of some of their tokens, against which every engine that takes the weights up is held, also one that
starts with them, or is started later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from r1_searcher.files.artefacts import read_table, write_table
from r1_searcher.files.store import Store
from r1_searcher.params import Params
from r1_searcher.training.workers import Policy, Trainers
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine
from r1_searcher.types.schemas import ROLLOUTS

WEIGHTS_KIND = "weights"  # in the store
PROBES = 8  # trajectories, of as many questions
FIRST_PROBES, FIRST_TOKENS = 4, 64  # of the policy from which nothing was sampled: ends of prompts, and their length
PROBE = "probe.parquet"
_SCHEMA = pa.schema(
    {"token_ids": pa.list_(pa.int32()), "policy_mask": pa.list_(pa.bool_()), "logprobs": pa.list_(pa.float32())}
)


class Probe(NamedTuple):
    """B sequences to be scored: tokens (T_b,) and masks (T_b,) of those that count."""

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]


def find(store: Store, key: str, probe_key: str, folder: Path | None) -> Policy | None:
    """The policy ``key`` with what is kept under ``probe_key``; None where nothing is. ``folder`` has its weights if
    they are not kept there."""
    place = store.get(WEIGHTS_KIND, probe_key)
    if place is None:
        return None
    own = place / "policy"
    return Policy(key, own if own.exists() else folder, place / PROBE)


def write(draft: Path, trainer: Trainers, probe: Probe, *, given: bool) -> None:
    """Write what the trainer says of a probe under its present weights; ``given``: of a text that it did not sample."""
    token_ids, masks = probe
    logprobs = trainer.logprobs(token_ids, masks) if token_ids else []
    if given:
        masks, logprobs = likeliest(masks, logprobs)
    rows = {"token_ids": token_ids, "policy_mask": masks, "logprobs": logprobs}
    write_table(draft / PROBE, pa.Table.from_pydict(rows, schema=_SCHEMA))


def sampled(rollouts: Path) -> Probe:
    """The policy tokens of the first trajectory of some questions, from a file of rollouts."""
    chosen: dict[str, tuple[list[int], list[bool]]] = {}
    for row in read_table(rollouts, ROLLOUTS).select(["question_id", "token_ids", "token_source"]).to_pylist():
        mask = [source == grammar.POLICY for source in row["token_source"]]
        if len(chosen) < PROBES and any(mask):
            chosen.setdefault(row["question_id"], (row["token_ids"], mask))
    return Probe([ids for ids, _ in chosen.values()], [mask for _, mask in chosen.values()])


def unsampled(policy: Path, params: Params, questions: Sequence[str]) -> Probe:
    """The ends of some questions' prompts, for a policy that has sampled nothing; all tokens but the first count."""
    from r1_searcher.rollout.load import load_tokenizer
    from r1_searcher.rollout.prompt import prompt_of

    tokenizer, prompt = load_tokenizer(policy), prompt_of(params.rollout)
    texts = [prompt.render(question, tokenizer) for question in questions[:FIRST_PROBES]]
    longest = min(FIRST_TOKENS, params.rollout.max_total_tokens // 2)  # what the engine has room for
    token_ids = [list(tokenizer.encode(text, add_special_tokens=False))[-longest:] for text in texts]
    return Probe(token_ids, [[False] + [True] * (len(ids) - 1) for ids in token_ids])


def likeliest(
    masks: Sequence[Sequence[bool]], logprobs: Sequence[Sequence[float]]
) -> tuple[list[list[bool]], list[list[float]]]:
    """Masks and log-probabilities of the likeliest quarter of the tokens under the masks.

    In bfloat16 two right implementations are further apart where a token is unlikely, and what ``sync`` allows is for
    sampled ones. Of a text that a policy was given, this quarter is as near as those (figures: docs/log.md).
    """
    bound = np.quantile([value for row in logprobs for value in row], 0.75)
    kept_masks, kept = [], []
    for mask, row in zip(masks, logprobs, strict=True):
        values = iter(row)
        kept_masks.append([counts and not next(values) < bound for counts in mask])  # what is no number is kept
        kept.append([value for value in row if not value < bound])
    return kept_masks, kept


def check(engine: Engine, probe: Path, params: Params) -> None:
    """``PipelineError`` where ``engine`` does not hold the weights that the trainer handed over with ``probe``."""
    from r1_searcher.rollout.sync import check_sync, tolerance

    table = read_table(probe, _SCHEMA)
    if table.num_rows:
        half = "bfloat16" in (params.rollout.dtype, params.update.dtype)
        temperature = params.rollout.temperature
        check_sync(
            engine,
            table["token_ids"].to_pylist(),
            table["policy_mask"].to_pylist(),
            table["logprobs"].to_pylist(),
            temperature=temperature,
            allowed=tolerance("bfloat16" if half else "float32", temperature),
        )
