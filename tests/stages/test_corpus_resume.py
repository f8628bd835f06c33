"""A corpus of several parts that is killed between two of them resumes there, to the same bytes."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1_searcher import params
from r1_searcher.corpus import resume
from r1_searcher.files import artefacts
from r1_searcher.files.store import Store
from stages.corpus.run import run

ROOT = Path(__file__).resolve().parents[2]


def kilt_lines(first: int, number: int) -> list[str]:
    """Return pages of 1 to 11 words in passages of 3; every fifth is a title alone, every seventh a duplicate."""
    lines = []
    for page in range(first, first + number):
        words = [] if page % 5 == 0 else [f"w{page}x{place}" for place in range(page % 12)]
        name = str(page - 3 if page % 7 == 0 else page)
        lines.append(json.dumps({"wikipedia_title": f"T{name}", "wikipedia_id": name, "text": [f"T{name}", *words]}))
    return lines


def files_lines(first: int, number: int) -> list[str]:
    """Return passages of which some are empty and some are duplicates."""
    texts = [
        "" if place % 5 == 0 else f"text {place - 3 if place % 7 == 0 else place}"
        for place in range(first, first + number)
    ]
    return [json.dumps({"title": "T", "text": text}) for text in texts]


def corpus_of(source: str, *files: str) -> params.Corpus:
    base = params.load(ROOT / "r1_searcher/params/defaults.yaml").corpus
    changes = {"source": source, "files": list(files), "rows_a_part": 10, "kilt": params.Kilt(words=3)}
    return base.model_copy(update=changes)


def killed_after(parts: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> None:
    with monkeypatch.context() as patch:
        keep, done = resume.Parts.keep, []

        def kept(self: resume.Parts, *given: Any) -> None:
            keep(self, *given)
            done.append(given)
            if len(done) == parts:
                raise KeyboardInterrupt

        patch.setattr(resume.Parts, "keep", kept)
        with pytest.raises(KeyboardInterrupt):
            work()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("kilt", kilt_lines), ("files", files_lines)):
        Path(f"{name}-a.jsonl").write_text("\n".join(["", *lines(1, 40)]) + "\n")
        with gzip.open(f"{name}-b.jsonl.gz", "wt") as file:
            file.write("\n".join(lines(35, 40)))
    return tmp_path


@pytest.mark.parametrize("source", ["kilt", "files"])
@pytest.mark.parametrize("kills", [[1], [2, 1, 1], [5]])
def test_killed_between_parts_it_ends_in_the_same_bytes(
    place: Path, source: str, kills: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpus_of(source, f"{source}-a.jsonl", f"{source}-b.jsonl.gz")
    whole = run(corpus, 0, Path("whole"))
    assert whole["passages"] > 50 and Store().entries() == []
    for parts in kills:
        killed_after(parts, monkeypatch, lambda: run(corpus, 0, Path("again")))
    assert len(Store().entries()) == sum(kills)
    assert run(corpus, 0, Path("again")) == whole
    assert f"{10 * sum(kills)} passages in {sum(kills)} parts were kept" in capsys.readouterr().err
    assert artefacts.sha256_tree("again") == artefacts.sha256_tree("whole")
    assert Store().entries() == []


def test_what_was_read_is_not_looked_at_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("kilt-a.jsonl")
    corpus, before = corpus_of("kilt", str(file)), file.stat()
    whole = run(corpus, 0, Path("whole"))
    killed_after(2, monkeypatch, lambda: run(corpus, 0, Path("again")))
    raw = file.read_bytes()
    file.write_bytes(b"\n" + b"?" * (raw.index(b"\n", 1) - 1) + raw[raw.index(b"\n", 1) :])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert run(corpus, 0, Path("again")) == whole


@pytest.mark.parametrize("change", ["file", "settings", "part"])
def test_after_a_change_it_begins_anew(place: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of("kilt", "kilt-a.jsonl")
    killed_after(2, monkeypatch, lambda: run(corpus, 0, Path("again")))
    if change == "file":
        os.utime("kilt-a.jsonl", ns=(1, 1))
    elif change == "settings":
        corpus = corpus.model_copy(update={"kilt": params.Kilt(words=2)})
    else:
        for entry in Store().entries():
            (entry.path / "part.parquet").write_bytes(b"broken")
    assert list(resume.Parts(corpus, [Path("kilt-a.jsonl")], Store()).kept()) == []
    run(corpus, 0, Path("again"))
    monkeypatch.setenv("R1SEARCHER_STORE", "another")
    run(corpus, 0, Path("whole"))
    assert artefacts.sha256_tree("again") == artefacts.sha256_tree("whole")


def test_other_sources_keep_nothing(place: Path) -> None:
    lines = [json.dumps({"context": [[f"T{number}", ["a b."]]]}) for number in range(30)]
    Path("contexts.jsonl").write_text("\n".join(lines))
    parts = resume.Parts(corpus_of("contexts", "contexts.jsonl"), [Path("contexts.jsonl")], Store())
    parts.keep(Path("contexts.jsonl"), {})
    assert Store().entries() == []
