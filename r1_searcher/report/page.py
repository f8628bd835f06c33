"""Render the inputs as one self-contained HTML page: no script, no external address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r1_searcher import shown
from r1_searcher.evaluation.further_metrics import words
from r1_searcher.evaluation.lost import lost_line
from r1_searcher.report import charts, trajectories
from r1_searcher.report.inputs import Inputs, IterationFigures
from r1_searcher.rewards.columns import CALLS, PREFIX, calls_in, further, mean_calls_in

TEMPLATES = Path(__file__).parent / "templates"
HEADLINE_BENCHMARK = "held_out"
STEPS = ("base", "stage1", "stage2")

# A benchmark's table: key, heading, meaning.
_COLUMNS = (
    ("em", "EM", "equal to a gold answer after normalisation"),
    ("cover_em", "Cover-EM", "every gold token occurs in the answer"),
    ("cover_em_contiguous", "Cover-EM, contiguous", "the gold answer occurs in the answer as consecutive tokens"),
    ("f1", "F1", "token overlap with the gold answer"),
    ("acc_l", "ACC_L", "share of answers that a language model judges correct"),
    ("format_rate", "Format", "share of transcripts in the correct format"),
    ("searches_per_question", "Searches", "searches per question"),
    ("search_rate", "Searched", "share of questions with at least one search"),
    ("tokens_per_question", "Tokens", "prompt, policy and document tokens per question"),
)
_ANSWERS = 4  # the first so many are measured on the answer alone
_TILES = ("cover_em", "em", "f1", "format_rate", "searches_per_question", "search_rate")
_CURVES = (  # column, title, fixed range
    ("reward", "Reward", None),
    ("response_length", "Response length, tokens", None),
    ("searches", "Searches per trajectory", None),
    ("format_rate", "Format rate", (0.0, 1.0)),
    ("f1", "F1", (0.0, 1.0)),
    ("cover_em", "Cover-EM", (0.0, 1.0)),
)
_DIAGNOSTICS = (
    ("entropy", "Entropy, nats"),
    ("kl_old_k1", "KL to the sampling policy (k1)"),
    ("clip_fraction", "Clip fraction"),
    ("gradient_norm", "Gradient norm"),
    ("ratio_max", "Largest importance ratio"),
    ("logprob_gap_mean", "Engine/trainer log-probability gap"),
)
_NAMES = {
    "base": "base policy",
    "no_search": "final, no search",
    "plain_rag": "final, plain RAG",
    "base_no_search": "base, no search",
    "base_plain_rag": "base, plain RAG",
    "ircot": "final, IRCoT",
    "base_ircot": "base, IRCoT",
}


def policy_name(name: str) -> str:
    """Return a policy of the summary in words."""
    return _NAMES.get(name, charts.stage_name(name))


def _ordered(names: Any) -> list[str]:
    """Return policies in order of training, then the baselines."""
    names = list(names)
    return [name for name in STEPS if name in names] + sorted(name for name in names if name not in STEPS)


def points(curves: list[IterationFigures], column: str) -> list[charts.ChartPoint]:
    """Return a column of the curves where it was measured."""
    return [charts.ChartPoint(row.number, row.figures[column], row.stage) for row in curves if column in row.figures]


def _tiles(inputs: Inputs) -> list[dict[str, Any]]:
    """Return headline figures: each metric for base, stage 1 and stage 2 on the headline benchmark."""
    steps = [name for name in STEPS if HEADLINE_BENCHMARK in inputs.summary.get(name, {})]
    if not steps:
        return []
    last = inputs.summary[steps[-1]][HEADLINE_BENCHMARK]
    tiles = []
    meanings = {key: (heading, meaning) for key, heading, meaning in _COLUMNS}
    for key in _TILES:
        if key in last:
            heading, meaning = meanings[key]
            way = [(policy_name(name), inputs.summary[name][HEADLINE_BENCHMARK].get(key)) for name in steps]
            needed = last.get("needed_searches") if key == "searches_per_question" else None
            tiles.append({"heading": heading, "meaning": meaning, "way": way, "needed": needed})
    return tiles


def _curve_charts(inputs: Inputs) -> list[dict[str, Any]]:
    out = []
    names = dict.fromkeys(name for row in inputs.curves for name in row.figures)
    calls = [(name, f"Calls of {name.removeprefix(CALLS)} per trajectory", None) for name in calls_in(names)]
    own = [(name, f"Component {name.removeprefix(PREFIX)}", None) for name in further(names)]
    for column, title, unit in (*_CURVES, *calls, *own):
        measured = points(inputs.curves, column)
        if measured:
            watch = points(inputs.curves, f"watch_{column}")
            out.append({"title": title, "svg": charts.curve_chart(title, measured, watch=watch, unit=unit)})
    return out


def _diagnostic_charts(inputs: Inputs) -> list[dict[str, Any]]:
    found = [(title, points(inputs.curves, column)) for column, title in _DIAGNOSTICS]
    return [{"title": title, "svg": charts.curve_chart(title, measured)} for title, measured in found if measured]


def _benchmarks(inputs: Inputs) -> list[dict[str, Any]]:
    """Return one table and chart per benchmark."""
    out = []
    for benchmark in sorted({name for row in inputs.summary.values() for name in row}, key=_benchmark_order):
        policies = [name for name in _ordered(inputs.summary) if benchmark in inputs.summary[name]]
        rows = [(policy_name(name), inputs.summary[name][benchmark]) for name in policies]
        calls = mean_calls_in(name for _, figures in rows for name in figures)
        tools = [(name, name.removeprefix(CALLS), "calls of this tool per question") for name in calls]
        known = (*_COLUMNS, *tools)
        further = words((name for _, figures in rows for name in figures), [column[0] for column in known])
        listed = (*_COLUMNS[:_ANSWERS], *further, *_COLUMNS[_ANSWERS:], *tools)
        columns = [column for column in listed if any(column[0] in figures for _, figures in rows)]
        cells = [[(figures.get(key), figures.get(f"{key}_ci")) for key, *_ in columns] for _, figures in rows]
        key, heading = ("cover_em", "Cover-EM") if any("cover_em" in figures for _, figures in rows) else ("em", "EM")
        bars = [
            charts.Interval(label, figures[key], *figures.get(f"{key}_ci", [figures[key]] * 2))
            for label, figures in rows
            if key in figures
        ]
        guess = rows[0][1].get("guess_rate")
        out.append(
            {
                "name": benchmark,
                "n": rows[0][1]["n"],
                "needed": rows[0][1].get("needed_searches"),
                "guess": guess,
                "headings": ["policy", *(column[1:] for column in columns)],
                "rows": [[name, *row] for (name, _), row in zip(rows, cells, strict=True)],
                "lost": [line for name, figures in rows if (line := lost_line(name, figures))],
                "judged": [(name, figures) for name, figures in rows if "acc_l_n" in figures],
                "chart_of": heading,
                "svg": charts.interval_chart(f"{heading} on {benchmark}", bars, guess=guess),
            }
        )
    return sorted(out, key=lambda benchmark: benchmark["guess"] is not None)  # benchmarks that can be guessed come last


def _benchmark_order(name: str) -> tuple[bool, str]:
    return (name != HEADLINE_BENCHMARK, name)


def _before_and_after(inputs: Inputs) -> dict[str, Any] | None:
    """Return the same held-out questions under every stage's policy, greedy."""
    steps = [name for name in STEPS if HEADLINE_BENCHMARK in inputs.evaluated.get(name, {})]
    if len(steps) < 2:
        return None
    rows = {name: inputs.evaluated[name][HEADLINE_BENCHMARK] for name in steps}
    number = inputs.params.report.example_trajectories
    chosen, counts = trajectories.choose_questions(rows[steps[0]], rows[steps[-1]], number)
    by_id = {name: {row["question_id"]: row for row in table} for name, table in rows.items()}
    questions = []
    for question_id in chosen:
        cards = [
            (policy_name(name), trajectories.evaluation_card(by_id[name][question_id]))
            for name in steps
            if question_id in by_id[name]
        ]
        questions.append({"id": question_id, "cards": cards, **_question(cards[0][1])})
    return {"questions": questions, "counts": counts, "first": policy_name(steps[0]), "last": policy_name(steps[-1])}


