"""The questions that a segment trains on and validates with; those that are too long may be left out.

A draw does not depend on what is left out: iterations that draw no such question keep their keys.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_table
from r1_searcher.params import Params, TrainSegment, TrainStage
from r1_searcher.questions import prompt_lengths
from r1_searcher.questions.gold_answers import script_warnings, unscorable
from r1_searcher.training import batches
from r1_searcher.types.schemas import QUESTIONS
from r1_searcher.types.splits import is_benchmark


class SegmentQuestions:
    """Training and validation questions of one segment, with ``questions.too_long`` applied."""

    def __init__(
        self, params: Params, segment: TrainSegment, pool: pa.Table, validation: pa.Table, *, watched_file: str
    ) -> None:
        """``pool``: the segment's training questions; ``validation``: its validation questions (both QUESTIONS).

        Loads the policy's tokenizer only if ``questions.too_long`` is leave_out. Raises ``PipelineError`` if an
        iteration or the validation would have no question left.
        """
        self.params, self.segment, self.pool, self.whole_validation = params, segment, pool, validation
        self.stage: TrainStage = getattr(params.train, segment.stage)
        self._watched_file = watched_file
        self.left_out: dict[str, list[str]] = {}  # file → ids; only files with left-out questions
        if params.questions.too_long == "leave_out":
            self._leave_out()

    def _leave_out(self) -> None:
        for file, table in self.whole:
            if found := prompt_lengths.too_long(_rows(table), *self._prompts, self.params.rollout.max_total_tokens):
                self.left_out[file] = sorted(found)
        empty = [iteration for iteration in range(self.segment.iterations) if not self.drawn(iteration).num_rows]
        if empty or not self.validation.num_rows:
            what = f"all questions of iteration {empty[0] + 1}" if empty else "all questions of the watch"
            raise PipelineError(
                f"{what} are too long, and left out (questions.too_long)",
                where=self.segment.questions if empty else self._watched_file,
                fix="raise rollout.max_total_tokens, choose a shorter rollout.prompt, or give other questions",
            )

    @functools.cached_property
    def _prompts(self) -> tuple[prompt_lengths.Render, Any]:
        """How a question becomes a prompt, and the tokenizer of the segment's policy, which is loaded here."""
        from r1_searcher.model_folders import load_tokenizer
        from r1_searcher.rollout.prompt import prompt_of

        tokenizer, prompt = load_tokenizer(Path(self.segment.prev)), prompt_of(self.params.rollout)
        return (lambda text: prompt.render(text, tokenizer)), tokenizer

    @functools.cached_property
    def whole(self) -> list[tuple[str, pa.Table]]:
        """All questions that this segment draws, each once, by file, including those that are left out."""
        drawn = pa.concat_tables([self._draw(iteration) for iteration in range(self.segment.iterations)])
        once = self.pool.filter(pc.is_in(self.pool["question_id"], pc.unique(drawn["question_id"])))
        return [(self.segment.questions, once), (self._watched_file, self.whole_validation)]

    def prompts(self) -> list[tuple[str, list[dict[str, Any]], prompt_lengths.Render, Any]]:
        """Return all questions that this segment asks, by file: rows, how they become prompts, and the tokenizer."""
        kept = [(file, _drop_ids(table, self.left_out.get(file, []))) for file, table in self.whole]
        return [(file, _rows(table), *self._prompts) for file, table in kept]

    def evaluated(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return the questions of the benchmarks beside the validation set, by file."""
        files = sorted(Path(self._watched_file).parent.glob("*.parquet"))
        return [(str(file), _rows(read_table(file, QUESTIONS))) for file in files if is_benchmark(file.stem)]

    def _draw(self, iteration: int) -> pa.Table:
        rows = batches.draw(
            self.pool.num_rows,
            self.stage.questions_an_iteration,
            iteration=self.segment.iteration_offset + iteration,
            seed=self.params.seed,
            stage=self.segment.stage,
        )
        return self.pool.take(rows)

    def drawn(self, iteration: int) -> pa.Table:
        """Return the questions of an iteration (of the segment, from 0)."""
        return _drop_ids(self._draw(iteration), self.left_out.get(self.segment.questions, []))

    def left_out_of(self, iteration: int) -> list[str]:
        """Return the ids that an iteration draws but does not ask."""
        gone = self.left_out.get(self.segment.questions, [])
        return [name for name in self._draw(iteration)["question_id"].to_pylist() if name in gone] if gone else []

    @property
    def left_out_of_watches(self) -> list[str]:
        """The ids of validation questions that are not asked."""
        return self.left_out.get(self._watched_file, [])

    @functools.cached_property
    def validation(self) -> pa.Table:
        """The validation questions."""
        return _drop_ids(self.whole_validation, self.left_out_of_watches)

    def warnings(self) -> list[str]:
        """Return one line per file with left-out questions, and one per file whose scripts the format rule forbids."""
        sizes = {file: table.num_rows for file, table in self.whole}
        scripts = self.params.reward.scripts
        against = script_warnings(unscorable(dict(self.whole), scripts), sizes, scripts)
        return against + [
            f"{len(names):,} of {sizes[file]:,} questions in {file} leave no room in rollout.max_total_tokens "
            f"{self.params.rollout.max_total_tokens:,}, and are left out (questions.too_long): "
            f"{prompt_lengths.first_few(names)}"
            for file, names in self.left_out.items()
        ]


def summary(left_out: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a segment's metrics about left-out questions: their number, and ids by file; empty if there are none."""
    if not left_out:
        return {}
    number = sum(map(len, left_out.values()))
    return {"num_questions_left_out": number, "questions_left_out": {file: list(ids) for file, ids in left_out.items()}}


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return list(table.select(["question_id", "question"]).to_pylist())


def _drop_ids(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    if not ids:
        return table
    return table.filter(pc.invert(pc.is_in(table["question_id"], pa.array(list(ids), table["question_id"].type))))
