"""Try a model's chat template once, in a process with limited time and memory, before relying on it.

The template is a program in the model's folder: a line of it can ask for gigabytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.prompt import Prompt, template_error
from r1_searcher.texts import parse_json

CPU_SECONDS = 5
WAIT_SECONDS = 60  # generous: the machine may be busy
MEMORY = 2**30  # bytes beyond what the process has at its start
_LONGEST = 1_000_000  # characters of a prompt with a short question


def try_template(prompt: Prompt, tokenizer: Any) -> None:
    """Raise ``PipelineError`` if the model's chat template cannot render ``prompt`` within the limits of time, memory
    and length. Does nothing if the prompt or the model uses no chat template."""
    if not prompt.is_chat or getattr(tokenizer, "chat_template", None) is None:
        return
    tried = {
        "template": tokenizer.get_chat_template(),
        "messages": prompt.messages("Who wrote the novel?"),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "cpu_seconds": CPU_SECONDS,
    }
    said = _try_in_process(json.dumps(tried))
    if said is None:
        told = f"the model's chat template takes more than {CPU_SECONDS} s or {MEMORY // 2**20} MB"
    elif "raised" in said:
        raise template_error(prompt, said["raised"], said["told"])
    elif said["length"] > _LONGEST:
        told = f"the model's chat template makes a prompt of {said['length']:,} characters of a short question"
    else:
        return
    raise PipelineError(told, where=f"rollout.prompt {prompt.name}", fix="choose `base`, or a file with {question}")


def _try_in_process(tried: str) -> dict[str, Any] | None:
    """Return what the trial's process reports; None if it hit its limits.

    Not a fork: a fork of a process that holds a model is refused if memory is short.
    """
    program = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
    try:
        done = subprocess.run(program, input=tried, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode > 0:
        raise PipelineError(
            f"the trial of the chat template did not start: {done.stderr.strip().splitlines()[-1:]}", where=program[2]
        )
    said: dict[str, Any] | None = parse_json(done.stdout) if done.returncode == 0 else None
    return said


def _set_limits(cpu_seconds: int) -> None:
    import resource

    spent = resource.getrusage(resource.RUSAGE_SELF)
    most = int(spent.ru_utime + spent.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Run the trial: one JSON object from standard input, one to standard output."""
    from transformers.utils.chat_template_utils import render_jinja_template

    tried = parse_json(sys.stdin.read())
    _set_limits(tried["cpu_seconds"])
    try:
        (text,), _ = render_jinja_template(
            [tried["messages"]], chat_template=tried["template"], add_generation_prompt=True, **tried["special"]
        )
        said: dict[str, int | str] = {"length": len(text)}
    except Exception as error:  # a template may raise anything
        said = {"raised": type(error).__name__, "told": str(error)[:1000]}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
