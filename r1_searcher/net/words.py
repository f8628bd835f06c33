"""What a server says, in one line of our messages: printable, short, without the key that it was asked with."""

from __future__ import annotations

import httpx

from r1_searcher.keys import without_key
from r1_searcher.shown import printable

_SHOWN = 200  # characters


def in_one_line(text: str, *, key: str = "", longest: int = _SHOWN) -> str:
    """Return ``text`` in one printable line of at most ``longest`` characters, without ``key``."""
    line = printable(without_key(" ".join(text.split()), key))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def redirect_target(response: httpx.Response, *, key: str = "") -> str:
    """Return where a redirect leads, in words; empty if ``response`` is none."""
    if not 300 <= response.status_code < 400:
        return ""
    place = response.headers.get("Location", "")
    return f"redirects to {in_one_line(place, key=key)}" if place else "redirects, and does not say where to"
