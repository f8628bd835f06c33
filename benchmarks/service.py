"""The retrieval service under load from a second process, beside the same retriever in process.

    python benchmarks/service.py                         over the index of the laptop's world, made on the way
    python benchmarks/service.py --index data/index      over an existing index
    python benchmarks/service.py --index data/index --policy data/train/s2-00/policy --questions held_out.parquet

Parts: throughput and latency by concurrency and queries per request; overload, with clients that retry at once; a kill
and restart under load, every passage compared with the retriever in process; and, with a policy, the same during its
rollouts, which must equal those in process. Server and clients share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.params import Service
from r1_searcher.retrieval import open_index
from r1_searcher.retrieval.remote.client import ServiceRetriever
from r1_searcher.transcripts.grammar import Mode
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError

ROOT = Path(__file__).resolve().parent.parent
K = 3
LOADS = [(1, 1), (8, 1), (32, 1), (1, 16), (8, 16), (1, 64), (8, 64)]  # clients, queries per request


def main() -> None:
    """Measure, and print a table and two lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, help="an index folder (default: the laptop's world, made anew)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--policy", type=Path, help="a policy's folder: its rollouts alone are measured")
    parser.add_argument("--questions", type=Path, help="questions.parquet for it")
    parser.add_argument("--mode", default="search", help="of its rollouts; ircot searches whatever the policy")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        index = options.index or make_world(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        retriever = open_index(index)
        asked = queries(index)
        print(f"{retriever.meta['num_passages']:,} passages, k = {K}, queries such as {asked[0]!r}\n")
        if options.policy:
            rollouts(retriever, index, options.policy, options.questions, options.mode)
            return
        throughput(retriever, index, asked, options.seconds)
        overload(index, asked, options.seconds)
        restart(retriever, index, asked)


def make_world(folder: Path) -> Path:
    """Make the laptop's corpus and its index."""
    for arguments in (
        ["stages.corpus", "--corpus", "corpus"],
        ["stages.index", "--corpus", "corpus", "--index", "index"],
    ):
        module, *more = arguments
        command = [sys.executable, "-m", module, "--params", str(ROOT / "params.yaml"), *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return folder / "index"


def queries(index: Path, number: int = 4000) -> list[str]:
    """Return a random passage's title and two words of its text, drawn with seed 0."""
    passages = pa.ipc.open_file(pa.memory_map(str(index / "passages.arrow"))).read_all()
    draw = random.Random(0)
    found = []
    for row in (draw.randrange(passages.num_rows) for _ in range(number)):
        words = re.findall(r"\w+", passages["text"][row].as_py()) or ["nothing"]
        found.append(f"{passages['title'][row].as_py()} {draw.choice(words)} {draw.choice(words)}")
    return found


class Server:
    """``python -m stages.index serve`` in its own process, on the same port at every start."""

    def __init__(self, index: Path, *more: str) -> None:
        self.index, self.more, self.port = index, more, 0

    def start(self) -> float:
        """Start the server; returns the seconds until it answers."""
        began = time.monotonic()
        command = [sys.executable, "-m", "stages.index", "--params", str(ROOT / "params.yaml"), "serve"]
        command += ["--kind", "bm25", "--index", str(self.index.resolve()), "--port", str(self.port), *self.more]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int([self.process.stdout.readline() for _ in range(3)][2].rsplit(":", 1)[1])
        httpx.get(f"{self.url}/health", timeout=60)
        return time.monotonic() - began

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def megabytes(self) -> float:
        """Return its resident memory."""
        found = re.search(r"^process_resident_memory_bytes (\S+)", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found is not None
        return float(found[1]) / 1e6

    def kill(self) -> None:
        """Kill the server at once."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def served(index: Path, *more: str) -> Iterator[Server]:
    """Terminate the server."""
    server = Server(index, *more)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def remote(url: str) -> ServiceRetriever:
    """Return a client with its own connections."""
    return ServiceRetriever(Service(url=url, fingerprint="", timeout=30.0, wait=60.0))


def drawn(asked: Sequence[str], client: int, call: int, size: int) -> list[str]:
    """Return the queries of a call."""
    start = (client * 997 + call * size) % (len(asked) - size)
    return list(asked[start : start + size])


def load(clients: int, seconds: float, call: Callable[[int, int], object]) -> tuple[list[float], float]:
    """Call ``call(client, number)`` repeatedly from ``clients`` threads; returns each call's seconds, and the total."""
    end = time.perf_counter() + seconds

    def work(client: int) -> list[float]:
        taken: list[float] = []
        while (began := time.perf_counter()) < end:
            call(client, len(taken))
            taken.append(time.perf_counter() - began)
        return taken

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = [one for part in pool.map(work, range(clients)) for one in part]
    return taken, time.perf_counter() - began


def row(name: str, clients: int, size: int, taken: Sequence[float], whole: float) -> None:
    """Print one line of the table."""
    low, high = 1e3 * np.percentile(taken, [50, 99])
    print(f"| {name} | {clients} | {size} | {len(taken) * size / whole:,.0f} | {low:.1f} | {high:.1f} |", flush=True)


def throughput(retriever: Retriever, index: Path, asked: Sequence[str], seconds: float) -> None:
    """Print the table."""
    print("| | clients | queries a request | queries/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    retriever.search(asked[:64], K)
    for size in (1, 16, 64):
        row("in process", 1, size, *load(1, seconds, lambda _, call: retriever.search(drawn(asked, 0, call, size), K)))  # noqa: B023
    with served(index) as server:
        for clients, size in LOADS:
            remotes = [remote(server.url) for _ in range(clients)]
            for one in remotes:
                one.search(asked[:1], K)

            def call(client: int, number: int, remotes: list[ServiceRetriever] = remotes, size: int = size) -> object:
                return remotes[client].search(drawn(asked, client, number, size), K)

            row("service", clients, size, *load(clients, seconds, call))
            for one in remotes:
                one.close()
        print(f"\nserver: {server.megabytes():.0f} MB resident after that")


def overload(index: Path, asked: Sequence[str], seconds: float, clients: int = 64, size: int = 16) -> None:
    """Overload a queue that holds a tenth of the requests, with clients that retry at once whatever the answer."""
    with served(index, "--max-waiting", "100", "--max-batch", "64") as server, contextlib.ExitStack() as stack:
        https = [stack.enter_context(httpx.Client(timeout=30, trust_env=False)) for _ in range(clients)]
        statuses: Counter[str] = Counter()
        good: list[float] = []
        lock = threading.Lock()

        def call(client: int, number: int) -> None:
            began = time.perf_counter()
            try:
                body = {"queries": drawn(asked, client, number, size), "k": K}
                answer = https[client].post(f"{server.url}/search", json=body)
                status = str(answer.status_code)
                if status == "503" and int(answer.headers["Retry-After"]) < 1:
                    status = "503 without Retry-After"
            except httpx.HTTPError as error:
                status = type(error).__name__
            with lock:
                statuses[status] += 1
                if status == "200":
                    good.append(time.perf_counter() - began)

        before = server.megabytes()
        taken, whole = load(clients, seconds, call)
        middle = server.megabytes()
        more, again = load(clients, seconds, call)
        taken, whole = taken + more, whole + again
        low, high = 1e3 * np.percentile(good, [50, 99])
        print(
            f"overload: {clients} clients of {size} queries without a pause: {dict(statuses)}; those with 200: "
            f"p50 {low:.0f} ms, p99 {high:.0f} ms; slowest of all {1e3 * max(taken):.0f} ms; "
            f"{len(taken) / whole:.0f} requests/s; "
            f"memory {before:.0f}, then {middle:.0f}, then {server.megabytes():.0f} MB"
        )


def away_for_a_second(server: Server, after: float) -> float:
    """Kill the server in ``after`` seconds and restart it; returns its downtime."""
    time.sleep(after)
    server.kill()
    began = time.monotonic()
    time.sleep(1)
    server.start()
    return time.monotonic() - began


def restart(retriever: Retriever, index: Path, asked: Sequence[str], clients: int = 8, size: int = 16) -> None:
    """Kill the server after a second and restart it; every search must equal that in process."""
    with served(index) as server:
        remotes = [remote(server.url) for _ in range(clients)]
        outcomes: Counter[str] = Counter()
        lock = threading.Lock()
        away = 0.0

        def call(client: int, number: int) -> None:
            part = drawn(asked, client, number, size)
            try:
                found: list[list[Passage]] | None = remotes[client].search(part, K)
            except RetrieverError:
                found = None
            outcome = "lost" if found is None else "right" if found == retriever.search(part, K) else "wrong"
            with lock:
                outcomes[outcome] += size

        def kill() -> None:
            nonlocal away
            away = away_for_a_second(server, after=1)

        killer = threading.Thread(target=kill)
        killer.start()
        taken, _ = load(clients, 12.0, call)
        killer.join()
        print(f"restart: away for {away:.1f} s; searches {dict(outcomes)}; the slowest call took {max(taken):.1f} s")


def rollouts(retriever: Retriever, index: Path, policy: Path, questions: Path, mode: Mode) -> None:
    """Roll out a policy with the retriever in process, then with the server, which is killed halfway."""
    from r1_searcher import params
    from r1_searcher.files.artefacts import read_table
    from r1_searcher.rollout import load_engine, roll_out
    from r1_searcher.types import schemas

    settings = params.load(ROOT / "params.yaml").rollout
    asked, engine = read_table(questions, schemas.QUESTIONS), load_engine(policy, settings)

    def made(finds: Retriever) -> tuple[pa.Table, float]:
        table, timings = roll_out(engine, finds, asked, settings, samples=2, seed=0, mode=mode)
        return table, timings["seconds"]

    made(retriever)  # warm-up
    here, seconds = made(retriever)
    with served(index) as server, ThreadPoolExecutor(1) as pool:
        away = pool.submit(away_for_a_second, server, seconds / 3)
        there, longer = made(remote(server.url))
        assert away.done(), "the rollouts were over before the server was back"
    ends = Counter(there["finish_reason"].to_pylist())
    searches = sum(map(len, there["turns"].to_pylist()))
    print(
        f"rollouts: {len(here)} trajectories with {searches} searches, {seconds:.1f} s in process, {longer:.1f} s with "
        f"a server that was away for {away.result():.1f} s after {seconds / 3:.1f} s; ends {dict(ends)}; "
        f"{'the same tables' if here.equals(there) else 'OTHER TABLES'}"
    )


if __name__ == "__main__":
    main()
