"""Values on command lines: a wrong one is one line, not argparse's usage."""

from __future__ import annotations

from collections.abc import Callable

from stages.contract.errors import PipelineError


def whole_number(name: str) -> Callable[[str], int]:
    """``type`` of an argparse option ``name``; raises ``PipelineError``, which argparse lets through."""

    def parse(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise PipelineError(f"must be a whole number, got {text!r}", where=name) from None

    return parse
