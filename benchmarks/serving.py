"""Serving a policy: tokens a second at 1, 8 and 32 clients against the same engine's rollouts, and the first token.

    python benchmarks/serving.py                      the laptop profile's last policy, its index and its questions
    python benchmarks/serving.py --questions 64

Every row answers the same questions with the same seeds at ``rollout.temperature``: rollouts in batches of as many rows
as there are clients, then the server, whose clients are a process of their own and ask the next question at once. On a
busy machine the seconds vary; CPU seconds of the serving process (of all its threads, clients not included) do less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import httpx
import numpy as np
import pyarrow as pa

from r1_searcher import params
from r1_searcher.files.artefacts import read_table
from r1_searcher.retrieval import open_retriever
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Retriever

CLIENTS = (1, 8, 32)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", type=Path, default=Path("data/train/s2-00/policy"))
    parser.add_argument("--index", type=Path, default=Path("data/index"))
    parser.add_argument("--held-out", type=Path, default=Path("data/questions/held_out.parquet"))
    parser.add_argument("--questions", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--ask", help=argparse.SUPPRESS)  # the process of the clients
    parser.add_argument("--clients", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        asyncio.run(ask_all(options.ask, options.clients, json.load(sys.stdin)))
        return
    import torch

    from r1_searcher.rollout import load_engine

    torch.set_num_threads(options.threads)
    settings = params.load()
    table = read_table(options.held_out, schemas.QUESTIONS).slice(0, options.questions)
    engine = load_engine(options.policy, settings.rollout)
    retriever = open_retriever(settings, index=options.index)
    print(
        "| clients | rollouts: tokens/s | per CPU s | serve: tokens/s | per CPU s | ratio | by CPU | first token ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for clients in CLIENTS:
        part = table.slice(0, max(8, options.questions * clients // CLIENTS[-1]))
        seconds, cpu, tokens = rollouts(engine, retriever, settings.rollout, part, clients)
        rolled, by_cpu = tokens / seconds, tokens / cpu
        seconds, cpu, tokens, first = serve(engine, retriever, settings.rollout, part, clients)
        print(
            f"| {clients} | {rolled:,.0f} | {by_cpu:,.0f} | {tokens / seconds:,.0f} | {tokens / cpu:,.0f} "
            f"| {tokens / seconds / rolled:.2f} | {tokens / cpu / by_cpu:.2f} | {1000 * first:.0f} |",
            flush=True,
        )


def rollouts(
    engine: Engine, retriever: Retriever, rollout: params.Rollout, table: pa.Table, rows: int
) -> tuple[float, float, int]:
    """Return seconds, CPU seconds and policy tokens of rollouts in batches of ``rows``."""
    from r1_searcher.rollout import roll_out

    batched = rollout.model_copy(update={"max_batch": rows})
    roll_out(engine, retriever, table.slice(0, 4), batched, samples=1, seed=0)
    began, spent = time.perf_counter(), time.process_time()
    _, timings = roll_out(engine, retriever, table, batched, samples=1, seed=0)
    return time.perf_counter() - began, time.process_time() - spent, int(timings["policy_tokens"])


def serve(
    engine: Engine, retriever: Retriever, rollout: params.Rollout, table: pa.Table, clients: int
) -> tuple[float, float, int, float]:
    """Return seconds, CPU seconds and policy tokens of the server, and the median time to the first token, streamed."""
    from r1_searcher.serving.answerer import Answerer

    questions = table["question"].to_pylist()
    answerer = Answerer(engine, retriever, rollout)
    with served(answerer) as url:
        ask(url, 4, questions[:4])
        before, spent = answerer.lanes.tokens, time.process_time()
        seconds = ask(url, clients, questions)
        used = time.process_time() - spent
        return seconds, used, answerer.lanes.tokens - before, first_token(url, questions)


@contextmanager
def served(answerer: object) -> Iterator[str]:
    """Run the server in a thread."""
    from r1_searcher.retrieval.service import server as service
    from r1_searcher.serving.answerer import Answerer
    from r1_searcher.serving.server import ServeSettings, make_policy_app

    assert isinstance(answerer, Answerer)
    chosen = ServeSettings()
    made = service.make_server(make_policy_app(answerer, chosen), chosen.transport())
    with service.bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            made.should_exit = True
            thread.join()


def ask(url: str, clients: int, questions: Sequence[str]) -> float:
    """Have the questions asked by a process; returns its seconds without its start."""
    command = [sys.executable, __file__, "--ask", url, "--clients", str(clients)]
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=True)
    return float(done.stdout)


async def ask_all(url: str, clients: int, questions: list[str]) -> None:
    """Ask them, ``clients`` at a time; print the seconds."""
    waiting = list(enumerate(questions))
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits(max_connections=clients)) as client:

        async def one() -> None:
            while waiting:
                seed, question = waiting.pop(0)
                asked = {"prompt": question, "temperature": 1.0, "seed": seed, "r1_searcher": {"trace": False}}
                reply = await client.post("/v1/completions", json=asked)
                reply.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
    print(time.perf_counter() - began)


def first_token(url: str, questions: Sequence[str]) -> float:
    """Return the median seconds from a request to its first text, one request at a time."""
    found = []
    for question in questions[:8]:
        began = time.perf_counter()
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=_streamed(question), timeout=600) as reply:
            for line in reply.iter_lines():
                if "content" in line and '"role"' not in line:
                    found.append(time.perf_counter() - began)
                    break
    return float(np.median(found))


def _streamed(question: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}], "stream": True}


if __name__ == "__main__":
    main()
