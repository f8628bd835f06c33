"""The code gate: does a committed policy still answer as before when the present code evaluates it?

Weights, questions, passages and searches are those of ``baselines/code``, so nothing is trained and no workspace is
read. On the baseline's kind of processor, every transcript must be unchanged. On another kind greedy ties may be
decided differently; there the paired verdict says whether the policy does worse.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError, Refused
from r1_searcher.evaluation.run import benchmarks, run
from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.files.artefacts import atomic, read_json, read_table, write_json, write_table
from r1_searcher.files.passages import fingerprint
from r1_searcher.params import Params
from r1_searcher.regression.processor import package_versions, processor_kind
from r1_searcher.retrieval import build_index
from r1_searcher.retrieval.searches import SearchRecord
from r1_searcher.statistics.comparison import Comparison, compare
from r1_searcher.statistics.pairs import Evaluated, pair_policies, read_evaluated

CODE_BASELINES = Path("baselines/code")
RENEW = "if the change was intended: make baselines"
_POLICY = "stage2"  # of the workspace that the baseline is made from
_MANIFEST, _PASSAGES = "manifest.json", "passages.parquet"
# card lines that depend on the number of questions
_OF_THE_NUMBER = ("num_questions", "num_gold_answers", "questions_sha256")
_SHOWN = 40  # characters on either side of the first difference of two transcripts


@dataclass(frozen=True)
class Changed:
    """A changed transcript: both versions from shortly before they differ."""

    benchmark: str
    question_id: str
    was: str
    now: str


@dataclass(frozen=True)
class CodeResult:
    """The gate's findings. ``new_searches``: searches that the baseline's record did not have."""

    kind: Mapping[str, str]
    baseline_kind: Mapping[str, str]
    asked: int
    changed: Sequence[Changed]
    new_searches: int
    comparison: Comparison

    @property
    def same_kind(self) -> bool:
        """Whether this processor is of the kind that the baseline was made on."""
        return self.kind == self.baseline_kind

    @property
    def verdict(self) -> str:
        """``worse``; ``changed``: other transcripts on the same kind of processor; ``same``; or, on another kind, ``not
        worse``."""
        if self.comparison.verdict == "worse":
            return "worse"
        if not self.changed:
            return "same"
        return "changed" if self.same_kind else "not worse"


def check_code(baseline: Path, params: Params, *, limit: int | None = None) -> CodeResult:
    """Evaluate the policy of ``baseline`` with the present code and ``params``, and compare the answers with its own.

    ``limit``: the first so many questions of each benchmark. Raises ``Refused`` if the baseline cannot be read or was
    made under another protocol.
    """
    if not (baseline / _MANIFEST).is_file():
        raise Refused("there is no baseline for the code gate", where=str(baseline), fix=RENEW)
    try:
        facts = read_json(baseline / _MANIFEST)
        was = read_evaluated(baseline / "answers")
        with tempfile.TemporaryDirectory() as place:
            new = _answer(baseline, Path(place), params, limit)
            now = read_evaluated(Path(place) / "answers")
        if limit is not None:
            was, now = ({name: _first_questions(found, limit) for name, found in side.items()} for side in (was, now))
        names = (str(baseline), "the current code")
        pairs = pair_policies(was, now, [*params.regression.metrics], names=names, fix=RENEW)
        kind = dict(facts["processor"])
    except Refused:
        raise
    except (PipelineError, OSError, KeyError, TypeError) as error:
        raise Refused(f"the code gate's baseline cannot be used: {error}", where=str(baseline), fix=RENEW) from error
    changed = [row for name in was for row in _changed_rows(was[name], now[name])]
    asked = sum(found.table.num_rows for found in was.values())
    return CodeResult(processor_kind(), kind, asked, changed, new, compare(pairs, params.regression, names))


def make_code_baseline(workspace: Path, out: Path, params: Params) -> int:
    """Write ``out`` anew from a trained ``workspace``: its final policy, questions and passages, and the present code's
    answers with them. Return the number of bytes."""
    with atomic(out, folder=True) as draft:
        shutil.copytree(workspace / str(params.evaluate.policies[_POLICY]), draft / "policy")
        (draft / "questions").mkdir()
        for name, file in benchmarks(workspace / "data/questions").items():
            asked = read_table(file)
            write_table(draft / "questions" / f"{name}.parquet", asked.slice(0, params.evaluate.questions))
        write_table(draft / _PASSAGES, read_table(workspace / "data/corpus/passages.parquet"))
        facts = {
            "corpus": fingerprint(workspace / "data/corpus"),
            "processor": processor_kind(),
            "packages": package_versions(),
            "policy": f"{_POLICY} of {params.profile}, seed {params.seed}",
        }
        write_json(draft / _MANIFEST, facts)
        with tempfile.TemporaryDirectory() as place:
            _answer(draft, Path(place), params, None)
            shutil.copytree(Path(place) / "answers", draft / "answers")
            shutil.copytree(Path(place) / "searches", draft / "searches")
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def _answer(baseline: Path, place: Path, params: Params, limit: int | None) -> int:
    """Answer the baseline's questions into ``place``/answers; return the number of new searches.

    Searches come from a copy of the baseline's record; new ones are made in an index of its passages.
    """
    searches = place / "searches"
    if (baseline / "searches").is_dir():
        shutil.copytree(baseline / "searches", searches)
    before = _num_searches(searches)
    build_index(
        read_table(baseline / _PASSAGES), params.index, place / "index", read_json(baseline / _MANIFEST)["corpus"]
    )
    recorded = {"searches": params.retriever.searches.model_copy(update={"mode": "record", "folder": str(searches)})}
    settings = params.model_copy(update={"retriever": params.retriever.model_copy(update=recorded)})
    (place / "answers").mkdir()
    for _ in run(
        name=_POLICY,
        mode="search",
        policy=baseline / "policy",
        files=benchmarks(baseline / "questions"),
        index=place / "index",
        corpus=None,
        out=place / "answers",
        params=settings,
        limit=limit,
    ):
        pass
    return _num_searches(searches) - before


def _num_searches(folder: Path) -> int:
    """Return the number of searches in a record; 0 without one."""
    if not folder.is_dir():
        return 0
    record = SearchRecord(folder, replay=True)
    try:
        return sum(retriever.searches for retriever in record.retrievers())
    finally:
        record.close()


def _first_questions(found: Evaluated, limit: int) -> Evaluated:
    """Return the first ``limit`` questions of an evaluation, with a card that is independent of their number."""
    card = {name: value for name, value in found.card.items() if name not in _OF_THE_NUMBER}
    return replace(found, table=found.table.slice(0, limit), card=card)


def _changed_rows(was: Evaluated, now: Evaluated) -> list[Changed]:
    """Return the rows that differ in anything: text, provenance, number of tokens, finish reason, any metric."""
    left, right = (found.table.select(EVALUATION_COLUMNS.names).to_pylist() for found in (was, now))
    return [
        Changed(was.benchmark, one["question_id"], *_first_difference(one, other))
        for one, other in zip(left, right, strict=True)
        if one != other
    ]


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
    """Return where two rows differ: in the transcripts, else in the first column that differs."""
    a, b = one["text"], other["text"]
    if a == b:
        name = next(name for name in one if one[name] != other[name])
        return f"{name}: {one[name]!r}", f"{name}: {other[name]!r}"
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, place - _SHOWN)
    return a[start : place + _SHOWN], b[start : place + _SHOWN]
