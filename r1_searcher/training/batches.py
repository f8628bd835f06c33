"""Which questions an iteration asks, and the random seeds it hands on. Pure functions of a few numbers."""

from __future__ import annotations

import random

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint


def draw(num_questions: int, an_iteration: int, *, iteration: int, seed: int, stage: str) -> list[int]:
    """Rows of the questions of ``iteration`` (counted over the stage, from 0), shape (an_iteration,).

    Every epoch is a permutation of all questions, seeded by (seed, stage, epoch), cut into whole
    batches; what is left over at its end waits for the next permutation, so that no batch holds a
    question twice. Raises ``PipelineError`` where there are fewer questions than a batch needs.
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
    """A seed of 53 bits for an iteration's samples: another for every (seed, stage, iteration)."""
    return int(fingerprint(["samples", seed, stage, iteration])[:13], 16)


def shard(num_rows: int, number: int, shards: int) -> tuple[int, int]:
    """Offset and length of shard ``number`` of ``shards`` of so many rows: consecutive, and all but equally long."""
    first, end = (place * num_rows // shards for place in (number, number + 1))
    return first, end - first
