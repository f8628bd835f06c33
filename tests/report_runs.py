"""The files of a finished run, with hostile text in its passages and in a question."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.files.artefacts import write_json, write_table
from r1_searcher.types.schemas import ADVANTAGES, REWARDS, ROLLOUTS

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "<script>alert('x')</script> & \"quoted\" <img src=http://evil.example/a.png onerror=x()> \x1b[2J \u202eevil"
SHOWN = HOSTILE.replace("\x1b", "⟦1B⟧").replace("\u202e", "⟦202E⟧")
SEGMENTS = {"s1-00": ("stage1", 18), "s2-00": ("stage2", 30), "s2-01": ("stage2", 30)}


def transcript(searches: int, answer: str | None, passage: str) -> list[dict[str, str]]:
    out = []
    for turn in range(searches):
        lead = "We need the director.\n" if turn == 0 else "The director is Ora Vell. Where was she born?\n"
        query = "director of Silent Harbour" if turn == 0 else "Ora Vell"
        out.append({"source": "policy", "text": f"{lead}<|begin_of_query|> {query} <|end_of_query|>"})
        block = f"\n\n<|begin_of_documents|>\n(1) {passage}\n(2) Silent Harbour is a film by Ora Vell.\n"
        out.append({"source": "document", "text": block + "<|end_of_documents|>\n\n"})
    end = "So we know.\n</think>\n\n" + (f"<answer> {answer} </answer>" if answer is not None else "")
    return [*out, {"source": "policy", "text": end}]


def evaluation(path: Path, policy: str, right: list[bool], passage: str = HOSTILE) -> None:
    rows = []
    for number, good in enumerate(right):
        segments = transcript(2 if good else number % 2, "Tarn" if good else "Bel", passage)
        rows.append(
            {
                "question_id": f"q{number}",
                "question": f"Where was the director of Silent Harbour {number} born?",
                "answers": ["Tarn"],
                "prediction": "Tarn" if good else "Bel",
                **dict.fromkeys(("em", "f1", "cover_em", "cover_em_contiguous"), float(good)),
                "format_right": good or number % 3 > 0,
                "num_searches": 2 if good else number % 2,
                "num_tokens": 90,
                "finish_reason": "answer",
                "text": "".join(segment["text"] for segment in segments),
                "segments": segments,
                "violations": [] if good or number % 3 > 0 else ["end_think_count"],
            }
        )
    card = {"policy": policy, "benchmark": path.stem, "k": 2, "policy_sha256": policy * 8, "mode": "search"}
    metadata = {"card": card, "kinds": ["composition"], "needed_searches": 2.0}
    write_table(path, pa.Table.from_pylist(rows, EVALUATION_COLUMNS), metadata)


def trajectories(folder: Path, iteration: int, strength: float, passage: str = HOSTILE) -> None:
    rollouts, rewards, advantages = [], [], []
    for question in range(3):
        for sample in range(4):
            good = sample < strength * 4 - question * 0.5
            segments = transcript(2 if good else 1, "Tarn" if good else None, passage)
            source = [0, 0] + [1 if part["source"] == "policy" else 2 for part in segments for _ in range(3)]
            number = sum(kind == 1 for kind in source)
            name = {"trajectory_id": f"q{question}#{sample}", "question_id": f"q{question}"}
            rollouts.append(
                {
                    **name,
                    "sample": sample,
                    "question": f"Where was {passage} born?"
                    if question == 0
                    else f"Where was director {question} born?",
                    "answers": ["Tarn"],
                    "prompt": "Answer the question. <think>",
                    "token_ids": list(range(len(source))),
                    "token_source": source,
                    "policy_logprobs": [-0.5] * number,
                    "turns": [],
                    "segments": segments,
                    "text": "".join(part["text"] for part in segments),
                    "answer": "Tarn" if good else None,
                    "finish_reason": "answer" if good else "end_of_text",
                    "seed": 0,
                }
            )
            score = {"total": 1.0 if good else -2.0, "retrieval": 0.0, "format": 0.0 if good else -2.0}
            rewards.append(
                {
                    **name,
                    **score,
                    "answer": float(good),
                    "violations": [] if good else ["begin_answer_count", "end_answer_count"],
                    "format_right": good,
                    **dict.fromkeys(("em", "f1", "cover_em"), float(good)),
                    "num_searches": 2 if good else 1,
                    "num_policy_tokens": number,
                    "num_tokens": len(source),
                    "counted": True,
                }
            )
            each = [0.9 if good else -0.4] * number
            advantages.append(
                {"trajectory_id": name["trajectory_id"], "advantages": each, "returns": each, "ref_logprobs": []}
            )
    for kind, rows, schema in (
        ("rollouts", rollouts, ROLLOUTS),
        ("rewards", rewards, REWARDS),
        ("advantages", advantages, ADVANTAGES),
    ):
        write_table(folder / kind / f"{iteration:04}.parquet", pa.Table.from_pylist(rows, schema), {})


def summary_of(rates: dict[str, float], n: int) -> dict[str, Any]:
    def figures(rate: float) -> dict[str, Any]:
        answers = ("em", "f1", "cover_em", "cover_em_contiguous", "em_squad", "f1_squad", "of_my_own")
        share = {**dict.fromkeys(answers, rate), "format_rate": 0.5 + rate / 2}
        other = {"searches_per_question": 2 * rate, "search_rate": rate, "tokens_per_question": 60 + 40 * rate}
        ends = {f"{key}_ci": [max(0.0, value - 0.04), value + 0.04] for key, value in {**share, **other}.items()}
        return {"n": n, **share, **other, **ends, "needed_searches": 2.0}

    def comparison(rate: float) -> dict[str, Any]:
        return {"n": 20, "em": rate, "em_ci": [rate - 0.1, rate + 0.1], "guess_rate": 0.5, "search_rate": 0.4}

    return {
        name: {
            "held_out": figures(rate),
            "held_out_kind": figures(rate / 3),
            "comparison": comparison(0.45 + rate / 10),
        }
        for name, rate in rates.items()
    }


def curve(path: Path, stage: str, start: int, iterations: int) -> None:
    names = ["reward", "response_length", "searches", "search_rate", "format_rate", "f1", "cover_em", "em"]
    update = ["loss", "kl_old_k1", "clip_fraction", "gradient_norm", "entropy", "ratio_max", "logprob_gap_mean"]
    watch = ["watch_format_rate", "watch_f1", "watch_cover_em", "watch_searches"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "stage", "segment", *names, *update, *watch])
        for number in range(start, start + iterations):
            progress = number / 78
            wobble = ((number * 7919) % 13 - 6) / 100
            rate = min(1.0, max(0.0, progress + wobble))
            low = -0.5 if stage == "stage2" else 0.3
            figures = [low + rate, 60 + 40 * rate, 2 * rate, rate, 0.5 + rate / 2, rate, rate * 0.95, rate * 0.9]
            watched = [0.5 + progress / 2, progress, progress, 2 * progress] if number % 10 == 9 else [""] * 4
            writer.writerow(
                [number, stage, path.stem, *figures, -0.01, 0, 0.002, 0.5, 1.2 - progress, 1.3, 1e-6, *watched]
            )


def make_run(root: Path, *, passage: str = HOSTILE, questions: int = 20) -> None:
    """Write a finished run's files under ``root``."""
    params = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text())
    params["train"]["segments"] = {
        name: {"stage": stage, "prev": "data/base_model", "iterations": n, "iteration_offset": 0}
        for name, (stage, n) in SEGMENTS.items()
    }
    params["report"] = {"title": "A run <b>of tests</b>", "example_trajectories": 6}
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    rates = {"base": 0.0, "stage1": 0.1, "stage2": 0.9, "no_search": 0.0, "plain_rag": 0.05}
    write_json(root / "metrics/evaluation.json", summary_of(rates, questions))
    write_json(root / "metrics/base_model.json", {"greedy": {"search_rate": 0.0}, "sampled": {"cover_em": 0.02}})
    for policy, rate in rates.items():
        for benchmark in ("held_out", "held_out_kind", "comparison"):
            right = [number < rate * questions for number in range(questions)]
            evaluation(root / f"data/evaluation/{policy}/{benchmark}.parquet", policy, right, passage)
    start = 0
    for name, (stage, iterations) in SEGMENTS.items():
        curve(root / f"plots/train/{name}.csv", stage, start, iterations)
        start += iterations
        write_json(root / f"metrics/train/{name}.json", {"reward": 0.5, "iterations": iterations})
        trajectories(root / f"data/train/{name}", 0, start / 78 - 0.2, passage)
        trajectories(root / f"data/train/{name}", iterations - 1, start / 78, passage)
