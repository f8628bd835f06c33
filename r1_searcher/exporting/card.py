"""The model card of an exported policy: what it is, how to ask it, what it was made from, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from r1_searcher import tables
from r1_searcher.asking.policies import questions_to_try
from r1_searcher.exporting.facts import Measured, PolicyFacts
from r1_searcher.shown import markdown_cell

_TEMPLATES = Path(__file__).parent / "templates"
_METRICS = ("em", "cover_em", "f1", "acc_l", "format_rate", "searches_per_question", "tokens_per_question")
_NAMES = {"em": "EM", "cover_em": "Cover-EM", "f1": "F1", "acc_l": "ACC_L", "format_rate": "Format"} | {
    "searches_per_question": "Searches",
    "tokens_per_question": "Tokens",
}
_IN_HEADER = ("em", "cover_em", "f1")


def model_card(facts: PolicyFacts, *, name: str, licence: str, gguf: str | None = None) -> str:
    """Return README.md: the hub's YAML header and the card in Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=False,  # Markdown; every value from outside goes through markdown_cell
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    world = facts.known and facts.params.corpus.source == "world"
    body = environment.get_template("model_card.md").render(
        name=markdown_cell(name),
        example=(questions_to_try() or ["Who directed Silent Castle?"])[0] if world else "Who directed Silent Castle?",
        parameters=bool(facts.params_text),
        gguf=f"{name}-{gguf}.gguf" if gguf else "",
        origin=_cells(_origin(facts)),
        curves=bool(facts.curves),
        measured=bool(facts.measured),
        table=_table(facts.measured),
        protocol=_cells(_common(facts.measured)),
        synthetic=world,
        licence=markdown_cell(licence) if licence else "None is stated. Ask whoever gave you this folder.",
    )
    return f"---\n{_header(facts, name, licence).to_yaml()}\n---\n\n{body}"


def _header(facts: PolicyFacts, name: str, licence: str) -> ModelCardData:
    base = facts.params.base_model.source
    results = [
        EvalResult(
            task_type="question-answering",
            dataset_type=one.card["benchmark"],
            dataset_name=one.card["benchmark"],
            metric_type=metric,
            metric_name=_NAMES[metric],
            metric_value=round(float(one.figures[metric]), 6),
        )
        for one in facts.measured
        if one.card["mode"] == "search"
        for metric in _IN_HEADER
        if metric in one.figures
    ]
    return ModelCardData(
        license=licence or None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["r1-searcher", "search-agent", "reinforcement-learning", "retrieval-augmented-generation"],
        base_model=base if facts.known and base != "tiny" and "/" in base and not Path(base).exists() else None,
        model_name=name,
        eval_results=results or None,
    )


def _cells(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, markdown_cell(str(value), longest=None)) for key, value in values.items() if value not in ("", None)]


def _origin(facts: PolicyFacts) -> dict[str, Any]:
    params = facts.params
    weights = {"segment": facts.segment, "steps": facts.step, "weights, sha256": facts.sha256}
    if not facts.known:
        return weights
    stages = [params.train.segments[one] for one in _segments(facts)]
    return {
        "profile": params.profile,
        "base model": params.base_model.source,
        "corpus": params.corpus.source,
        "questions": params.questions.source,
        "retriever": params.retriever.kind,
        "seed": params.seed,
        "training": ", ".join(f"{one.stage}: {one.iterations} iterations" for one in stages),
        **weights,
    }


def _segments(facts: PolicyFacts) -> list[str]:
    names = list(facts.params.train.segments)
    return names[: names.index(facts.segment) + 1] if facts.segment else []


def _common(measured: list[Measured]) -> dict[str, Any]:
    """Return the lines that all protocol cards share."""
    first = measured[0].card if measured else {}
    return {key: value for key, value in first.items() if all(one.card.get(key) == value for one in measured)}


def _table(measured: list[Measured]) -> str:
    names = [name for name in _METRICS if any(name in one.figures for one in measured)]
    rows = [
        [
            one.card["benchmark"],
            one.card["mode"],
            str(one.figures["n"]),
            *(_figure(one.figures, name) for name in names),
        ]
        for one in measured
    ]
    return tables.markdown(["benchmark", "mode", "questions", *(_NAMES[name] for name in names)], rows, left=(0, 1))


def _figure(figures: dict[str, Any], name: str) -> str:
    if name not in figures:
        return "–"
    low, high = figures[f"{name}_ci"]
    return f"{figures[name]:.3f} ({low:.3f}–{high:.3f})" if name in _IN_HEADER else f"{figures[name]:.2f}"
