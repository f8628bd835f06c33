"""Evaluation from files to files, with small fakes for the rollout and the index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import r1_searcher.retrieval
import r1_searcher.rollout
from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.lost import LostQuestions
from r1_searcher.evaluation.summary import summarise
from r1_searcher.evaluation.table import EVALUATION_COLUMNS
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, write_json, write_table
from r1_searcher.files.store import ROOT_VARIABLE
from r1_searcher.params.evaluate import EVALUATION_NAMES
from r1_searcher.protocol_card import differences, mode_of
from r1_searcher.retrieval.identity import search_fingerprint
from r1_searcher.texts import parse_yaml
from r1_searcher.transcripts.grammar import DOCUMENT, POLICY, PROMPT
from r1_searcher.types.schemas import EVALUATION, QUESTIONS, ROLLOUTS
from stages.base_model import measure
from stages.evaluate.__main__ import main

ROOT = Path(__file__).parents[2]
PARAMS = (ROOT / "r1_searcher/params/defaults.yaml").read_text()
SHARES = (
    *("em", "f1", "cover_em", "cover_em_contiguous", "em_squad", "f1_squad"),
    *("format_rate", "searches_per_question", "search_rate"),
)


def question_table(number: int, kind: str = "composition", hops: int | None = 2) -> pa.Table:
    row: dict[str, Any] = {"dataset": "world", "kind": kind, "num_hops": hops, "supporting_titles": []}
    rows = [
        {
            **row,
            "question_id": f"{kind}-{place}",
            "question": f"Question {place}?",
            "answers": ["Port Tarn"],
            "difficulty": None,
            "num_rollouts": None,
            "num_passes": None,
        }
        for place in range(number)
    ]
    return pa.Table.from_pylist(rows, QUESTIONS)


def trajectory(row: dict[str, Any], answer: str | None, searches: int, error: str | None = None) -> dict[str, Any]:
    """Return a ROLLOUTS row: ``searches`` queries, then ``answer``; without an answer the format is wrong."""
    turn = {"query": "Q", "passage_ids": ["p"], "scores": [1.0], "error": error}
    ask = {"source": "policy", "text": "<|begin_of_query|> Q <|end_of_query|>"}
    block = {"source": "document", "text": "\n\n<|begin_of_documents|>\n(1) P\n<|end_of_documents|>\n\n"}
    end = "</think>\n\n" if answer is None else f"</think>\n\n<answer> {answer} </answer>"
    segments = [ask, block] * searches + [{"source": "policy", "text": end}]
    return {
        "trajectory_id": f"{row['question_id']}#0",
        "question_id": row["question_id"],
        "sample": 0,
        "question": row["question"],
        "answers": row["answers"],
        "prompt": f"Answer: {row['question']} <think>",
        "token_ids": list(range(2 + 2 * searches + 1)),
        "token_source": [PROMPT] * 2 + [POLICY, DOCUMENT] * searches + [POLICY],
        "policy_logprobs": [-1.0] * (searches + 1),
        "turns": [turn] * searches,
        "segments": segments,
        "text": "".join(part["text"] for part in segments),
        "answer": answer,
        "finish_reason": "retriever_error" if error else "end_of_text" if answer is None else "answer",
        "seed": 0,
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with questions, an index and a policy; `calls` of the fake roll_out in `r1_searcher.rollout`."""
    monkeypatch.chdir(tmp_path)
    parsed = contract.parse(PARAMS)
    kept = parsed.model_copy(
        update={
            "evaluate": parsed.evaluate.model_copy(update={"questions": 20, "batch_questions": 8, "k": 5}),
            "rollout": parsed.rollout.model_copy(update={"k": 2}),
        }
    )
    Path("params.yaml").write_text(json.dumps(kept.model_dump(mode="json")))
    for name, table in {
        "train": question_table(3),
        "validation": question_table(3),
        "held_out": question_table(25),
        "comparison": question_table(10, "comparison", None),
    }.items():
        write_table(f"data/questions/{name}.parquet", table)
    words = {"stemmer": "none", "stopwords": "none", "folding": "accents", "tokenizer": "characters_and_bigrams"}
    meta = {"corpus": "c" * 64, "settings": {"k1": 1.5, "b": 0.75, **words}}
    write_json("data/index/meta.json", meta | {"num_passages": 1, "tokenizer": "t", "content": "i" * 64})
    for policy, digest in {"base_model": "0" * 64, "final": "f" * 64}.items():
        write_json(f"data/{policy}/manifest.json", {"sha256": digest, "step": 3})
    return tmp_path


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Fakes; ``play(place, row, mode)`` makes a trajectory, ``calls`` records each batch's arguments."""

    def play(place: int, row: dict[str, Any], mode: str) -> dict[str, Any]:
        if mode == "no_search":
            return trajectory(row, "Bel", 0)
        return trajectory(row, "in Port Tarn" if place % 2 == 0 else None, 2 if place % 2 == 0 else 0)

    state = SimpleNamespace(calls=[], play=play)

    def roll_out(
        engine: Any, retriever: Any, questions: pa.Table, rollout: contract.Rollout, **given: Any
    ) -> tuple[pa.Table, dict[str, float]]:
        state.calls.append({"n": questions.num_rows, "k": rollout.k, **given})
        rows = [
            state.play(int(row["question_id"].rsplit("-", 1)[1]), row, given["mode"]) for row in questions.to_pylist()
        ]
        return pa.Table.from_pylist(rows, ROLLOUTS), {"seconds": 1.0}

    def load_engine(policy: Path, params: contract.Params) -> Any:
        return SimpleNamespace(name="stand-in")

    monkeypatch.setattr(r1_searcher.rollout, "roll_out", roll_out, raising=False)
    monkeypatch.setattr(r1_searcher.rollout, "load_engine", load_engine, raising=False)
    monkeypatch.setattr(r1_searcher.retrieval, "open_retriever", lambda params, *, index, corpus, fingerprint: None)
    return state


