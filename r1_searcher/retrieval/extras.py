"""The error for a package that comes with an optional extra."""

from __future__ import annotations

from r1_searcher.errors import PipelineError


def not_installed(package: str | None, extra: str, *, where: str) -> PipelineError:
    """Return the error for a missing ``package`` of ``extra``; ``where``: the parameter that needs it."""
    return PipelineError(
        f"{package} is not installed", where=where, fix=f"install the extra that has it: pip install '.[{extra}]'"
    )
