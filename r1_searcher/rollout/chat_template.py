"""A chat template is a program in the model's folder. Before it is relied on it is tried once, in a process that may
take only so much time and memory: a line of it can ask for gigabytes."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.prompt import Prompt

CPU_SECONDS = 5
WAIT_SECONDS = 60  # of a machine that is busy with other things
MEMORY = 2**30  # bytes beyond what this process has
LONGEST = 1_000_000  # characters of a prompt whose question is short

_FINE = "fine"


def try_template(prompt: Prompt, tokenizer: Any) -> None:
    """``PipelineError``, one line, where the model's chat template cannot render ``prompt`` in reasonable time, memory
    and length. Nothing is tried where the prompt or the model has no use for one."""
    if not prompt.is_chat or getattr(tokenizer, "chat_template", None) is None:
        return
    told = _apart(prompt, tokenizer)
    if told != _FINE:
        raise PipelineError(
            told or f"the model's chat template takes more than {CPU_SECONDS} s or {MEMORY // 2**20} MB",
            where=f"rollout.prompt {prompt.name}",
            fix="choose `base`, or a file with {question}",
        )


def _apart(prompt: Prompt, tokenizer: Any) -> str:
    """What a child process says of the template; nothing where it came to an end of its own."""
    import jinja2  # noqa: F401  # not first in the child

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            _limit()
            said = _tried(prompt, tokenizer).encode()[:1000]
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], WAIT_SECONDS)
        return os.read(reader, 4096).decode(errors="replace") if ready else ""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # still our own: nobody has waited for it
        os.waitpid(child, 0)


def _tried(prompt: Prompt, tokenizer: Any) -> str:
    try:
        text = prompt.render("Who wrote the novel?", tokenizer)
    except PipelineError as error:
        return error.what
    if len(text) > LONGEST:
        return f"the model's chat template makes a prompt of {len(text):,} characters of a short question"
    return _FINE


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
