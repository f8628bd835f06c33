"""Hand a policy over from the trainer to engines that load a folder, by way of the store.

Only the weights are written, without optimizer state, and only if no checkpoint has them and the policy is not the
segment's first. A probe is always written: a few sequences with the trainer's log-probabilities of some of their
tokens. Every engine that loads the weights is checked against it, including one that starts with them or is started
later.
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
PROBES = 8  # trajectories, each of another question
FIRST_PROBES, FIRST_TOKENS = 4, 64  # for a policy that has sampled nothing: number and length of prompt ends
PROBE = "probe.parquet"
_SCHEMA = pa.schema(
    {"token_ids": pa.list_(pa.int32()), "policy_mask": pa.list_(pa.bool_()), "logprobs": pa.list_(pa.float32())}
)


class Probe(NamedTuple):
    """B sequences to score: tokens (T_b,), and masks (T_b,) of the tokens that count."""

    token_ids: list[list[int]]
    policy_mask: list[list[bool]]


def find(store: Store, key: str, probe_key: str, folder: Path | None) -> Policy | None:
    """Return the policy ``key`` with its probe under ``probe_key``; None if there is none. ``folder`` has its weights
    if they are not stored with the probe."""
    place = store.get(WEIGHTS_KIND, probe_key)
    if place is None:
        return None
    own = place / "policy"
    return Policy(key, own if own.exists() else folder, place / PROBE)


def write(draft: Path, trainer: Trainers, probe: Probe, *, given: bool) -> None:
    """Write the trainer's log-probabilities for a probe under its current weights; ``given``: the text was not
    sampled."""
    token_ids, masks = probe
    logprobs = trainer.logprobs(token_ids, masks) if token_ids else []
    if given:
        masks, logprobs = likeliest(masks, logprobs)
    rows = {"token_ids": token_ids, "policy_mask": masks, "logprobs": logprobs}
    write_table(draft / PROBE, pa.Table.from_pydict(rows, schema=_SCHEMA))


def sampled_probe(rollouts: Path) -> Probe:
    """Return the policy tokens of the first trajectory of some questions, from a rollouts file."""
    chosen: dict[str, tuple[list[int], list[bool]]] = {}
    for row in read_table(rollouts, ROLLOUTS).select(["question_id", "token_ids", "token_source"]).to_pylist():
        mask = [source == grammar.POLICY for source in row["token_source"]]
        if len(chosen) < PROBES and any(mask):
            chosen.setdefault(row["question_id"], (row["token_ids"], mask))
    return Probe([ids for ids, _ in chosen.values()], [mask for _, mask in chosen.values()])


def prompt_probe(policy: Path, params: Params, questions: Sequence[str]) -> Probe:
    """Return the ends of some questions' prompts, for a policy that has sampled nothing; all tokens but the first
    count."""
    from r1_searcher.model_folders import load_tokenizer
    from r1_searcher.rollout.prompt import prompt_of

    tokenizer, prompt = load_tokenizer(policy), prompt_of(params.rollout)
    texts = [prompt.render(question, tokenizer) for question in questions[:FIRST_PROBES]]
    longest = min(FIRST_TOKENS, params.rollout.max_total_tokens // 2)  # the engine must have room for it
    token_ids = [list(tokenizer.encode(text, add_special_tokens=False))[-longest:] for text in texts]
    return Probe(token_ids, [[False] + [True] * (len(ids) - 1) for ids in token_ids])


def likeliest(
    masks: Sequence[Sequence[bool]], logprobs: Sequence[Sequence[float]]
) -> tuple[list[list[bool]], list[list[float]]]:
    """Return masks and log-probabilities of the most likely quarter of the tokens under the masks.

    In bfloat16 two correct implementations differ more where a token is unlikely, and ``sync``'s bounds are for sampled
    tokens. For text that a policy did not sample, this quarter agrees as well as sampled tokens do (figures:
    docs/log.md).
    """
    bound = np.quantile([value for row in logprobs for value in row], 0.75)
    kept_masks, kept = [], []
    for mask, row in zip(masks, logprobs, strict=True):
        values = iter(row)
        kept_masks.append([counts and not next(values) < bound for counts in mask])  # NaN is kept
        kept.append([value for value in row if not value < bound])
    return kept_masks, kept


def check(engine: Engine, probe: Path, params: Params) -> None:
    """Raise ``PipelineError`` if ``engine`` does not hold the weights that the trainer handed over with ``probe``."""
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