def run(name: str, policy: str = "data/final") -> int:
    return main(["run", "--name", name, "--policy", policy, "--out", f"data/evaluation/{name}"])


def gather(*names: str) -> tuple[int, dict[str, Any]]:
    status = main(["gather", "--out", "metrics/evaluation.json", *[f"data/evaluation/{name}" for name in names]])
    path = Path("metrics/evaluation.json")
    return status, json.loads(path.read_text()) if path.exists() else {}


def test_run_asks_every_benchmark_greedily_in_batches(project: Path, world: SimpleNamespace) -> None:
    assert run("stage2") == 0
    assert sorted(path.name for path in Path("data/evaluation/stage2").iterdir()) == [
        "comparison.parquet",
        "files.sha256",
        "held_out.parquet",
    ]
    assert [call["n"] for call in world.calls] == [8, 2, 8, 8, 4]  # 10 comparisons, then 20 of the 25 held out
    for call in world.calls:
        assert (call["greedy"], call["samples"], call["mode"], call["k"]) == (True, 1, "search", 5)
    assert all(call["told"] for call in world.calls)  # progress within a benchmark
    table = read_table("data/evaluation/stage2/held_out.parquet", EVALUATION)
    assert table["question_id"].to_pylist() == [f"composition-{place}" for place in range(20)]
    row = table.to_pylist()[0]
    assert (row["prediction"], row["em"], row["cover_em"], row["cover_em_contiguous"]) == ("in Port Tarn", 0, 1, 1)
    assert row["f1"] == pytest.approx(0.8)
    assert (row["num_searches"], row["num_tokens"], row["format_right"]) == (2, 7, True)
    other = table.to_pylist()[1]
    assert (other["prediction"], other["cover_em"], other["format_right"]) == (None, 0, False)


def test_card_says_all_that_the_figures_depend_on(project: Path, world: SimpleNamespace) -> None:
    run("stage2")
    card = read_metadata("data/evaluation/stage2/held_out.parquet")["card"]
    assert card["policy_sha256"] == "f" * 64
    searched = search_fingerprint(read_json("data/index/meta.json"))
    assert (card["corpus"], card["index"], card["k"]) == ("c" * 64, searched, 5)
    assert (card["mode"], card["decoding"], card["engine"]) == ("search", "greedy", "stand-in")
    assert card["retriever"] == "bm25s, b 0.75, k1 1.5, stemmer none, stopwords none"
    assert {"max_searches", "max_turn_tokens", "max_total_tokens", "max_passage_tokens"} <= set(card)
    assert {"prompt_sha256", "metric_version", "questions_sha256"} <= set(card)
    assert (card["gold_aliases"], card["num_gold_answers"]) == ("the best match of all gold answers", 20)


