"""`em_squad` and `f1_squad` against the official definitions, written anew here, row by row."""

from __future__ import annotations

import json
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_searcher.rewards.answer_metrics.squad import em_squad, f1_squad
from r1_searcher.rewards.metrics import em, f1
from r1_searcher.rewards.released import read_transcripts

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT.parent / "shared" / "data"))
FILES = ("2wiki_qwen", "hotpotqa_qwen")


def official_form(text: str) -> list[str]:
    """Lower case, no ASCII punctuation, no articles; the words."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(?:the|an|a)\b", " ", kept).split()


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """EM and F1 of HotpotQA's script for the gold answer that is best by each."""
    said, scores = official_form(prediction), []
    for gold in golds:
        wanted = official_form(gold)
        left, shared = list(wanted), 0
        for word in said:
            if word in left:
                left.remove(word)
                shared += 1
        closed = any(" ".join(words) in ("yes", "no", "noanswer") for words in (said, wanted))
        if shared == 0 or (closed and said != wanted):
            scores.append((float(said == wanted), 0.0))
        else:
            precision, recall = shared / len(said), shared / len(wanted)
            scores.append((float(said == wanted), 2 * precision * recall / (precision + recall)))
    return max(one for one, _ in scores), max(two for _, two in scores)


@pytest.mark.parametrize("name", FILES)
def test_every_released_row_as_the_official_definition(name: str) -> None:
    path = DATA / f"r1searcher/transcripts/{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no released transcripts in {DATA} (R1SEARCHER_DATA names the folder)")
    rows = read_transcripts(path)
    found = [(em_squad(row.prediction, row.golds), f1_squad(row.prediction, row.golds)) for row in rows]
    assert found == [official(row.prediction or "", list(row.golds)) for row in rows]
    assert len(rows) == 500


WORDS = st.lists(
    st.sampled_from(["the", "a", "Yes", "no", "noanswer", "U.S.", "US", "well-known", "well", "1,200", "-", "é"])
).map(" ".join)
TEXTS = st.one_of(st.text(max_size=20), WORDS)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_any_pair_as_the_official_definition(prediction: str, golds: list[str]) -> None:
    assert (em_squad(prediction, golds), f1_squad(prediction, golds)) == official(prediction, golds)


@pytest.mark.parametrize(
    ("prediction", "gold", "paper", "squad"),
    [  # EM, F1
        ("U.S.", "US", (0, 0), (1, 1)),
        ("well-known", "well known", (1, 1), (0, 0)),
        ("1,200 km", "1200 km", (0, 0.4), (1, 1)),
        ("vitamin-A", "vitamin", (1, 1), (0, 0)),
        ("no", "no one", (0, 0), (0, 0)),
        ("True", "yes", (1, 1), (0, 0)),
        ("The", "The", (1, 1), (1, 0)),  # normalises to nothing: the paper's are exact, the scripts' F1 is 0
        ("a", "The", (0, 0), (1, 0)),
        (None, "Paris", (0, 0), (0, 0)),
    ],
)
def test_which_metric_is_which(
    prediction: str | None, gold: str, paper: tuple[float, float], squad: tuple[float, float]
) -> None:
    assert (em(prediction, gold), f1(prediction, gold)) == pytest.approx(paper)
    assert (em_squad(prediction, [gold]), f1_squad(prediction, [gold])) == squad


def test_the_documented_table_is_what_the_files_give() -> None:
    rows = {name: DATA / f"r1searcher/transcripts/{name}.jsonl" for name in FILES}
    if not all(path.is_file() for path in rows.values()):
        pytest.skip(f"no released transcripts in {DATA} (R1SEARCHER_DATA names the folder)")
    page = (ROOT / "docs/benchmarks.md").read_text()
    for name, path in rows.items():
        read = read_transcripts(path)
        pairs = [(row.prediction, row.golds) for row in read]
        means = [100 * sum(metric(*pair) for pair in pairs) / len(pairs) for metric in (em, em_squad, f1, f1_squad)]
        apart = sum(em(*pair) != em_squad(*pair) for pair in pairs), sum(f1(*pair) != f1_squad(*pair) for pair in pairs)
        cells = " | ".join([f"`{name}`", str(len(read)), "0", *(f"{mean:.2f}" for mean in means), *map(str, apart)])
        assert f"| {cells} |" in page, cells


def test_a_gold_may_be_a_string() -> None:
    assert em_squad("the U.S.", "US") == f1_squad("the U.S.", "US") == 1
    assert json.dumps([em_squad("x", "x")]) == "[1.0]"
