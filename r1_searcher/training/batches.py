"""The questions of an iteration and its random seeds. Pure functions of a few numbers."""

from __future__ import annotations

import random

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint


def draw(num_questions: int, an_iteration: int, *, iteration: int, seed: int, stage: str) -> list[int]:
    """Return the rows of the questions of ``iteration`` (counted over the stage, from 0), shape (an_iteration,).

    Every epoch is a permutation of all questions, seeded by (seed, stage, epoch) and cut into whole batches. The
    remainder is skipped, so that no batch contains a question twice. Raises ``PipelineError`` if there are fewer
    questions than a batch needs.
    """
    if num_questions < an_iteration:
        raise PipelineError(
            f"{num_questions} training questions, but an iteration asks {an_iteration}",
            where="data/questions/train.parquet",
            fix=f"lower train.{stage}.questions_an_iteration",
        )
    epoch, batch = divmod(iteration, num_questions // an_iteration)
    rows = list(range(num_questions))
    random.Random(f"{seed}/{stage}/{epoch}").shuffle(rows)
    return rows[batch * an_iteration : (batch + 1) * an_iteration]


def sampling_seed(*, seed: int, stage: str, iteration: int) -> int:
    """Return a 53-bit seed for an iteration's samples, different for every (seed, stage, iteration)."""
    return int(fingerprint(["samples", seed, stage, iteration])[:13], 16)


def shard(num_rows: int, number: int, shards: int) -> tuple[int, int]:
    """Return offset and length of shard ``number``: consecutive rows, equal lengths up to one row."""
    first, end = (place * num_rows // shards for place in (number, number + 1))
    return first, end - first