def _question(row: dict[str, Any]) -> dict[str, Any]:
    return {"question": row["question"], "answers": row["answers"]}


def _training(inputs: Inputs) -> list[dict[str, Any]]:
    each = max(1, round(inputs.params.report.example_trajectories / (2 * len(inputs.moments))))
    segments = inputs.params.train.segments
    return [
        {
            "title": (
                f"{charts.stage_name(moment.stage)}, segment {moment.segment}, "
                f"iteration {int(moment.iteration) + 1} of {segments[moment.segment].iterations}"
            ),
            "cards": trajectories.best_and_worst(moment, each),
        }
        for moment in inputs.moments
    ]


def _protocol(inputs: Inputs) -> dict[str, Any]:
    """Return the lines of the cards that all files share, and those that differ, one row per policy and benchmark."""
    cards = [
        (policy, benchmark, inputs.cards[policy][benchmark])
        for policy in _ordered(inputs.cards)
        for benchmark in sorted(inputs.cards[policy], key=_benchmark_order)
    ]
    names = list(dict.fromkeys(name for _, _, card in cards for name in card))
    shared = [name for name in names if len({json.dumps(card.get(name)) for _, _, card in cards}) == 1]
    varied = [name for name in names if name not in shared and name not in ("policy", "benchmark")]
    return {
        "shared": [(name, cards[0][2][name]) for name in shared],
        "varied": varied,
        "rows": [(policy, benchmark, *(card.get(name) for name in varied)) for policy, benchmark, card in cards],
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested metrics as (dotted name, value)."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{prefix}.{key}" if prefix else key)]
    return [(prefix, value)]


