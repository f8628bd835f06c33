"""The report on a small synthetic run: whole, self-contained, safe against hostile text, the same twice."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_runs import SHOWN, make_run

from r1_searcher.files.artefacts import write_json, write_table
from r1_searcher.types.schemas import SEGMENT, TOOLS_FIELD
from stages.report.__main__ import main

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Return every tag with its attributes, the text, and whether tags close in order."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    make_run(root)
    return root


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the test's own run in the present folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_page(root: Path) -> tuple[str, Page]:
    html = (root / "report/report.html").read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    return html, page


def test_metrics_of_the_users_choice_stand_beside_the_papers(run: Path) -> None:
    assert main([]) == 0
    headings = re.findall(r"<abbr[^>]*>([^<]+)</abbr>", read_page(run)[0])
    first = headings.index("F1")
    assert headings[first + 1 : first + 5] == ["EM (SQuAD)", "F1 (SQuAD)", "of_my_own", "Format"]


def test_page_loads_nothing_and_runs_nothing(run: Path) -> None:
    assert main([]) == 0
    html, page = read_page(run)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action", "style")
            if name == "href":
                assert (value or "").startswith("#")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_hostile_text_is_shown_as_text(run: Path) -> None:
    main([])
    html, page = read_page(run)
    assert "<script" not in html
    assert not set("\x1b\u202e") & set(html)
    assert page.text.count(SHOWN) >= 6  # passages of evaluation and training, and a question
    assert "A run <b>of tests</b>" in page.text


def test_links_inside_the_page_lead_somewhere(run: Path) -> None:
    main([])
    _, page = read_page(run)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {(a["href"] or "")[1:] for tag, a in page.tags if tag == "a"} <= ids


def test_every_chart_is_named_and_the_figures_of_the_summary_are_there(run: Path) -> None:
    main([])
    html, page = read_page(run)
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    for title in ("Reward", "Response length", "Searches", "Format rate", "F1", "Cover-EM"):
        assert any(label.startswith(title) for label in labels)
    for text in ("0.900", "0.860 to 0.940", "final, plain RAG", "held_out_kind"):
        assert text in page.text
    assert "copying an option at random is right in 0.500" in page.text
    table = html[html.index('aria-label="Evaluation on comparison"') :]
    assert "Cover-EM" not in table[: table.index("</table>")]


def test_trajectories_carry_provenance_rewards_rules_and_advantages(run: Path) -> None:
    main([])
    html, page = read_page(run)
    assert '<span class="query"> director of Silent Harbour </span>' in html
    assert '<span class="answer"> Tarn </span>' in html
    assert "begin_answer_count, end_answer_count" in page.text
    assert "policy, advantage 0.900" in page.text and "policy, advantage -0.400" in page.text
    assert "18 turned from wrong" in page.text
    assert "stage 2, segment s2-01, iteration 30 of 30" in page.text
    assert len(re.findall(r'<article class="question">', html)) == 6


def test_every_file_that_was_read_is_named(run: Path) -> None:
    main([])
    _, page = read_page(run)
    for name in ("metrics/evaluation.json", "plots/train/s2-01.csv", "data/train/s2-01/advantages/0029.parquet"):
        assert name in page.text


def test_same_inputs_same_bytes(run: Path) -> None:
    main([])
    first = (run / "report/report.html").read_bytes()
    main(["--out", "again.html"])
    assert (run / "again.html").read_bytes() == first


@pytest.mark.parametrize(
    "gone",
    [
        "metrics/evaluation.json",
        "plots/train/s2-00.csv",
        "data/evaluation/stage1/held_out.parquet",
        "metrics/base_model.json",
        "data/train/s2-01/rewards/0029.parquet",
    ],
)
def test_a_missing_file_is_one_line_that_names_it(run: Path, gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / gone).unlink()
    assert main([]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and gone in message and "dvc repro" in message
    assert not (run / "report").exists()


def test_no_rollouts_at_all(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (run / "data/train/s1-00/rollouts").iterdir():
        file.unlink()
    assert main([]) == 2
    assert "data/train/s1-00/rollouts: no rollouts here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [("iteration,stage,reward\n0,stage1,.5\n", "'response_length' is missing"), ("", "'iteration' is missing")],
)
def test_a_curve_file_without_its_columns(run: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "plots/train/s1-00.csv").write_text(text)
    assert main([]) == 2
    assert said in capsys.readouterr().err


def test_a_cell_that_is_no_figure_is_named_by_its_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "plots/train/s1-00.csv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace("s1-00,", "s1-00,oops", 1)
    path.write_text("\n".join(lines))
    assert main([]) == 2
    assert "plots/train/s1-00.csv, line 4" in capsys.readouterr().err


def test_judged_accuracy_and_lost_questions_where_there_are_any(run: Path) -> None:
    main([])
    assert "ACC_L" not in read_page(run)[0] and "questions lost" not in read_page(run)[0]
    path = run / "metrics/evaluation.json"
    summary = json.loads(path.read_text())
    counts = {"acc_l_n": 17, "acc_l_unparsable": 2, "acc_l_missing": 1, "acc_l_judge": "judge <1>, prompt abc"}
    lost = {"lost": 2, "em_bounds": [0.4, 0.5]}
    summary["stage2"]["held_out"] |= {"acc_l": 0.765, "acc_l_ci": [0.6, 0.9], **counts, **lost}
    write_json(path, summary)
    main([])
    html, page = read_page(run)
    text = " ".join(page.text.split())
    assert "0.765" in text and "judge &lt;1&gt;" in html
    assert "stage 2: 2 of 20 questions lost, counted as wrong; if all were right: em 0.400 to 0.500" in text
    assert "ACC_L, by judge <1>, prompt abc: stage 2 17 verdicts, 2 unparsable, 1 missing." in text


TOOL = {"name": "open", "begin": "<|begin_of_open|>", "end": "<|end_of_open|>"}


def with_tool(root: Path) -> None:
    """Make the second search of each trajectory a call of another tool, and count it in every file."""
    for file in [*root.glob("data/train/*/rollouts/*.parquet"), *root.glob("data/evaluation/*/*.parquet")]:
        rows = pq.read_table(file)
        segments = rows["segments"].to_pylist()
        for parts in segments:
            for part in parts[2:]:
                part["text"] = part["text"].replace("_of_query|>", "_of_open|>")
        rows = rows.set_column(rows.column_names.index("segments"), "segments", pa.array(segments, pa.list_(SEGMENT)))
        rows = rows.append_column(TOOLS_FIELD, pa.array([[TOOL]] * rows.num_rows, TOOLS_FIELD.type))
        if "evaluation" in file.parts:
            rows = rows.append_column("calls_open", pa.array([1] * rows.num_rows, pa.int32()))
        write_table(file, rows)
    for file in root.glob("data/train/*/rewards/*.parquet"):
        rows = pq.read_table(file)
        for name, number in (("calls_open", 1), ("failed_search", 0), ("failed_open", 0)):
            rows = rows.append_column(name, pa.array([number] * rows.num_rows, pa.int32()))
        write_table(file, rows)
    for file in root.glob("plots/train/*.csv"):
        head, *lines = file.read_text().splitlines()
        file.write_text("\n".join([f"{head},calls_open,watch_calls_open", *(f"{line},0.25," for line in lines)]))
    summary = json.loads((root / "metrics/evaluation.json").read_text())
    for policy in ("base", "stage1", "stage2"):  # the baselines have search alone
        summary[policy]["held_out"] |= {"calls_open": 0.123, "calls_open_ci": [0.1, 0.2]}
    write_json(root / "metrics/evaluation.json", summary)


def test_a_further_tool_is_counted_and_marked_and_no_other_run_shows_one(run: Path) -> None:
    assert main([]) == 0
    html, _ = read_page(run)
    for text in ("begin_of_open", "calls of", "Calls of", "open results", "what a tool is asked"):
        assert text not in html
    with_tool(run)
    assert main([]) == 0
    html, page = read_page(run)
    assert "Calls of open per trajectory" in page.text
    assert re.search(r'<abbr title="calls of this tool per question">open</abbr>', html) and "0.123" in page.text
    assert html.count("<dt>calls of open</dt><dd>1</dd>") > 6
    assert '<span class="tag">&lt;|begin_of_open|&gt;</span><span class="query"> Ora Vell </span>' in html
    assert 'class="part document "><span class="who">open results</span>' in html
    assert (
        "inserted by the system: search results, open results" in page.text and "or what a tool is asked" in page.text
    )
