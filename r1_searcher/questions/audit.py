"""The audit before training (`python -m stages.questions audit`): leakage, coverage, and a verdict.

``metrics/audit.json`` has every figure and finding. Training depends on the verdict file beside the data, which only
says that training may begin, in the same bytes whatever the figures are: so a changed audit does not repeat training,
and one that must stop leaves no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.questions.coverage import coverage, evenly_spaced
from r1_searcher.questions.gold_answers import notes, script_warnings, unscorable
from r1_searcher.questions.overlap import leakage
from r1_searcher.questions.shown_passages import ShownPassages
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.splits import TRAIN, is_benchmark, is_training

VERDICT = {"training": "may begin"}


def read_splits(folder: Path) -> dict[str, pa.Table]:
    """Return the question files of a folder by split. Raises ``PipelineError`` without ``train``."""
    files = sorted(folder.glob("*.parquet"))
    splits = {file.stem: artefacts.read_table(file, schemas.QUESTIONS) for file in files}
    if TRAIN not in splits:
        raise PipelineError(
            "no training questions here", where=str(folder / "train.parquet"), fix="run `dvc repro questions`"
        )
    for name, table in splits.items():
        if table.num_rows == 0:
            raise PipelineError("contains no questions", where=str(folder / f"{name}.parquet"))
    return splits


def read_benchmark(folder: Path, questions: Path) -> tuple[dict[str, pa.Table], Path]:
    """Return a released benchmark's questions (under its name) with the training splits, and the benchmark's index."""
    splits = {name: table for name, table in read_splits(questions).items() if is_training(name)}
    splits[folder.name] = artefacts.read_table(folder / "questions.parquet", schemas.QUESTIONS)
    return splits, Path(artefacts.read_json(folder / "search.json")["index"])


def open_local(settings: params.Params, index: Path) -> Retriever | None:
    """Return the parameters' retriever without recording; None if it is a service or a replay."""
    from r1_searcher.retrieval import open_retriever
    from r1_searcher.retrieval.retrievers import is_lasting

    chosen = settings.retriever
    if chosen.searches.mode == "replay" or not is_lasting(chosen):
        return None
    live = chosen.model_copy(update={"searches": chosen.searches.model_copy(update={"mode": "live"})})
    return open_retriever(settings.model_copy(update={"retriever": live}), index=index)


def audit(
    splits: Mapping[str, pa.Table],
    settings: params.Params,
    index: Path | None,
    *,
    searched: str | None = None,
    policy: Path | None = None,
) -> dict[str, Any]:
    """Return all figures and findings of the question splits.

    Coverage is measured on the split ``searched``, or on all; not without ``index``, nor with a retriever that costs
    money or only replays training's searches. ``policy``: the folder whose tokenizer cuts passages as rollouts do;
    None: they are not cut.
    """
    asked = settings.audit
    report: dict[str, Any] = {"overlap": leakage(splits, ngram=asked.ngram, ngram_share=asked.ngram_share)}
    retriever = None if index is None else open_local(settings, index)
    if retriever is not None:
        ks = {name: settings.evaluate.k if is_benchmark(name) else settings.rollout.k for name in splits}
        chosen = {
            name: evenly_spaced(table, asked.questions) for name, table in splits.items() if searched in (None, name)
        }
        shown = None if policy is None else ShownPassages(policy, settings.rollout)
        report["coverage"] = coverage(chosen, ks, retriever, shown)
        if shown is not None and any("lost" in covered["question"] for covered in report["coverage"].values()):
            report["cut"] = {**shown.lengths(), "max_passage_tokens": settings.rollout.max_passage_tokens}
    scripts = settings.reward.scripts
    if golds := unscorable(splits, scripts):
        report["golds"] = golds
        sizes = {name: table.num_rows for name, table in splits.items()}
        report["notes"] = notes(golds, sizes)
        report["warnings"] = script_warnings(golds, sizes, scripts)
    report["findings"] = findings(report, asked)
    report["num_findings"] = len(report["findings"])
    return report


