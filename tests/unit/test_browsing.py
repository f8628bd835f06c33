"""`browse` without a browser: what is indexed, found and shown of a run's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import browsing_runs as runs
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_searcher.browsing import curves, details, queries
from r1_searcher.browsing.folders import Folders
from r1_searcher.browsing.index import TrajectoryIndex
from r1_searcher.browsing.queries import Filters
from r1_searcher.browsing.tokens import Tokenizers, pieces
from r1_searcher.cli import browse
from r1_searcher.files.artefacts import write_table
from r1_searcher.params import Collapse
from r1_searcher.types.schemas import REWARDS, ROLLOUTS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.make(tmp_path_factory.mktemp("browse") / "mine")


@pytest.fixture(scope="module")
def index(run: Path) -> Iterator[TrajectoryIndex]:
    made = TrajectoryIndex(Folders([run]))
    made.refresh()
    yield made
    made.close()


def test_every_trajectory_is_there_with_its_place_rewards_and_advantage(index: TrajectoryIndex) -> None:
    with index.cursor() as at:
        rows = queries.rows(at, Filters(), limit=100, added=index.added)
        assert queries.count(at, Filters())["rows"] == len(rows) == 4 * 9 + 2 * 3
    assert index.problems == {}
    first, last = rows[0], rows[35]
    assert (first["run"], first["kind"], first["policy"], first["iteration"]) == ("mine", "training", "s1-00", 1)
    assert (last["policy"], last["iteration"], last["component_style"]) == ("s2-00", 4, 0.25)
    assert first["component_style"] is None
    assert (first["reward"], first["advantage"], first["question_kind"]) == (1.0, 1.5, "composition")
    evaluated = rows[36]
    assert (evaluated["policy"], evaluated["benchmark"], evaluated["answer"]) == ("base", "held_out", "Bel")


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        (Filters(equal={"policy": ["s1-00"]}), 18),
        (Filters(equal={"policy": ["s1-00", "base"]}), 21),
        (Filters(equal={"kind": ["evaluation"]}, least={"f1": 1}), 4),
        (Filters(least={"iteration": 2}, most={"iteration": 3, "reward": 0}), 9),
        (Filters(least={"component_style": 0.2}), 18),
        (Filters(violations=["begin_answer_count"]), 18),
        (Filters(equal={"finish_reason": ["turn_limit"]}), 12),
        (Filters(question="q1"), 14),
        (Filters(text="GRÜSSE"), 0),
        (Filters(text="grüße film"), 36),
        (Filters(text='"film 1 born"'), 14),
        (Filters(text="'; DROP TABLE trajectories; --"), 0),
        (Filters(equal={"policy": ["x' OR 1=1 --"]}), 0),
        (Filters(equal={"1=1) --": ["x"]}, least={'reward" > 0 --': 1}), 42),  # no such columns
    ],
)
def test_filters(index: TrajectoryIndex, filters: Filters, number: int) -> None:
    with index.cursor() as at:
        assert queries.count(at, filters, index.added)["rows"] == number
        assert len(queries.rows(at, filters, limit=100, added=index.added)) == number


def test_rows_are_sorted_and_paged(index: TrajectoryIndex) -> None:
    with index.cursor() as at:
        whole = queries.rows(at, Filters(), sort="advantage", order="desc", limit=100)
        parts = [queries.rows(at, Filters(), sort="advantage", order="desc", limit=9, offset=9 * n) for n in range(5)]
        unknown = queries.rows(at, Filters(), sort="id; DROP TABLE sources", limit=100)
    assert [row["id"] for part in parts for row in part] == [row["id"] for row in whole]
    assert [row["advantage"] for row in whole] == [1.5] * 18 + [-0.5] * 18 + [None] * 6
    assert len(unknown) == 42


def test_a_choice_within_a_facet_does_not_hide_its_other_values(index: TrajectoryIndex) -> None:
    with index.cursor() as at:
        found = queries.facets(at, Filters(equal={"policy": ["base"]}), index.added)
    assert dict(found["policy"]) == {"s1-00": 18, "s2-00": 18, "base": 3, "stage2": 3}
    assert found["kind"] == [["evaluation", 3]] and found["benchmark"] == [["held_out", 3]]
    with index.cursor() as at:
        found = queries.facets(at, Filters(), index.added)
    assert found["violations"] == [["begin_answer_count", 18], ["end_answer_count", 18]]
    assert dict(found["finish_reason"]) == {"answer": 30, "turn_limit": 12}


def test_a_question_in_all_iterations(index: TrajectoryIndex) -> None:
    with index.cursor() as at:
        [one] = queries.rows(at, Filters(question="q2", equal={"policy": ["base"]}))
        source = queries.source(at, one["id"].split("-")[0])
        assert source is not None
        rows = queries.of_question(at, source["source"], int(one["id"].split("-")[1]))
        assert queries.of_question(at, source["source"], 99) == []
    assert [row["iteration"] for row in rows] == [n for n in (1, 2, 3, 4) for _ in range(3)] + [None, None]
    assert [row["policy"] for row in rows[-2:]] == ["base", "stage2"]


def test_a_trajectory_with_its_tokens_searches_and_rules(index: TrajectoryIndex, run: Path) -> None:
    with index.cursor() as at:
        row = queries.rows(at, Filters(equal={"policy": ["s2-00"]}, violations=["end_answer_count"]), limit=1)[0]
        key, place = row["id"].split("-")
        source = queries.source(at, key)
    assert source is not None
    whole = details.read_row(Path(source["path"]), int(place))
    scored = details.find_row(Path(source["rewards"]), whole["trajectory_id"], int(place))
    trained = details.find_row(Path(source["advantages"]), whole["trajectory_id"], 99)  # not where it was expected
    made = details.trajectory(whole, scored, trained, Tokenizers([run]), Path(source["path"]))
    assert [part["source"] for part in made["parts"]] == ["policy", "document", "policy"]
    search = made["parts"][1]
    assert (search["query"], [one["score"] for one in search["passages"]]) == ("Ora Vell", [6.5, 3.25])
    assert [one["gold"] for one in search["passages"]] == [True, False]
    assert search["passages"][0]["pieces"] == [("Ora Vell was born in ", ""), ("Tarn", "gold"), (".", "")]
    assert [run["source"] for run in made["tokens"]] == ["prompt", "policy", "document", "policy"]
    assert "".join(made["tokens"][3]["texts"]).startswith("Grüße </think>")
    assert len(made["tokens"][3]["logprobs"]) == len(made["tokens"][3]["texts"]) == len(made["tokens"][3]["advantages"])
    assert made["reward"]["components"] == {"retrieval": 0.0, "format": -2.0, "answer": 0.0, "style": 0.25}
    assert [rule["rule"] for rule in made["rules"]] == ["begin_answer_count", "end_answer_count"]
    assert made["rules"][0]["says"] == "<answer> must occur exactly once"


def test_without_a_tokenizer_that_spells_the_transcript_there_are_no_tokens(run: Path, tmp_path: Path) -> None:
    row = runs.rollout(0, 0, "Tarn")
    other = {**row, "text": row["text"] + "!"}
    for shown, roots in ((row, [tmp_path]), (other, [run])):
        made = details.trajectory(shown, None, None, Tokenizers(roots), tmp_path)
        assert made["tokens"] is None and "no tokenizer.json" in made["tokens_note"]
        assert made["reward"] is None and not made["scored"]


def test_pieces_of_letters_of_several_tokens() -> None:
    text = "aé日🙂b�"
    made = runs.tokenizer()
    found = pieces(lambda ids: made.decode(list(ids), skip_special_tokens=False), made.encode(text).ids)
    assert "".join(found) == text
    assert found[:6] == ["a", "", "é", "", "", "日"]


def test_split_documents_follows_the_numbers_alone() -> None:
    assert details.split_documents(runs.BLOCK) == runs.PASSAGES
    block = "<|begin_of_documents|>\n(1) a\n(3) is text\n(2) b (2) c\n<|end_of_documents|>"
    assert details.split_documents(block) == ["a\n(3) is text", "b (2) c"]
    assert details.split_documents("Nothing was found.") == ["Nothing was found."]


def test_gold_answers_are_marked_as_whole_words_in_any_case() -> None:
    assert details.marked("tarn, Tarnow, (TARN)", ["Tarn", ""]) == [
        ("tarn", "gold"),
        (", Tarnow, (", ""),
        ("TARN", "gold"),
        (")", ""),
    ]
    assert details.marked("a", ["  "]) == [("a", "")]


def test_files_that_change_go_and_come_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    runs.iteration(root / "data/train/s1-00", 0, [runs.rollout(0, 0, "Tarn")])
    made = TrajectoryIndex(Folders([root]))

    def number() -> int:
        made.refresh()
        with made.cursor() as at:
            return int(queries.count(at, Filters())["rows"])

    assert number() == 1 and not made.refresh()
    runs.iteration(root / "data/train/s1-00", 1, [runs.rollout(0, n, "Bel") for n in range(2)])
    assert number() == 3
    whole = (root / "data/train/s1-00/rollouts/0001.parquet").read_bytes()
    half = root / "data/train/s1-00/rollouts/0002.parquet"
    half.write_bytes(whole[: len(whole) // 2])
    assert number() == 3 and "not a whole Parquet file" in made.problems["run/data/train/s1-00/rollouts/0002.parquet"]
    half.write_bytes(whole)
    assert number() == 5 and made.problems == {}
    half.unlink()
    runs.iteration(root / "data/train/s1-00", 1, [runs.rollout(0, 0, "Tarn")])
    assert number() == 2
    made.close()


def test_folders_of_one_name_and_a_single_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        runs.iteration(tmp_path / name / "data/train/s1-00", 0, [runs.rollout(0, 0, "Tarn")])
    asked = tmp_path / "asked.parquet"
    pq.write_table(pa.Table.from_pylist([runs.rollout(1, 0, "Bel")], ROLLOUTS), asked)
    made = TrajectoryIndex(Folders([tmp_path / "a/data", tmp_path / "b/data", asked]))
    made.refresh()
    with made.cursor() as at:
        found = queries.rows(at, Filters())
    assert [(row["run"], row["kind"], row["policy"]) for row in found] == [
        ("a", "training", "s1-00"),
        ("b", "training", "s1-00"),
        (tmp_path.name, "rollouts", "asked"),
    ]
    assert len({row["id"] for row in found}) == 3
    made.close()


def test_a_file_with_a_damaged_column_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    root = tmp_path / "run"
    for place in range(2):
        runs.iteration(root / "data/train/s1-00", place, [runs.rollout(n, 0, "Tarn") for n in range(50)])
    path = root / "data/train/s1-00/rollouts/0000.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(ROLLOUTS.get_field_index("question_id"))
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    data[begin : begin + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    made = TrajectoryIndex(Folders([root]))
    made.refresh()
    with made.cursor() as at:
        assert queries.count(at, Filters())["rows"] == 50
    assert "cannot be read" in made.problems["run/data/train/s1-00/rollouts/0000.parquet"]
    assert not made.refresh()  # and it is not tried again
    made.close()


def test_what_cannot_be_shown_is_named(tmp_path: Path) -> None:
    root, outside = tmp_path / "run", tmp_path / "outside.parquet"
    rows = pa.Table.from_pylist([runs.rollout(0, 0, "Tarn")], ROLLOUTS)
    root.mkdir()
    pq.write_table(rows, outside)
    (root / "link.parquet").symlink_to(outside)
    pq.write_table(rows.drop_columns(["text"]), root / "old.parquet")
    os.mkfifo(root / "pipe.parquet")
    pq.write_table(pa.table({"a": [1]}), root / "other.parquet")
    folders = Folders([root])
    assert folders.scan() == []
    assert folders.problems == {
        "run/link.parquet": "a link that leaves the folder",
        "run/old.parquet": "rollouts of another version: column 'text' is missing",
    }


def test_bytes_that_are_no_text_and_enormous_texts(tmp_path: Path) -> None:
    row = runs.rollout(0, 0, "Tarn", "x" * 300_000)
    table = pa.Table.from_pylist([row], ROLLOUTS)
    broken = pa.array([b"\xed\xa0\x80 lone \xff"], pa.binary()).view(pa.string())
    table = table.set_column(table.schema.get_field_index("question"), "question", broken)
    pq.write_table(table, tmp_path / "odd.parquet")
    made = TrajectoryIndex(Folders([tmp_path]))
    made.refresh()
    assert made.problems == {}
    with made.cursor() as at:
        [shown] = queries.rows(at, Filters())
    assert shown["question"].endswith(" lone �")
    whole = details.trajectory(details.read_row(tmp_path / "odd.parquet", 0), None, None, Tokenizers([]), tmp_path)
    assert sum(len(text) for part in whole["parts"] for text, _ in part.get("pieces", ())) < 250_000
    made.close()


def test_an_index_that_is_kept_is_used_again_and_one_that_is_damaged_is_made_anew(run: Path, tmp_path: Path) -> None:
    changed: list[bool] = []
    for damage in (False, False, True):
        if damage:
            [file] = tmp_path.glob("*.duckdb")
            file.write_bytes(b"no database")
        made = TrajectoryIndex(Folders([run]), tmp_path)
        changed.append(made.refresh())
        with made.cursor() as at:
            assert queries.count(at, Filters())["rows"] == 42
        made.close()
    assert changed == [True, False, True]


def test_curves_of_a_run_that_goes_on(index: TrajectoryIndex, run: Path) -> None:
    with index.cursor() as at:
        [found] = curves.curves([run], at, 3.6)
    first, second = found["segments"]
    assert (first["name"], first["live"], second["live"], second["planned"], second["done"]) == (
        "s1-00",
        False,
        True,
        4,
        2,
    )
    assert second["seconds_left"] == 20.0 and second["tokens_per_second"] == 500.0
    assert second["searches_per_second"] == 1.5 * 8 / 2
    assert found["hours"] == pytest.approx(20 / 3600) and found["cost"] == pytest.approx(0.02)
    assert second["rows"][-1]["watch_reward"] == 0.75 and "watch_reward" not in second["rows"][0]
    assert [one["state"] for one in second["sentinels"]] == ["ok", "ok", "ok"]


def test_sentinels_say_what_is_wrong() -> None:
    guard = Collapse(min_format_rate=0.2, max_tokens_growth=4.0, patience=2)
    good = {
        "format_rate": 0.9,
        "response_length": 20.0,
        "num_groups": 4.0,
        "num_zero_advantage_groups": 0.0,
        "kl_old_k3": 0.001,
    }
    bad = {
        "format_rate": 0.1,
        "response_length": 20.0,
        "num_groups": 4.0,
        "num_zero_advantage_groups": 4.0,
        "kl_old_k3": 0.5,
    }
    states = [
        [one["state"] for one in curves.sentinels(curves.SegmentCurves("s", "stage1", rows, guard=guard))]
        for rows in ([good, good], [good, bad], [good, bad, bad])
    ]
    assert states == [["ok", "ok", "ok"], ["warn", "warn", "warn"], ["stop", "warn", "warn"]]
    assert [one["state"] for one in curves.sentinels(curves.SegmentCurves("s", rows=[{}]))] == ["unknown"] * 3


def test_without_curve_files_the_rewards_give_the_curves(tmp_path: Path) -> None:
    rows = [runs.rollout(0, 0, "Tarn"), runs.rollout(0, 1, None)]
    for place in range(2):
        runs.iteration(tmp_path / "run/data/train/s1-00", place, rows)
    made = TrajectoryIndex(Folders([tmp_path / "run"]))
    made.refresh()
    with made.cursor() as at:
        [found] = curves.curves([tmp_path / "run"], at, None)
    assert [row["reward"] for row in found["segments"][0]["rows"]] == [-0.5, -0.5]
    assert found["cost"] is None
    made.close()


def test_a_validation_has_the_rewards_of_its_place_or_else_its_metrics(tmp_path: Path) -> None:
    store = tmp_path / "run/.store"
    for number, answer in ((0, "Bel"), (1, "Tarn")):
        runs.validation(store, "s1-00", number, [runs.rollout(0, 0, answer), runs.rollout(1, 0, "Tarn")])
    runs.validation(store, "s9-00", 4, [runs.rollout(0, 0, "Old Tarn")], rewarded=False)
    runs.iteration(tmp_path / "run/data/train/s1-00", 0, [runs.rollout(2, 0, "Tarn")])
    made = TrajectoryIndex(Folders([tmp_path / "run"]))
    made.refresh()
    with made.cursor() as at:
        rows = queries.rows(at, Filters(equal={"kind": ["validation"]}), sort="iteration")
        assert [(row["policy"], row["iteration"], row["reward"], row["f1"]) for row in rows] == [
            ("s1-00", 0, -2.0, 0.0),
            ("s1-00", 0, 1.0, 1.0),
            ("s1-00", 1, 1.0, 1.0),
            ("s1-00", 1, 1.0, 1.0),
            ("validation", None, None, pytest.approx(2 / 3)),
        ]
        last = rows[-1]
        assert (last["em"], last["cover_em"], last["searches"], last["policy_tokens"]) == (
            0.0,
            1.0,
            1,
            rows[0]["policy_tokens"] + 5,
        )
        assert queries.count(at, Filters(least={"f1": 0.5}, most={"f1": 0.9}))["rows"] == 1
        asked = queries.of_question(at, *_place(at, rows[0]["id"]))
        assert [row["iteration"] for row in asked] == [0, 1, None]
        [found] = curves.curves([tmp_path / "run"], at, None)
        assert found["segments"][0]["rows"][0]["watch_reward"] == 1.0  # only the index has it
        source = queries.source(at, last["id"].split("-")[0])
    assert source is not None
    shown = details.trajectory(details.read_row(Path(source["path"]), 0), None, None, Tokenizers([]), tmp_path)
    assert shown["metrics"]["f1"] == last["f1"] and not shown["scored"] and shown["reward"] is None
    made.close()


def test_a_validation_between_two_segments_is_that_of_the_first(tmp_path: Path) -> None:
    store = tmp_path / "run/.store"
    rows = [runs.rollout(0, 0, "Tarn")]
    for segment in ("s2-00", "s1-00"):
        runs.validation(store, segment, 2, rows)
        place = {"key": f"r{segment}", "rollouts": "02s1-00", "segment": segment, "iteration": 2}
        table = pa.Table.from_pylist([runs.reward(rows[0]) | {"total": float(segment[1])}], REWARDS)
        write_table(store / f"rewards/aa/r02{segment}/rewards.parquet", table, place)
    made = TrajectoryIndex(Folders([tmp_path / "run"]))
    made.refresh()
    with made.cursor() as at:
        found = [(row["policy"], row["reward"]) for row in queries.rows(at, Filters()) if row["reward"] is not None]
    assert found == [("s1-00", 1.0)]
    made.close()


def _place(at: duckdb.DuckDBPyConnection, link: str) -> tuple[int, int]:
    key, row = link.split("-")
    source = queries.source(at, key)
    assert source is not None
    return source["source"], int(row)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "no rollouts, evaluations or curves here"),
        ([".", "--price", "nan"], "must be an amount of money"),
        ([".", "--tokenizer", "no.json"], "no such file"),
    ],
)
def test_what_cannot_be_browsed_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert browse.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
