"""The code gate: the committed policy on its first questions, and a tiny one from its making to every verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from shipped_profiles import shipped_profile
from tiny_policy import questions_table
from tiny_project import make_project

from r1_searcher import params as contract
from r1_searcher.errors import Refused
from r1_searcher.files import sums
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, write_json, write_table
from r1_searcher.params import Params
from r1_searcher.regression import page
from r1_searcher.regression.code import _PASSAGES, CODE_BASELINES, RENEW, check_code, make_code_baseline
from stages.regression.__main__ import main
from stages.regression.present import CODE_PROFILE

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = "answers/held_out.parquet"


@pytest.fixture(autouse=True)
def threads() -> Any:
    """An evaluation sets torch's threads for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_committed_baseline_is_small_and_can_be_compared_with_what_the_present_code_writes() -> None:
    """Cards, including the index, and the first answers. If this fails after an intended change: make baselines."""
    files = [file for file in (ROOT / CODE_BASELINES).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files if file.parent.name == "policy") < 4e6
    assert sum(file.stat().st_size for file in files) < 6e6
    found = check_code(ROOT / CODE_BASELINES, shipped_profile(CODE_PROFILE), limit=2)
    assert found.asked == 6
    assert found.verdict in (("same",) if found.same_kind else ("same", "not worse")), page.code_lines(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """The baseline of a tiny policy that searches, and its parameters."""
    root = make_project(
        tmp_path_factory.mktemp("tiny") / "workspace", {}, evaluate__policies={"stage2": "data/base_model"}
    )
    titles = read_table(root / "data/corpus/passages.parquet")["title"].to_pylist()[:12]
    write_table(root / "data/questions/held_out.parquet", questions_table([f"Who is {title}?" for title in titles]))
    params = contract.load(root / "params.yaml")
    out = root.parent / "baseline"
    assert make_code_baseline(root, out, params) == sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    return out, params


@pytest.fixture
def baseline(made: tuple[Path, Params], tmp_path: Path) -> Path:
    """A copy to change on purpose: without its checksums."""
    place = Path(shutil.copytree(made[0], tmp_path / "baseline"))
    (place / sums.SUMS_FILE).unlink()
    return place


def test_the_present_code_answers_as_it_did(made: tuple[Path, Params]) -> None:
    found = check_code(*made)
    assert (found.verdict, found.asked, list(found.changed), found.new_searches) == ("same", 12, [], 0)
    assert found.same_kind and page.exit_status([found.verdict]) == 0
    assert page.code_headline(found).startswith("code gate: same: 12 of 12 transcripts are unchanged")


def answers(baseline: Path, change: Callable[[dict[str, Any]], Any], **card: Any) -> None:
    """Corrupt the committed answers row by row, and their card."""
    table, metadata = read_table(baseline / ANSWERS), read_metadata(baseline / ANSWERS)
    rows = table.to_pylist()
    for row in rows:
        change(row)
    metadata["card"] |= card
    write_table(baseline / ANSWERS, pa.Table.from_pylist(rows, table.schema.remove_metadata()), metadata)


def kind(baseline: Path, **other: str) -> None:
    facts = read_json(baseline / "manifest.json")
    facts["processor"] |= other
    write_json(baseline / "manifest.json", facts)


def test_another_token_is_changed_here_and_no_matter_on_another_processor(
    baseline: Path, made: tuple[Path, Params]
) -> None:
    answers(baseline, lambda row: row.update(num_tokens=row["num_tokens"] + (row["question_id"] == "q3")))
    found = check_code(baseline, made[1])
    assert (found.verdict, len(found.changed)) == ("changed", 1) and page.exit_status([found.verdict]) == 5
    assert found.changed[0].was.startswith("num_tokens: ")
    said = page.code_markdown(found)
    assert said.startswith("## Code gate: ❌ changed\n") and "### Paired verdict" in said
    kind(baseline, instructions="another")
    other = check_code(baseline, made[1])
    assert other.verdict == "not worse" and page.exit_status([other.verdict]) == 0
    assert "on another kind of processor" in page.code_headline(other)


def test_worse_answers_are_worse_on_any_processor(baseline: Path, made: tuple[Path, Params]) -> None:
    right = dict.fromkeys(("em", "f1", "cover_em", "cover_em_contiguous"), 1.0)
    answers(baseline, lambda row: row.update(right | {"prediction": "right"}), policy_sha256="another")
    kind(baseline, instructions="another")
    found = check_code(baseline, made[1])
    assert found.verdict == "worse" and page.exit_status([found.verdict]) == 1
    assert "was: " in page.code_lines(found)


def test_other_weights_answer_otherwise(baseline: Path, made: tuple[Path, Params]) -> None:
    file = baseline / "policy/model.safetensors"
    save_file({name: -values for name, values in load_file(file).items()}, file, {"format": "pt"})
    found = check_code(baseline, made[1])
    assert found.verdict in ("changed", "worse") and len(found.changed) > 6


def test_a_search_that_is_not_on_record_is_made(tmp_path: Path) -> None:
    shutil.copytree(ROOT / CODE_BASELINES, tmp_path / "code")
    shutil.rmtree(tmp_path / "code/searches")
    found = check_code(tmp_path / "code", shipped_profile(CODE_PROFILE), limit=2)
    assert found.new_searches > 3 and found.verdict in (("same",) if found.same_kind else ("same", "not worse"))
    assert "searches were not recorded" in page.code_lines(found)


def of_another_index(baseline: Path) -> None:
    answers(baseline, lambda row: row, index="0" * 64)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (of_another_index, "held_out was measured under another protocol than in .*: index: 0000"),
        (lambda place: answers(place, lambda row: row, k=99), "k: 99, "),
        (lambda place: (place / ANSWERS).write_bytes(b"PAR1"), "cannot be used: .*held_out.parquet"),
        (lambda place: (place / "manifest.json").write_text("{"), "cannot be used: .*not JSON"),
        (lambda place: (place / "manifest.json").unlink(), "there is no baseline for the code gate"),
        (shutil.rmtree, "there is no baseline for the code gate"),
        (lambda place: shutil.rmtree(place / "policy"), "cannot be used: .*no such policy folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_command_that_renews(
    spoil: Callable[[Path], Any], why: str, baseline: Path, made: tuple[Path, Params]
) -> None:
    spoil(baseline)
    with pytest.raises(Refused, match=why) as refused:
        check_code(baseline, made[1])
    assert str(refused.value).endswith(f"({RENEW})") and "\n" not in str(refused.value)


def test_one_flipped_bit_is_refused(made: tuple[Path, Params], tmp_path: Path) -> None:
    place = Path(shutil.copytree(made[0], tmp_path / "baseline"))
    file = place / _PASSAGES
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(Refused, match=_PASSAGES):
        check_code(place, made[1])


def test_the_command_says_refused_by_its_status(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "checkout"
    shutil.copytree(ROOT / "profiles", place / "profiles")
    shutil.copy(contract.SHIPPED, place / "params.yaml")
    monkeypatch.chdir(place)
    verdict = baseline.parent / "verdict.md"
    options = ["--baseline", str(baseline), "--limit", "2", "--markdown", str(verdict)]
    assert main(["code", *options]) == 4, "made with other parameters than laptop's"
    assert capsys.readouterr().err.startswith("refused: ")
    assert verdict.read_text().startswith("## Code gate: ⛔ refused\n")
