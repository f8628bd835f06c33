"""Check the addresses of servers that parameters give."""

from __future__ import annotations

import httpx

from r1_searcher.errors import PipelineError


def checked_url(url: str, *, where: str, fix: str) -> httpx.URL:
    """Return ``url`` if it is an http or https address; else raise ``PipelineError`` with ``where`` and ``fix``."""
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host)
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise PipelineError(f"not an address: {url!r}", where=where, fix=fix)
    return parsed


def url_without_password(url: str, *, where: str, fix: str) -> httpx.URL:
    """Return ``checked_url``'s address; raise ``PipelineError`` if it contains a password, too."""
    parsed = checked_url(url, where=where, fix=fix)
    if parsed.userinfo:
        raise PipelineError(
            "an address must not contain a password", where=where, fix="name the variable that holds it in key_variable"
        )
    return parsed
