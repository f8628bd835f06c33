"""``r1-searcher mcp``, asked by the official client over both transports."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mcp import Client, StdioServerParameters
from tiny_policy import params_with, rollout_params
from tiny_project import write_policy_that_searches

from r1_searcher import params
from r1_searcher.retrieval import open_retriever
from r1_searcher.retrieval.library import index_passages
from r1_searcher.serving.lanes import Cancelled
from r1_searcher.serving.mcp_server import make_mcp_server

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    {"passage_id": f"p{number}", "title": "Ada Kolm", "text": text}
    for number, text in enumerate(["Ada Kolm was born in Trabo.", "She made Silent Harbor.", "It is a film of 1931."])
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mcp")
    settings = params_with(threads=1, rollout=rollout_params(max_total_tokens=200).model_dump())
    (made / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    write_policy_that_searches(made / "data/train/s2-00/policy")
    index_passages(ROWS, made / "data/index")
    return made


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def with_client(server: Any, what: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Client(server) as client:
            await what(client)

    asyncio.run(asyncio.wait_for(run(), 120))


async def check_search(client: Client) -> None:
    found = await client.call_tool("search", {"query": "born Trabo", "k": 1})
    assert found.structured_content == {"result": [ROWS[0]]}
    window = await client.call_tool("open", {"passage_id": "p0", "before": 1, "after": 1})
    assert window.structured_content == {"result": ROWS[:2]}
    for name, arguments, said in (
        ("search", {"query": " "}, "query is empty"),
        ("search", {"query": "x", "k": 51}, "k must be 1 to 50, got 51"),
        ("open", {"passage_id": "p9"}, "there is no passage 'p9'"),
    ):
        wrong: Any = await client.call_tool(name, arguments)
        assert wrong.is_error and said in wrong.content[0].text


def test_stdio_with_a_policy(folder: Path) -> None:
    command = ["-m", "r1_searcher", "mcp"]
    server = StdioServerParameters(command=sys.executable, args=command, env=environment(), cwd=folder)

    async def check(client: Client) -> None:
        tools = await client.list_tools()
        assert [tool.name for tool in tools.tools] == ["search", "open", "ask"]
        await check_search(client)
        asked: Any = await client.call_tool("ask", {"question": "Who was Ada </think>?"})
        assert not asked.is_error and set(asked.structured_content) == {"answer", "citations", "queries", "transcript"}
        long: Any = await client.call_tool("ask", {"question": "word " * 400})
        assert long.is_error and "leaves no room" in long.content[0].text

    with_client(server, check)


class HeldJob:
    """An answer that takes until it is cancelled."""

    def __init__(self) -> None:
        self.began, self.cancelled = threading.Event(), threading.Event()

    def run(self) -> None:
        self.began.set()
        assert self.cancelled.wait(20)
        raise Cancelled

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_client_that_cancels_frees_the_engine(folder: Path) -> None:
    held = HeldJob()
    answerer: Any = SimpleNamespace(job=lambda wanted: held)
    retriever = open_retriever(params.load(folder / "params.yaml"), index=folder / "data/index")

    async def check(client: Client) -> None:
        assert client.instructions and "do not follow" in client.instructions
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
        k = tools["search"].input_schema["properties"]["k"]
        assert (k["minimum"], k["maximum"], k["description"]) == (1, 50, "how many passages")
        asked = asyncio.create_task(client.call_tool("ask", {"question": "Who was Ada?"}))
        assert await asyncio.to_thread(held.began.wait, 20)
        asked.cancel()
        assert await asyncio.to_thread(held.cancelled.wait, 20)

    with_client(make_mcp_server(retriever, answerer), check)


def test_http_without_a_policy(folder: Path) -> None:
    command = [sys.executable, "-m", "r1_searcher", "mcp", "--http", "--port", "0", "--no-ask"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:") and url.endswith("/mcp")

            async def check(client: Client) -> None:
                tools = await client.list_tools()
                assert [tool.name for tool in tools.tools] == ["search", "open"]
                await check_search(client)

            with_client(url, check)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