def findings(report: Mapping[str, Any], limits: params.Audit) -> list[str]:
    """Return one line per split that overlaps more with training, or is less answerable, than the parameters allow."""
    lines = []
    for name, shared in report["overlap"].items():
        number, same = shared["num_questions"], shared["normalised"]
        if same > limits.max_overlap * number:
            lines.append(
                f"{same:,} of the {number:,} questions of {name} are asked in training too "
                f"({same / number:.1%}; audit.max_overlap {limits.max_overlap:.1%})"
            )
    for name, covered in report.get("coverage", {}).items():
        oracle = covered.get("oracle")
        if oracle and oracle["answerable"] < limits.min_coverage:
            lines.append(
                f"search can answer {oracle['answerable']:.1%} of the questions of {name}, with {covered['k']} "
                f"passages per search (audit.min_coverage {limits.min_coverage:.1%})"
            )
        lost = (oracle or covered["question"]).get("lost", 0.0)
        if round(lost + limits.min_coverage, 4) > 1:
            lines.append(
                f"{lost:.1%} of the questions of {name} find their answer only beyond the cut of a passage "
                f"(rollout.max_passage_tokens {report['cut']['max_passage_tokens']}; the passages found have up to "
                f"{report['cut']['tokens']['max']:,} tokens)"
            )
    return lines


def run(
    settings: params.Params,
    questions: Path,
    index: Path | None,
    metrics: Path,
    verdict: Path,
    *,
    policy: Path | None = None,
) -> dict[str, Any]:
    """Audit a questions folder; write the metrics, and the verdict if training may begin; return the metrics.

    ``policy`` as for ``audit``. Raises ``PipelineError``, after writing the metrics, if there are findings and
    ``audit.on_fail`` is stop.
    """
    report = audit(read_splits(questions), settings, index, policy=policy)
    artefacts.write_json(metrics, report)
    if report["findings"] and settings.audit.on_fail == "stop":
        verdict.unlink(missing_ok=True)
        raise _stopped(report, metrics)
    artefacts.write_json(verdict, VERDICT)
    return report


def run_benchmark(
    settings: params.Params, questions: Path, folder: Path, metrics: Path, *, policy: Path | None = None
) -> dict[str, Any]:
    """Audit a released benchmark's folder against the training splits of ``questions``; as ``run``, but without a
    verdict."""
    splits, index = read_benchmark(folder, questions)
    report = audit(splits, settings, index, searched=folder.name, policy=policy)
    artefacts.write_json(metrics, report)
    if report["findings"] and settings.audit.on_fail == "stop":
        raise _stopped(report, metrics)
    return report


def _stopped(report: Mapping[str, Any], metrics: Path) -> PipelineError:
    fix = f"see {metrics}; audit.on_fail: warn trains all the same"
    return PipelineError("; ".join(report["findings"]), where="audit", fix=fix)


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the audit in a few lines for the terminal."""
    shown = []
    for name, shared in report["overlap"].items():
        line = (
            f"{name}: of {shared['num_questions']:,} questions training asks {shared['exact']:,} too, "
            f"{shared['normalised']:,} in the same words, {shared['ngram']:,} by n-grams"
        )
        shown.append(line)
    for name, covered in report.get("coverage", {}).items():
        line = f"{name}: answerable {covered['question']['answerable']:.1%} by a search for the question"
        if "oracle" in covered:
            line += f", {covered['oracle']['answerable']:.1%} with oracle sub-queries"
        shown.append(f"{line} (k {covered['k']})")
    if "coverage" not in report:
        shown.append("coverage was not measured: it needs an index that is searched here")
    if cut := report.get("cut"):
        tokens = ", ".join(f"{name} {number:,}" for name, number in cut["tokens"].items())
        shown.append(
            f"note: {cut['num_cut']:,} of the {cut['num_passages']:,} passages found have more than "
            f"rollout.max_passage_tokens = {cut['max_passage_tokens']} tokens and are cut ({tokens})"
        )
    noted = (f"note: {line}" for line in report.get("notes", []))
    return [*shown, *noted, *(f"warning: {line}" for line in (*report.get("warnings", []), *report["findings"]))]