def test_summary_has_every_figure_and_its_interval(project: Path, world: SimpleNamespace) -> None:
    for name in ("base", "stage2", "no_search"):
        assert run(name) == 0
    assert [call["mode"] for call in world.calls][-1] == "no_search"
    status, summary = gather("base", "stage2", "no_search")
    assert status == 0
    assert set(summary) == {"base", "stage2", "no_search"}
    figures = summary["stage2"]["held_out"]
    assert {key for key in figures if not key.endswith("_ci")} == {
        "n", *SHARES, "tokens_per_question", "needed_searches"
    }  # fmt: skip
    assert (figures["n"], figures["cover_em"], figures["search_rate"], figures["em"]) == (20, 0.5, 0.5, 0)
    assert (figures["searches_per_question"], figures["needed_searches"], figures["tokens_per_question"]) == (1, 2, 5)
    for name in (*SHARES, "tokens_per_question"):
        low, high = figures[f"{name}_ci"]
        assert low <= figures[name] <= high
    low, high = figures["cover_em_ci"]
    assert 0.2 < low < 0.35 and 0.65 < high < 0.8  # ± 1.96 × sqrt(0.25 / 20) = 0.22
    assert summary["no_search"]["held_out"]["searches_per_question"] == 0


def test_comparisons_are_reported_by_em_beside_the_guess_rate(project: Path, world: SimpleNamespace) -> None:
    run("base", "data/base_model")
    figures = gather("base")[1]["base"]["comparison"]
    assert figures["guess_rate"] == 0.5
    assert {"em", "em_ci", "format_rate", "search_rate", "n"} <= set(figures)
    assert not {"f1", "cover_em", "cover_em_contiguous", "f1_squad", "needed_searches"} & set(figures)
    assert "em_squad" in figures


def test_same_inputs_same_bytes(project: Path, world: SimpleNamespace) -> None:
    run("base")
    gather("base")
    first = Path("metrics/evaluation.json").read_bytes(), Path("data/evaluation/base/held_out.parquet").read_bytes()
    run("base")
    gather("base")
    again = Path("metrics/evaluation.json").read_bytes(), Path("data/evaluation/base/held_out.parquet").read_bytes()
    assert again == first


def test_policies_under_other_protocols_are_not_set_side_by_side(
    project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run("base")
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace('"k": 5', '"k": 3'))
    run("stage1")
    capsys.readouterr()
    status, _ = gather("base", "stage1")
    message = capsys.readouterr().err
    assert status == 2 and message.count("\n") == 1
    assert "k: 3, 5" in message and "data/evaluation/stage1" in message


def failing(*places: int) -> Any:
    """Return a world whose retriever fails for good at some questions and whose policy is right at all others."""

    def play(place: int, row: dict[str, Any], mode: str) -> dict[str, Any]:
        lost = place in places
        return trajectory(row, None if lost else "Port Tarn", 1, error="timeout" if lost else None)

    return play


def with_params(**changes: Any) -> None:
    """Change sections of the project's parameters."""
    raw = json.loads(Path("params.yaml").read_text())
    Path("params.yaml").write_text(json.dumps({**raw, **{name: raw[name] | new for name, new in changes.items()}}))


