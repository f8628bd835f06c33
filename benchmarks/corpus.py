"""Memory and speed of `python -m stages.corpus` as the corpus grows.

    python benchmarks/corpus.py                     100,000 and 400,000 pages in KILT's layout
    python benchmarks/corpus.py --pages 1000 4000

Pages of benchmarks/wikipedia_like.py are written as KILT's JSON lines (and again as the user's own passages), then
turned into a corpus by the command itself, in its own process, whose peak resident memory comes from the operating
system.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORDS_A_PARAGRAPH = 60


def main() -> None:
    """Write pages, make corpora of them, print a table."""
    parser = argparse.ArgumentParser(description="Memory and speed of the corpus stage.")
    parser.add_argument("--pages", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--folder", type=Path, help="where the files go for the time being (default: the system's)")
    options = parser.parse_args()
    names = [("source", 8), ("pages", 10), ("input MB", 10), ("passages", 12), ("wall s", 8), ("CPU s", 8)]
    names += ("passages/CPU s", 16), ("peak MB", 9), ("parts", 7), ("MB", 7)
    print("".join(f"{name:>{width}}" for name, width in names))
    for number in options.pages:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_pages(folder, number)
            for source, file in (("kilt", "pages.json"), ("files", "passages.jsonl")):
                measure(folder, source, folder / file, number)


def write_pages(folder: Path, number: int) -> None:
    """Write ``number`` pages in KILT's layout, and their passages as JSON lines."""
    from wikipedia_like import WORDS_A_PASSAGE, pages

    with (folder / "pages.json").open("w") as kilt, (folder / "passages.jsonl").open("w") as own:
        for page in itertools.islice(pages(), number):
            write_page(kilt, page.number, page.title, page.words)
            for start in range(0, len(page.words), WORDS_A_PASSAGE):
                text = " ".join(page.words[start : start + WORDS_A_PASSAGE])
                own.write(json.dumps({"title": page.title, "text": text}) + "\n")


def write_page(file: IO[str], number: int, title: str, words: list[str]) -> None:
    """Return paragraphs; every fourth is a heading and every fifth a list item."""
    text = [title]
    for place, start in enumerate(range(0, len(words), WORDS_A_PARAGRAPH), 1):
        mark = "BULLET::::- " if place % 5 == 0 else ""
        if place % 4 == 0:
            text.append(f"Section::::{words[start].title()}.\n")
        text.append(mark + " ".join(words[start : start + WORDS_A_PARAGRAPH]) + "\n")
    page = {"wikipedia_id": str(number), "wikipedia_title": title, "text": text}
    file.write(json.dumps(page) + "\n")


def measure(folder: Path, source: str, file: Path, pages: int) -> None:
    """Run the command and print a row."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["corpus"] |= {"source": source, "files": [str(file)]}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    out = folder / f"corpus-{source}"
    began = time.perf_counter()
    command = [sys.executable, "-m", "stages.corpus", "--params", str(folder / "params.yaml"), "--corpus", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit("error: stages.corpus failed")
    wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    number = json.loads((out / "report.json").read_text(encoding="utf-8"))["passages"]
    parts = sorted(out.rglob("*.parquet"))
    parts = [path for path in parts if path.name != "facts.parquet"]
    size = sum(path.stat().st_size for path in parts) / 1e6
    print(
        f"{source:<8}{pages:>10,}{file.stat().st_size / 1e6:>10,.0f}{number:>12,}{wall:>8.1f}{cpu:>8.1f}"
        f"{number / cpu:>16,.0f}{usage.ru_maxrss / 1024:>9,.0f}{len(parts):>7}{size:>7,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
