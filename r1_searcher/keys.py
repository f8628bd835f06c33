"""Keys of servers: only from the environment, under names made for keys, never in a message or in clear text.

The variable's name and the server's address are parameters, so a profile from elsewhere may set them. Without the check
it could request ``AWS_SECRET_ACCESS_KEY`` and send it to any address.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from r1_searcher.errors import PipelineError

_ENDING = "_API_KEY"
ALLOWED = "R1_SEARCHER_KEY_VARIABLES"  # in the environment: comma-separated names that may hold keys as well
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_KEY = re.compile(r"[!-~]+")  # what a header can carry


def read_key(variable: str, address: str, *, where: str, fix: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the key in the environment's ``variable`` for the server at ``address``; empty if no variable is named.

    Raises ``PipelineError`` with ``where``, never showing a possible key: if the name is not made for keys, the
    variable is empty (then with ``fix``), the value fits in no header, or it would travel over a network in clear text.
    """
    if not variable:
        return ""
    known = os.environ if environment is None else environment
    check_variable(variable, known.get(ALLOWED, ""), where=where)
    key = known.get(variable, "").strip()
    if not key:
        raise PipelineError(f"the environment variable {variable} is not set", where=where, fix=fix)
    if not _KEY.fullmatch(key):
        raise PipelineError(
            f"the value of ${variable} is not a key: a key has no spaces, line breaks or characters beyond ASCII",
            where=where,
            fix="it is not shown here; check that the file it comes from contains nothing else",
        )
    if not _private_way(address):
        raise PipelineError(
            f"the key in ${variable} would be sent as clear text", where=where, fix="an address with https://"
        )
    return key


def check_variable(variable: str, allowed: str, *, where: str) -> None:
    """Raise ``PipelineError`` unless ``variable`` is a name that may hold a key; ``allowed``: more such names."""
    if variable in {name.strip() for name in allowed.split(",") if name.strip()}:
        return
    if not _NAME.fullmatch(variable) or not variable.endswith(_ENDING):  # it may be a key, so it is not shown
        raise PipelineError(
            f"must be the name of an environment variable that ends in {_ENDING} (and is not shown: it may be a key)",
            where=where,
            fix=f"another name may be given in ${ALLOWED}",
        )


def without_key(text: str, key: str) -> str:
    """Remove ``key`` from ``text``, also as JSON or a Python string would write it."""
    if not key:
        return text
    escaped = key.replace("\\", "\\\\")
    for form in (escaped.replace('"', '\\"'), key.replace('"', '\\"'), escaped, key):
        text = text.replace(form, "…")
    return text


def _private_way(address: str) -> bool:
    """Return whether nobody on the way can read what is sent to ``address``."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
