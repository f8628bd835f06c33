"""How quickly `r1-searcher browse` answers over many trajectories, and with how much memory.

    python benchmarks/browsing.py [--trajectories 1000000] [--per-file 1000] [--folder FOLDER]

Writes rollouts, rewards and advantages in the real schemas (to a temporary folder, or to --folder, where they are used
again), starts the server as a process of its own, and asks it over HTTP as the page does.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.files.artefacts import write_table
from r1_searcher.types.schemas import ADVANTAGES, REWARDS, ROLLOUTS

SEGMENTS = 4
RARE = "zanzibar"  # in one trajectory of 100,000
REPEATS = 5
WORDS = "silent harbour castle river director film book city born married wrote painter novel garden crown mountain"
SYLLABLES = "ka ro mi ten dal vor sil une bra fo gra lin pos ter wex zan".split()


def trajectories(rng: random.Random, first: int, number: int) -> tuple[list[dict[str, Any]], ...]:
    """Return rows of rollouts, rewards and advantages: 8 samples per question, about 1,000 characters each."""
    words = [*WORDS.split(), *(a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES[:8])]
    rollouts: list[dict[str, Any]] = []
    rewards: list[dict[str, Any]] = []
    advantages: list[dict[str, Any]] = []
    for place in range(first, first + number):
        question, sample = f"train-{place // 8 % 20000:05d}", place % 8
        searches = rng.randrange(4)
        segments = []
        for _ in range(searches):
            thought, query = " ".join(rng.choices(words, k=12)), " ".join(rng.choices(words, k=3))
            segments.append({"source": "policy", "text": f"{thought}<|begin_of_query|> {query}<|end_of_query|>"})
            found = "".join(f"({n}) {' '.join(rng.choices(words, k=20))}\n" for n in (1, 2))
            block = f"\n\n<|begin_of_documents|>\n{found}<|end_of_documents|>\n\n"
            segments.append({"source": "document", "text": block})
        answer = rng.choice(words) if place % 100_000 != 7 else RARE
        segments.append({"source": "policy", "text": f"So.</think>\n\n<answer> {answer}</answer>"})
        text = "".join(one["text"] for one in segments)
        source = [0] * 20 + [1] * (20 * searches + 8) + [2] * (60 * searches)
        policy = source.count(1)
        turn = {"tool": "search", "query": "q", "passage_ids": ["w1", "w2"], "scores": [6.5, 3.1], "error": None}
        name = {"trajectory_id": f"{question}#{sample}", "question_id": question}
        rollouts.append(
            {
                **name,
                "sample": sample,
                "question": f"Who directed {' '.join(words[place // 8 % 2000 : place // 8 % 2000 + 3])}?",
                "answers": [rng.choice(words)],
                "prompt": "User: a question\nAssistant: <think>",
                "token_ids": [number % 1500 for number in range(len(source))],
                "token_source": source,
                "policy_logprobs": [-0.1] * policy,
                "turns": [turn] * searches,
                "segments": segments,
                "text": text,
                "answer": answer,
                "finish_reason": "answer" if rng.random() < 0.9 else "turn_limit",
                "seed": place,
            }
        )
        reward = rng.choice([0.0, 0.25, 0.5, 1.0, -2.0])
        rewards.append(
            {
                **name,
                **{"total": reward, "retrieval": 0.0, "format": min(reward, 0.0), "answer": max(reward, 0.0)},
                "violations": ["end_think_count"] if reward < 0 else [],
                "format_right": reward >= 0,
                **dict.fromkeys(("em", "f1", "cover_em"), float(reward == 1)),
                "num_searches": searches,
                "num_policy_tokens": policy,
                "num_tokens": len(source),
                "counted": True,
            }
        )
        gains = [rng.gauss(0, 1)] * policy
        advantages.append({**name, "advantages": gains, "returns": gains, "ref_logprobs": []})
    return rollouts, rewards, advantages


def write(folder: Path, number: int, per_file: int) -> None:
    """Write the files of a run of ``number`` trajectories, unless they are there."""
    files = number // per_file
    for place in range(files):
        segment, iteration = f"s{place * SEGMENTS // files + 1}-00", place % -(-files // SEGMENTS)
        rng = random.Random(place)
        paths = [folder / f"data/train/{segment}/{kind}/{iteration:04}.parquet" for kind in KINDS]
        if not paths[-1].exists():
            made = trajectories(rng, place * per_file, per_file)
            for path, rows, schema in zip(paths, made, KINDS.values(), strict=True):
                write_table(path, pa.Table.from_pylist(rows, schema), {})


KINDS = {"rollouts": ROLLOUTS, "rewards": REWARDS, "advantages": ADVANTAGES}


class Page:
    """A server of its own process, asked as the page asks it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.began = time.perf_counter()
        command = [sys.executable, "-m", "r1_searcher", "browse", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        found = re.fullmatch(r"(http://[^/]+)/\?token=(\S+)", line)
        assert found is not None, line
        self.base = found[1]
        self.open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        self.open(line).read()
        self.most = 0

    def ask(self, path: str, **asked: object) -> Any:
        with self.open(f"{self.base}/api/{path}?{urllib.parse.urlencode(asked)}") as reply:
            body = reply.read()
        self.look()
        return json.loads(body)

    def look(self) -> None:
        """Note the memory that is in use."""
        self.most = max(self.most, psutil.Process(self.process.pid).memory_info().rss)

    def spent(self) -> str:
        """Return the time since the start, and the processor time of the server."""
        used = psutil.Process(self.process.pid).cpu_times()
        return f"{time.perf_counter() - self.began:.2f} s, {used.user + used.system:.2f} CPU s"

    def timed(self, path: str, **asked: object) -> float:
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            self.ask(path, **asked)
            times.append(time.perf_counter() - began)
        return median(times)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=1_000_000)
    parser.add_argument("--per-file", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        began = time.perf_counter()
        write(folder, options.trajectories, options.per_file)
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        print(f"{options.trajectories:,} trajectories, {size / 1e9:.2f} GB, in {time.perf_counter() - began:.0f} s")
        measure(folder)


def measure(folder: Path) -> None:
    page = Page(folder)
    try:
        while not page.ask("rows", limit=50)["rows"]:
            time.sleep(0.02)
        print(f"first rows after the command's start: {page.spent()}")
        while page.ask("state")["indexing"]["busy"]:
            time.sleep(0.5)
        print(f"all indexed: {page.spent()}, {page.most / 1e6:.0f} MB", flush=True)
        first = page.ask("rows", limit=1)["rows"][0]["id"].replace("-", "/")
        for what, path, asked in ASKED:
            print(f"{what}: {1000 * page.timed(path.format(id=first), **asked):.0f} ms", flush=True)
        print(f"memory at most: {page.most / 1e6:.0f} MB")
    finally:
        page.close()


ASKED: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("first page", "rows", {"limit": 50}),
    ("state", "state", {}),
    ("page 10,000", "rows", {"limit": 50, "offset": 500_000}),
    ("sorted by advantage", "rows", {"limit": 50, "sort": "advantage", "order": "desc"}),
    (
        "filter: segment, searches, finish",
        "rows",
        {"policy": "s2-00", "min_searches": 3, "finish_reason": "turn_limit"},
    ),
    ("filter: a rule, sorted", "rows", {"rule": "end_think_count", "sort": "f1", "order": "desc"}),
    ("its count", "count", {"rule": "end_think_count"}),
    ("its facets", "facets", {"rule": "end_think_count"}),
    ("full text, a frequent word", "rows", {"text": "mountain"}),
    ("full text, a rare word", "rows", {"text": RARE}),
    ("full text, its count", "count", {"text": RARE}),
    ("full text, no match", "rows", {"text": "not anywhere"}),
    ("full text, facets", "facets", {"text": "mountain"}),
    ("a trajectory", "trajectory/{id}", {}),
    ("a question in all iterations", "question/{id}", {}),
)

if __name__ == "__main__":
    main()
