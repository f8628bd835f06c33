"""What users read keeps to plain English: a short list of idioms that must not come back.

The rules, with the field's words, are in CONTRIBUTING.md. If a line here is a nuisance, change the list.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1_searcher.cli.app import COMMANDS, Library

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "SECURITY", "examples/README")),
    *sorted((ROOT / "docs").glob("*.md")),
]
OTHER = [
    ROOT / "r1_searcher/params/defaults.yaml",
    ROOT / "Makefile",
    ROOT / "Dockerfile",
    ROOT / "compose.yaml",
    ROOT / "prefect.yaml",
]
OTHER += sorted((ROOT / "profiles").glob("*.yaml"))

_COUNTED = (
    "tokens|searches|passages|rows|files?|samples|questions|bytes|calls|requests|rollouts|processes|seconds|times"
)
_UNIT = "token|search|question|second|minute|passage|trajectory|pass|row|file|segment|policy|seed|turn|call|GPU"
IDIOMS = {
    rf"\b({_COUNTED}) an? ({_UNIT})\b": "per",
    r"\b(one|a folder|a file|a line|a row|a process) an? [a-z]+\b(?! (is|of|that|time))": "one … per …",
    r"\bwhere (there|it) (is|are) (a|an|any|no|one|none|wanted)\b": "if",
    r"\banew\b": "again, or from the start",
    r"\bsees? to it\b": "makes sure",
    r"\bheld against\b": "compared with, or checked against",
    r"\bthe dice\b": "chance",
    r"\bwatch(es)?\b(?= (of|in|on|looks|asks)\b)": "validation",
    r"\bflat groups?\b": "zero-advantage groups",
    r"\bat hand\b": "available",
    r"\bis no(ne)? of\b": "is not one of",
}


def prose(path: Path) -> str:
    """A page without code: fenced and indented blocks, and spans in backticks."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`…`", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))


def comments(path: Path) -> str:
    """What follows a ``#``, or is printed by ``make help``."""
    return "\n".join(re.findall(r"(?:#+ |@echo ')(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The help of a parser and of its sub-commands."""
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from helps(below)


def idioms(text: str) -> list[str]:
    """Each idiom in a text, with what to write instead."""
    flat = " ".join(text.split())
    return [
        f"{found[0]!r}: {better}"
        for idiom, better in IDIOMS.items()
        for found in re.finditer(idiom, flat, re.IGNORECASE)
    ]


def test_idioms_are_found() -> None:
    page = "One a seed. Two searches a question are made anew where there is a\nGPU, held against a watch of 0.5."
    assert len(idioms(page)) == 6
    assert idioms("One per seed; two searches per question. A file is written again if there is a GPU.") == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_in_plain_english(path: Path) -> None:
    assert idioms(prose(path)) == []


@pytest.mark.parametrize("path", OTHER, ids=lambda path: path.name)
def test_comments_that_users_read_are_in_plain_english(path: Path) -> None:
    text = comments(path)
    assert idioms(text) == [] and re.findall(r"(?<![\w.)\]/*])\.\d+", text) == []


@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Library)])
def test_help_is_in_plain_english(name: str) -> None:
    found = COMMANDS[name]
    assert isinstance(found, Library)
    module = importlib.import_module(found.module)
    texts = [found.about, *(helps(module.parser()) if hasattr(module, "parser") else [])]
    assert [idiom for text in texts for idiom in idioms(text)] == []