def test_one_search_that_fails_for_good_is_counted_and_named(
    project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    world.play = failing(17)  # of held_out's 20 questions; comparison has 10
    assert run("base") == 0
    said = capsys.readouterr().out
    assert (
        "held_out: 20 questions, EM 0.950, " in said
        and "; 1 lost to failed searches or tools, counted as wrong" in said
    )
    assert said.count("lost") == 1
    _, summary = gather("base")
    figures = summary["base"]["held_out"]
    assert (figures["n"], figures["lost"], figures["cover_em"]) == (20, 1, 0.95)
    assert figures["em_bounds"] == figures["cover_em_bounds"] == [0.95, 1.0]
    line = "base on held_out: 1 of 20 questions lost, counted as wrong; if all were right: em 0.950 to 1.000, f1 0.950"
    assert line in capsys.readouterr().out
    assert not {"lost", "em_bounds"} & {*summary["base"]["comparison"]}


def test_more_lost_questions_than_allowed_stop_and_leave_what_was_there(
    project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run("base")
    before = Path("data/evaluation/base/held_out.parquet").read_bytes()
    world.play = failing(7, 17)
    assert run("base") == 2
    assert (
        "the retriever failed on 2 of 20 questions (allowed: 1): timeout (repair the retriever and run the same "
        "command again; evaluate.max_error_share sets the limit)"
    ) in capsys.readouterr().err
    with_params(evaluate={"max_error_share": 0.1})
    assert run("base") == 0
    with_params(evaluate={"max_error_share": 0.0})
    world.play = failing(7)
    assert run("base") == 2
    assert "failed on 1 of 10 questions (allowed: 0): timeout" in capsys.readouterr().err
    assert Path("data/evaluation/base/held_out.parquet").read_bytes() != before
    assert [path.name for path in Path("data/evaluation").iterdir()] == ["base"]


def test_after_an_outage_only_the_batches_with_lost_questions_are_answered_again(
    project: Path, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the retriever is on a server."""
    monkeypatch.setenv(ROOT_VARIABLE, str(project / "store"))
    service = contract.parse(PARAMS).retriever.service.model_dump() | {"form": "search-r1", "name": "films"}
    with_params(retriever={"kind": "service", "service": service})
    world.play = failing(17, 18)
    assert run("base") == 2
    asked = [call["n"] for call in world.calls]
    assert asked == [8, 2, 8, 8, 4]  # comparison, then held_out, whose last batch was too much
    world.play = failing(17)
    assert run("base") == 0 and [call["n"] for call in world.calls][5:] == [4]
    world.play = failing()
    assert run("base") == 0 and [call["n"] for call in world.calls][6:] == [4]
    assert run("base") == 0 and len(world.calls) == 7
    assert gather("base")[1]["base"]["held_out"]["em"] == 1.0


def test_base_metrics_count_and_name_lost_trajectories(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def roll_out(engine: Any, retriever: Any, questions: pa.Table, rollout: Any, **given: Any) -> tuple[pa.Table, Any]:
        play = failing(1) if given["greedy"] else failing()
        rows = [play(place, row, "search") for place, row in enumerate(questions.to_pylist())]
        return pa.Table.from_pylist(rows, ROLLOUTS), {}

    for name, fake in {
        "roll_out": roll_out,
        "load_engine": lambda policy, rollout: None,
        "open_retriever": lambda params, *, index: None,
        "may_search": lambda retriever: False,
        "_that_fit": lambda asked, engine, rollout: asked,
    }.items():
        monkeypatch.setattr(measure, name, fake)
    questions = Path("data/questions/validation.parquet")
    settings = contract.load(Path("params.yaml"))
    found = measure.measure(settings, Path("data/final"), questions, Path("data/index"), questions)
    assert (found["greedy"]["n"], found["greedy"]["lost"], round(found["greedy"]["em"], 3)) == (3, 1, 0.667)
    assert "lost" not in found["sampled"] and found["sampled"]["em"] == 1.0
    strict = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"max_error_share": 0.0})})
    with pytest.raises(PipelineError, match=r"failed on 1 of 3 trajectories \(allowed: 0\): timeout"):
        measure.measure(strict, Path("data/final"), questions, Path("data/index"), questions)


def test_never_may_all_be_lost() -> None:
    def one(place: int) -> pa.Table:
        return pa.Table.from_pylist([failing(0)(place, question_table(1).to_pylist()[0], "search")], ROLLOUTS)

    with pytest.raises(PipelineError, match=r"failed on 1 of 1 questions \(allowed: 0\)"):
        LostQuestions(1, 1.0).count(one(0))
    two = LostQuestions(2, 1.0)
    assert (two.count(one(0)), two.count(one(1))) == (1, 0)


def remove_questions() -> None:
    for path in Path("data/questions").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove_questions, "data/questions: no benchmark here"),
        (lambda: Path("data/final/manifest.json").unlink(), "data/final: no *.safetensors in this policy folder"),
        (lambda: Path("data/index/meta.json").unlink(), "data/index: no index here"),
        (
            lambda: write_table("data/questions/held_out.parquet", question_table(2).drop_columns(["answers"])),
            "column 'answers' is missing",
        ),
        (
            lambda: write_table("data/questions/held_out.parquet", question_table(0)),
            "data/questions/held_out.parquet: contains no questions",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    project: Path,
    world: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[], None],
    said: str,
) -> None:
    spoil()
    assert run("stage2") == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
    assert not Path("data/evaluation/stage2").exists()


def test_no_policy_folder(project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stage2", "data/nowhere") == 2
    assert "data/nowhere: no such policy folder" in capsys.readouterr().err


def test_gather_of_an_empty_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gather("base")[0] == 2
    assert "data/evaluation/base: no evaluation here" in capsys.readouterr().err


def test_gather_refuses_one_policy_twice(
    project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run("base")
    assert gather("base", "base")[0] == 2
    assert "given twice" in capsys.readouterr().err


def test_weights_without_a_manifest_are_hashed(project: Path, world: SimpleNamespace) -> None:
    import hashlib

    folder = Path("data/own")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    run("base", "data/own")
    card = read_metadata("data/evaluation/base/held_out.parquet")["card"]
    assert card["policy_sha256"] == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("base", "search"),
        ("stage2", "search"),
        ("no_search", "no_search"),
        ("base_no_search", "no_search"),
        ("plain_rag", "plain_rag"),
        ("base_plain_rag", "plain_rag"),
        ("my_rag", "search"),
    ],
)
def test_the_name_says_the_mode(name: str, mode: str) -> None:
    assert mode_of(name) == mode


def test_differences_name_the_line() -> None:
    assert differences({"k": 2, "policy": "a"}, {"k": 2, "policy": "b"}) == []
    assert differences({"k": 2, "policy": "a"}, {"k": 3, "policy": "b"}) == ["k: 2, 3"]
    assert differences({"k": 2}, {"k": 2, "mode": "search"}) == ["mode: absent, search"]


def test_a_benchmark_of_mixed_kinds_keeps_all_its_metrics(project: Path, world: SimpleNamespace) -> None:
    run("base")
    table = read_table("data/evaluation/base/held_out.parquet", EVALUATION)
    figures = summarise(table, kinds=["comparison", "composition"], needed_searches=None)
    assert "f1" in figures and "guess_rate" not in figures


OWN_METRIC = """
from pydantic import BaseModel
from r1_searcher.extend import answer_metric


class Least(BaseModel):
    words: int = 1


@answer_metric("long_enough", parameters=Least)
def long_enough(prediction, golds, parameters):
    return float(len((prediction or "").split()) >= parameters.words)
"""


def change(**changed: Any) -> None:
    raw = json.loads(Path("params.yaml").read_text())
    raw["evaluate"] |= changed
    raw["extensions"] = ["own.py"]
    Path("params.yaml").write_text(json.dumps(raw))


def test_metrics_of_the_users_choice_are_measured_and_summarised(
    project: Path, world: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.py").write_text(OWN_METRIC)
    change(metrics=["f1_chars", "long_enough"], long_enough={"words": 3})
    assert run("base") == 0
    file = Path("data/evaluation/base/held_out.parquet")
    assert read_table(file)["long_enough"].to_pylist()[:2] == [1.0, 0.0]
    card = read_metadata(file)["card"]
    assert len(card["metric_long_enough"]) == 64 and "metric_f1_chars" not in card
    figures = gather("base")[1]["base"]["held_out"]
    assert (figures["long_enough"], len(figures["f1_chars_ci"])) == (0.5, 2) and "em_squad" not in figures
    said = capsys.readouterr().out
    assert " long_enough " in said and "F1 (characters)" in said
    change(metrics=["f1_chars", "long_enough"], long_enough={"words": 4})
    assert run("stage2") == 0
    assert gather("base", "stage2")[0] == 2
    said = capsys.readouterr().err
    assert "was measured under another protocol" in said and "metric_long_enough" in said
    change(metrics=[])  # and with parameters that nothing takes
    assert run("stage1") == 2
    assert "long_enough" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["em"], "metrics: 'em' is a column of every evaluation"),
        (["f1_squad", "f1_squad"], "metrics: 'f1_squad' is listed twice"),
        (["f1_squat"], "evaluate.metrics: no answer metric 'f1_squat' (known: cover_chars, "),
    ],
)
def test_metrics_that_cannot_be_measured(metrics: list[str], said: str) -> None:
    raw = parse_yaml(PARAMS, where="here")
    raw["evaluate"]["metrics"] = metrics
    with pytest.raises(PipelineError) as caught:
        contract.check(raw, where="here")
    assert said in str(caught.value)


def test_the_parameters_know_every_column_of_an_evaluation() -> None:
    assert {*EVALUATION_COLUMNS.names, "tools"} <= {*EVALUATION_NAMES}


def test_golds_that_are_compared_exactly_are_counted(project: Path, world: SimpleNamespace) -> None:
    run("base")
    table = read_table("data/evaluation/base/held_out.parquet", EVALUATION)
    assert "num_exact_golds" not in summarise(table, kinds=["composition"], needed_searches=None)
    answers = pa.array([["The"], ["A", "Ann"]] + [["Ann"]] * (table.num_rows - 2), EVALUATION.field("answers").type)
    table = table.set_column(EVALUATION.get_field_index("answers"), EVALUATION.field("answers"), answers)
    assert summarise(table, kinds=["composition"], needed_searches=None)["num_exact_golds"] == 2


def test_score_is_a_command_of_this_room(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out
