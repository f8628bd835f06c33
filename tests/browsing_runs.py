"""A small run to browse: tokens that a tokenizer beside them spells, rewards, advantages, an evaluation, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.files.artefacts import write_json, write_table, write_text
from r1_searcher.types.schemas import ADVANTAGES, QUESTIONS, REWARDS, ROLLOUTS

QUERY = "<|begin_of_query|> Ora Vell<|end_of_query|>"
BLOCK = "\n\n<|begin_of_documents|>\n(1) Ora Vell was born in Tarn.\n(2) Bel is a city.\n<|end_of_documents|>\n\n"
PASSAGES = ["Ora Vell was born in Tarn.", "Bel is a city."]


def tokenizer() -> Tokenizer:
    """One token per byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def rollout(question: int, sample: int, answer: str | None, text: str = "") -> dict[str, Any]:
    """Return a row of rollouts that searches once."""
    end = f"{text}</think>\n\n" + (f"<answer> {answer}</answer>" if answer is not None else "")
    segments = [
        {"source": "policy", "text": QUERY},
        {"source": "document", "text": BLOCK},
        {"source": "policy", "text": end},
    ]
    prompt, encode = "User: where?\n<think>", tokenizer()
    ids, source = [], []
    for kind, piece in ((0, prompt), (1, QUERY), (2, BLOCK), (1, end)):
        found = encode.encode(piece).ids
        ids += found
        source += [kind] * len(found)
    turn = {"tool": "search", "query": "Ora Vell", "passage_ids": ["w7", "w8"], "scores": [6.5, 3.25], "error": None}
    return {
        "trajectory_id": f"q{question}#{sample}",
        "question_id": f"q{question}",
        "sample": sample,
        "question": f"Where was the director of film {question} born?",
        "answers": ["Tarn"],
        "prompt": prompt,
        "token_ids": ids,
        "token_source": source,
        "policy_logprobs": [-0.5] * source.count(1),
        "turns": [turn],
        "segments": segments,
        "text": QUERY + BLOCK + end,
        "answer": answer,
        "finish_reason": "answer" if answer is not None else "turn_limit",
        "seed": 0,
    }


def reward(row: dict[str, Any], style: float | None = None) -> dict[str, Any]:
    """Return its row of rewards. ``style``: a further component."""
    good = row["answer"] == "Tarn"
    found = {
        **{name: row[name] for name in ("trajectory_id", "question_id")},
        **{"total": 1.0 if good else -2.0, "retrieval": 0.0, "format": 0.0 if good else -2.0, "answer": float(good)},
        "violations": [] if good else ["begin_answer_count", "end_answer_count"],
        "format_right": good,
        **dict.fromkeys(("em", "f1", "cover_em"), float(good)),
        **{"num_searches": 1, "num_policy_tokens": row["token_source"].count(1), "num_tokens": len(row["token_ids"])},
        "counted": True,
    }
    return found if style is None else {**found, "component_style": style}


def advantage(row: dict[str, Any], value: float) -> dict[str, Any]:
    """Return its row of advantages, the same at each token."""
    values = [value] * row["token_source"].count(1)
    return {"trajectory_id": row["trajectory_id"], "advantages": values, "returns": values, "ref_logprobs": []}


def iteration(folder: Path, number: int, rows: list[dict[str, Any]], style: float | None = None) -> None:
    """Write an iteration's three files."""
    schema = REWARDS if style is None else REWARDS.append(pa.field("component_style", pa.float64()))
    rewards = [reward(row, style) for row in rows]
    advantages = [advantage(row, 1.5 if row["answer"] == "Tarn" else -0.5) for row in rows]
    for kind, table, columns in (
        ("rollouts", rows, ROLLOUTS),
        ("rewards", rewards, schema),
        ("advantages", advantages, ADVANTAGES),
    ):
        write_table(folder / kind / f"{number:04}.parquet", pa.Table.from_pylist(table, columns), {})


