"""Command lines: their help, and values of options, of which a wrong one is one line instead of argparse's usage."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable

from r1_searcher.errors import PipelineError


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps a description, but keeps indented lines, such as examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())


def examples(prog: str, *lines: str) -> str:
    """Return the ``epilog`` of a parser with ``HelpFormatter``: examples of the command ``prog``."""
    return "examples:\n" + "\n".join(f"  {prog} {line}".rstrip() for line in lines)


def whole_number(name: str, least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Return the ``type`` of an argparse option ``name``; it raises ``PipelineError``, which argparse lets through."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise PipelineError(f"must be a whole number, got {text!r}", where=name) from None
        if least is not None and number < least:
            raise PipelineError(f"must be at least {least}, got {number}", where=name)
        if most is not None and number > most:
            raise PipelineError(f"must be at most {most}, got {number}", where=name)
        return number

    return parse


def seconds(name: str) -> Callable[[str], float]:
    """Return the same for a time: a number of seconds, 0 or more."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):  # nan is neither
            raise PipelineError(f"must be seconds, 0 or more, got {text!r}", where=name)
        return number

    return parse


def add_port(parser: argparse.ArgumentParser, default: int, what: str = "port") -> None:
    """Add ``--port``, where a server of ours listens."""
    about = f"{what}; 0: any free one (default: %(default)s)"
    parser.add_argument("--port", type=whole_number("--port", 0, 65_535), default=default, help=about)
