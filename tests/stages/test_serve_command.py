"""``r1-searcher serve`` as a process: the examples of docs/serve.md, and its end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tiny_policy import params_with, rollout_params
from tiny_project import write_policy_that_searches

from r1_searcher.retrieval.library import index_passages

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with a token, and its address."""
    folder = tmp_path_factory.mktemp("serve")
    settings = params_with(threads=1, rollout=rollout_params(max_total_tokens=200).model_dump())
    (folder / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    (folder / "token.txt").write_text(TOKEN, encoding="utf-8")
    write_policy_that_searches(folder / "data/train/s2-00/policy")
    index_passages([{"title": "Ada Kolm", "text": "Ada Kolm was born in Trabo."}], folder / "data/index")
    command = [sys.executable, "-m", "r1_searcher", "serve", "--port", "0", "--token-file", "token.txt"]
    made = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None and made.stderr is not None
    line = made.stdout.readline()
    assert line.startswith("chat: http://127.0.0.1:"), made.stderr.read()
    try:
        yield made, line.split()[1].removesuffix("/")
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.kill()
        made.wait()
        made.stdout.close()
        made.stderr.close()


def test_the_examples_of_the_page(process: tuple[subprocess.Popen[str], str]) -> None:
    _, url = process
    [snippet] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    snippet = snippet.replace("http://127.0.0.1:8500", url).replace('"none"', repr(TOKEN))
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(snippet, "docs/serve.md", "exec"), {})
    assert told.getvalue().splitlines()[-1].startswith("[")
    [line] = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
    words = shlex.split(line.replace("http://127.0.0.1:8500", url))
    done = subprocess.run([*words, "-H", f"Authorization: Bearer {TOKEN}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["r1_searcher"]["trace"]["question"] == "Who married the author of Fallen Mountain?"


def test_it_ends_after_running_answers(process: tuple[subprocess.Popen[str], str]) -> None:
    made, url = process
    found: list[Any] = []

    def ask() -> None:
        asked = {"prompt": "Who was Ada?", "stream": True}
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=asked, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30
        ) as reply:
            for line in reply.iter_lines():
                if not found:
                    made.send_signal(signal.SIGTERM)
                found.append(line)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(60)
    assert found[-2:] == ["data: [DONE]", ""] or found[-1] == "data: [DONE]"
    assert made.wait(30) == 0
    assert made.stdout is not None and made.stderr is not None
    assert made.stdout.readline().startswith(f"API:  {url}/v1 (model r1-searcher, with the token)")
    assert made.stderr.read().splitlines()[-1] == "policy: data/train/s2-00/policy"