def validation(store: Path, segment: str, number: int, rows: list[dict[str, Any]], rewarded: bool = True) -> None:
    """Write a stored validation after iteration ``number``, and its rewards."""
    key = f"{number:02}{segment}"
    write_table(store / f"watches/aa/{key}/rollouts.parquet", pa.Table.from_pylist(rows, ROLLOUTS), {"key": key})
    if rewarded:
        table = pa.Table.from_pylist([reward(row) for row in rows], REWARDS)
        place = {"key": f"r{key}", "rollouts": key, "segment": segment, "iteration": number}
        write_table(store / f"rewards/aa/r{key}/rewards.parquet", table, place)


def evaluation(path: Path, policy: str, answers: list[str]) -> None:
    """Write an evaluation of one policy."""
    rows = []
    for number, answer in enumerate(answers):
        row, good = rollout(number, 0, answer), float(answer == "Tarn")
        wanted = ("question_id", "question", "answers", "finish_reason", "text", "segments")
        figures = dict.fromkeys(("em", "f1", "cover_em", "cover_em_contiguous"), good)
        more = {"prediction": answer, "format_right": True, "num_searches": 1, "num_tokens": 80, "violations": []}
        rows.append({**{name: row[name] for name in wanted}, **figures, **more})
    card = {"card": {"policy": policy, "benchmark": path.stem}}
    write_table(path, pa.Table.from_pylist(rows, EVALUATION_COLUMNS), card)


def make(root: Path) -> Path:
    """Write two segments of two iterations, two evaluations, questions, curves and a tokenizer; return ``root``."""
    for segment, numbers in (("s1-00", (0, 1)), ("s2-00", (0, 1))):
        for number in numbers:
            rows = [
                rollout(question, sample, "Tarn" if sample < number + 1 else None if question else "Bel", "Grüße ")
                for question in range(3)
                for sample in range(3)
            ]
            iteration(root / f"data/train/{segment}", number, rows, 0.25 if segment == "s2-00" else None)
    evaluation(root / "data/evaluation/base/held_out.parquet", "base", ["Bel", "Bel", "Tarn"])
    evaluation(root / "data/evaluation/stage2/held_out.parquet", "stage2", ["Tarn", "Tarn", "Tarn"])
    questions = [
        {"question_id": f"q{number}", "question": "?", "answers": [], "kind": "composition", "supporting_titles": []}
        for number in range(3)
    ]
    write_table(root / "data/questions/train.parquet", pa.Table.from_pylist(questions, QUESTIONS), {})
    curve(root / "plots/train/s1-00.csv", "s1-00", 1, 2)
    curve(root / "plots/live/s2-00.csv", "s2-00", 3, 2)
    (root / "data/base_model").mkdir(parents=True)
    tokenizer().save(str(root / "data/base_model/tokenizer.json"))
    guard = {"min_format_rate": 0.2, "max_tokens_growth": 4.0, "patience": 5}
    stages = {name: {"collapse": guard} for name in ("stage1", "stage2")}
    segments = {"s1-00": {"stage": "stage1", "iterations": 2}, "s2-00": {"stage": "stage2", "iterations": 4}}
    write_json(root / "params.yaml", {"train": {**stages, "segments": segments}})
    lines = "".join(
        f'{{"iteration": {n}, "rollout": 2.0, "whole": 10.0, "tokens_per_second": 500.0}}\n' for n in (3, 4)
    )
    write_text(root / ".store/.timings/tiny-s2-00.jsonl", lines)
    return root


def curve(path: Path, segment: str, first: int, number: int) -> None:
    """Write a segment's curves, with a validation after its last iteration."""
    names = "iteration,stage,segment,reward,f1,format_rate,response_length,searches,num_trajectories,num_groups"
    rows = [f"{names},num_zero_advantage_groups,kl_old_k3,watch_reward"]
    for place in range(first, first + number):
        watch = "0.75" if place == first + number - 1 else ""
        rows.append(f"{place},stage{segment[1]},{segment},{place / 10},0.5,0.9,20,1.5,8,4,1,0.001,{watch}")
    write_text(path, "\n".join(rows) + "\n")
