"""A question's difficulty for a policy: the rollouts needed for one right answer (paper, section 4.1).

Every question gets ``samples`` rollouts. Their counts are stored chunk by chunk, so that a killed run continues, other
thresholds or metrics need no rollout, and a changed question costs only its own chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files.code import chosen_code
from r1_searcher.files.store import Store
from r1_searcher.progress import Paced
from r1_searcher.questions.prompt_lengths import too_long
from r1_searcher.rewards.metrics import METRIC_VERSION, cover_em, em
from r1_searcher.rewards.rules import Metric, metric_of
from r1_searcher.transcripts import grammar
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Retriever, tokenizer_of

_KIND = "passes"  # in the store
LEVELS = ("easy", "medium", "difficult")
COUNTS = pa.schema(
    [
        ("question_id", pa.string()),
        ("num_rollouts", pa.int32()),  # without those lost to the retriever
        ("em", pa.int32()),  # rollouts that were right by this metric
        ("cover_em", pa.int32()),
    ]
)

COUNTED = ("em", "cover_em")  # always counted
RIGHT_COLUMN = "right"  # the column of any other metric

Opened = tuple[Engine, Retriever]


def level(num_rollouts: int, num_passes: int, settings: params.Difficulty) -> str | None:
    """Return easy, medium or difficult by the rollouts per right answer, estimated as rollouts / passes.

    Without a pass more than ``num_rollouts`` are needed: difficult, or None if those are too few to tell.
    """
    if num_passes == 0:
        return "difficult" if num_rollouts >= settings.medium_up_to else None
    needed = num_rollouts / num_passes
    if needed < settings.easy_below:
        return "easy"
    return "medium" if needed <= settings.medium_up_to else "difficult"


def other_metric(settings: params.Difficulty) -> Metric | None:
    """Return the chosen metric unless it is always counted."""
    if settings.metric in COUNTED:
        return None
    return metric_of(settings.metric, extensions=settings.extensions, own=settings.own, section="difficulty")


def count(rollouts: pa.Table, samples: int, metric: Metric | None = None) -> pa.Table:
    """Count rollouts and right ones per question (COUNTS); ROLLOUTS has ``samples`` consecutive rows per question.

    With a ``metric``, column ``RIGHT_COLUMN`` counts the rollouts that it scores 1 or more.
    """
    rows = rollouts.select(["question_id", "answer", "answers", "finish_reason"]).to_pylist()
    counted = []
    for start in range(0, len(rows), samples):
        group = rows[start : start + samples]
        assert len({row["question_id"] for row in group}) == 1, "a question's rollouts stand together"
        valid = [row for row in group if row["finish_reason"] not in grammar.LOST_FINISHES]
        counted.append(
            {
                "question_id": group[0]["question_id"],
                "num_rollouts": len(valid),
                "em": round(sum(em(row["answer"], row["answers"]) for row in valid)),
                "cover_em": round(sum(cover_em(row["answer"], row["answers"]) for row in valid)),
            }
        )
        if metric is not None:
            place = f"question {group[0]['question_id']}"
            counted[-1][RIGHT_COLUMN] = sum(metric(row["answer"], row["answers"], place) >= 1 for row in valid)
    return pa.Table.from_pylist(counted, schema=_schema(metric))


def _schema(metric: Metric | None) -> pa.Schema:
    return COUNTS if metric is None else COUNTS.append(pa.field(RIGHT_COLUMN, pa.int32()))


def count_passes(
    questions: pa.Table,
    settings: params.Params,
    *,
    policy: str,
    index: str,
    samples: int,
    opened: Callable[[], Opened],
    store: Store,
    told: Callable[[int, bool], None] = lambda done, stored: None,
) -> pa.Table:
    """Return COUNTS of ``questions`` (QUESTIONS), in order, from the store or by rollouts.

    ``policy`` and ``index`` are identities (fingerprints); ``opened`` returns engine and retriever, and is called only
    if something is missing. ``told`` is called per chunk with the questions done, and whether it was stored. With
    ``questions.too_long: leave_out`` a question whose prompt leaves no room has no rollouts and no label. Raises
    ``PipelineError`` if the retriever fails on more than ``rollout.max_error_share`` of a chunk.
    """
    from r1_searcher.rollout import roll_out

    size = settings.difficulty.questions_a_chunk
    metric = other_metric(settings.difficulty)
    parts = []
    for start in range(0, questions.num_rows, size):
        chunk = questions.slice(start, size)
        key = _key(chunk, settings, policy=policy, index=index, samples=samples)
        stored = store.get(_KIND, key) is not None
        if not stored:
            engine, retriever = opened()
            how: dict[str, Any] = {"samples": samples, "seed": settings.seed}
            with Paced(f"difficulty, from question {start + 1:,}", unit="trajectories") as paced:
                asked = _with_room(chunk, engine, settings)
                rollouts, _ = roll_out(engine, retriever, asked, settings.rollout, told=paced.told, **how)
            table = count(rollouts, samples, metric)
            _check_errors(table, samples, settings.rollout.max_error_share)
            table = _with_unasked(chunk, table)
            with store.put(_KIND, key) as draft:
                artefacts.write_table(draft / "passes.parquet", table, {"key": key, "engine": engine.name})
        parts.append(artefacts.read_table(store.place(_KIND, key) / "passes.parquet", _schema(metric)))
        told(min(start + size, questions.num_rows), stored)
    return pa.concat_tables(parts).replace_schema_metadata(None)


def _with_room(chunk: pa.Table, engine: Engine, settings: params.Params) -> pa.Table:
    """Return the questions to ask: all, or with ``questions.too_long: leave_out`` those whose prompt leaves room."""
    if settings.questions.too_long == "stop":  # sampling then stops with the question's name
        return chunk
    from r1_searcher.rollout.prompt import prompt_of

    prompt, tokenizer = prompt_of(settings.rollout), tokenizer_of(engine)
    rows = chunk.select(["question_id", "question"]).to_pylist()
    limit = settings.rollout.max_total_tokens
    long = too_long(rows, lambda text: prompt.render(text, tokenizer), tokenizer, limit)
    return chunk.filter(pa.array([row["question_id"] not in long for row in rows], pa.bool_()))


def _with_unasked(chunk: pa.Table, counts: pa.Table) -> pa.Table:
    """Return COUNTS of every question of a chunk, with zeros for those that were not asked."""
    if counts.num_rows == chunk.num_rows:
        return counts
    known = {row["question_id"]: row for row in counts.to_pylist()}
    none = dict.fromkeys(counts.column_names, 0)
    rows = [known.get(name, {**none, "question_id": name}) for name in chunk["question_id"].to_pylist()]
    return pa.Table.from_pylist(rows, schema=counts.schema)


def _key(chunk: pa.Table, settings: params.Params, *, policy: str, index: str, samples: int) -> str:
    from r1_searcher.rollout.rows import inputs

    made_from = inputs(
        settings.rollout,
        policy_sha256=policy,
        index_fingerprint=index,
        questions=chunk,
        samples=samples,
        seed=settings.seed,
        greedy=False,
    )
    machine = [settings.threads, *(f"{name} {version(name)}" for name in ("torch", "transformers"))]
    parts = [made_from["fingerprint"], METRIC_VERSION, machine]
    if (metric := other_metric(settings.difficulty)) is not None:
        own = None if metric.parameters is None else metric.parameters.model_dump(mode="json")
        parts.append([settings.difficulty.metric, own, chosen_code([metric.found.file], room="rewards")])
    return artefacts.fingerprint(parts)


def _check_errors(table: pa.Table, samples: int, allowed: float) -> None:
    lost = samples * table.num_rows - sum(table["num_rollouts"].to_pylist())
    if lost > allowed * samples * table.num_rows:
        raise PipelineError(
            f"the retriever failed {lost} of {samples * table.num_rows} rollouts; earlier counts are kept",
            where="difficulty",
            fix="fix the retriever and run the same command again, or raise rollout.max_error_share",
        )


def label(questions: pa.Table, counts: pa.Table, settings: params.Difficulty) -> pa.Table:
    """Return ``questions`` (QUESTIONS) with ``num_rollouts``, ``num_passes`` and ``difficulty`` from COUNTS of the same
    rows."""
    assert questions["question_id"].to_pylist() == counts["question_id"].to_pylist()
    passes = counts[settings.metric if settings.metric in COUNTED else RIGHT_COLUMN].to_pylist()
    rollouts = counts["num_rollouts"].to_pylist()
    levels = [level(total, passed, settings) for total, passed in zip(rollouts, passes, strict=True)]
    for name, values in (("difficulty", levels), ("num_rollouts", rollouts), ("num_passes", passes)):
        place = schemas.QUESTIONS.get_field_index(name)
        questions = questions.set_column(
            place, schemas.QUESTIONS.field(name), pa.array(values, schemas.QUESTIONS.types[place])
        )
    return questions


def tally(labelled: pa.Table) -> dict[str, dict[str, int]]:
    """Count questions by dataset and difficulty; ``unknown`` if rollouts were lost and none was right."""
    found: dict[str, dict[str, int]] = {}
    for row in labelled.select(["dataset", "difficulty"]).to_pylist():
        cells = found.setdefault(row["dataset"], dict.fromkeys(LEVELS, 0))
        name = row["difficulty"] or "unknown"
        cells[name] = cells.get(name, 0) + 1
    return found


def run(
    questions: Path,
    settings: params.Params,
    *,
    policy: Path,
    index: Path,
    out: Path,
    samples: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, int]]:
    """Label a Parquet file's questions by a policy folder's rollouts; write ``out``; return the tally. Raises
    ``PipelineError``."""
    if samples < settings.difficulty.medium_up_to:
        raise PipelineError(
            f"{samples} rollouts cannot tell medium (up to {settings.difficulty.medium_up_to}) from difficult",
            where="--samples",
            fix="more samples, or a lower difficulty.medium_up_to",
        )
    table = artefacts.read_table(questions, schemas.QUESTIONS).replace_schema_metadata(None)
    if table.num_rows == 0:
        raise PipelineError("contains no questions", where=str(questions))
    if not policy.is_dir():
        raise PipelineError("no such model folder", where=str(policy), fix="make it with `dvc repro base_model`")
    from r1_searcher.retrieval import identify, open_retriever

    identity = artefacts.sha256_tree(policy)
    searched = identify(settings, index=index).fingerprint
    warm: list[Opened] = []

    def opened() -> Opened:
        if not warm:
            import torch

            from r1_searcher.rollout import load_engine

            torch.set_num_threads(settings.threads)
            engine = load_engine(policy, settings.rollout)
            warm.append((engine, open_retriever(settings, index=index, fingerprint=searched)))
        return warm[0]

    counts = count_passes(
        table,
        settings,
        policy=identity,
        index=searched,
        samples=samples,
        opened=opened,
        store=Store(),
        told=lambda done, stored: say(f"{done:,} of {table.num_rows:,} questions{' (stored)' if stored else ''}"),
    )
    labelled = label(table, counts, settings.difficulty)
    limits = settings.difficulty.model_dump(include={"metric", "easy_below", "medium_up_to"})
    with sums.checksum_after(out):
        artefacts.write_table(out, labelled, {"policy": identity, "samples": samples, "seed": settings.seed, **limits})
    return tally(labelled)