def figure(value: Any) -> str:
    """Format a cell: figures rounded, intervals as "a to b", missing ones as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value < 10_000 else f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return charts.number(value)
    if isinstance(value, list):
        interval = len(value) == 2 and not isinstance(value[0], str)
        return (" to " if interval else ", ").join(map(figure, value)) or "none"
    return str(value)


def visible(value: Any) -> Any:
    """Escape what the template prints as ``shown.visible`` does, except our own mark-up."""
    return shown.visible(value) if type(value) is str else value


def render(inputs: Inputs) -> str:
    """Return the page. All data is escaped; equal inputs give equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    columns = list(dict.fromkeys(name for row in inputs.curves for name in row.figures))
    return environment.get_template("page.html").render(
        title=inputs.params.report.title,
        profile=inputs.params.profile,
        seed=inputs.params.seed,
        headline_benchmark=HEADLINE_BENCHMARK,
        sentence=_sentence(inputs),
        tiles=_tiles(inputs),
        curves=_curve_charts(inputs),
        diagnostics=_diagnostic_charts(inputs),
        curve_columns=columns,
        tools=[name.removeprefix(CALLS) for name in calls_in(columns)],
        iterations=[[str(row.number), row.stage, *map(row.figures.get, columns)] for row in inputs.curves],
        smooth_over=charts.SMOOTH_OVER,
        benchmarks=_benchmarks(inputs),
        before_after=_before_and_after(inputs),
        training=_training(inputs),
        protocol=_protocol(inputs),
        measured=[(name, _flat(value)) for name, value in inputs.measured.items()],
        sources=[(path, purpose, digest[:16]) for path, digest, purpose in inputs.sources],
        params_text=inputs.params_text,
    )


def _sentence(inputs: Inputs) -> str:
    """Summarise the run in one sentence that says only what the summary contains."""
    steps = [name for name in STEPS if HEADLINE_BENCHMARK in inputs.summary.get(name, {})]
    if not steps:
        return f"This run was not evaluated on {HEADLINE_BENCHMARK}."
    first, last = (inputs.summary[name][HEADLINE_BENCHMARK] for name in (steps[0], steps[-1]))
    said = (
        f"On {last['n']} held-out questions, answered greedily, Cover-EM went from {figure(first['cover_em'])} "
        f"({policy_name(steps[0])}) to {figure(last['cover_em'])} ({policy_name(steps[-1])}), with "
        f"{figure(last['searches_per_question'])} searches per question"
    )
    if "needed_searches" in last:
        said += f" where {figure(last['needed_searches'])} are needed"
    alone = inputs.summary.get("no_search", {}).get(HEADLINE_BENCHMARK)
    if alone:
        said += f". Without search, the final policy reaches {figure(alone['cover_em'])}"
    return said + "."
