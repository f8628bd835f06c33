"""Restrict this project's Prefect servers to the user of the checkout.

Whoever may request a run has a command executed by the worker. So every server has a password, random at each start
unless PREFECT_SERVER_API_AUTH_STRING sets one; it listens on loopback, lets no page of another origin read it, and
answers to no other host name (a foreign domain can point to 127.0.0.1). The password is kept in files of Prefect's
home, which only its user can read.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import secrets
import ssl
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from r1_searcher.files.artefacts import write_text

SERVER_AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"  # what a server requires
CLIENTS = "PREFECT_API_AUTH_STRING"  # what a client sends
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
HOSTS = ("127.0.0.1", "localhost")
PROFILES = "profiles.toml"  # in Prefect's home: where a second terminal finds server and password
ABOUT = "# Written by `make ui`, and removed when it ends: the server of this checkout, for Prefect's own commands."
_FRAMES = ((b"content-security-policy", b"frame-ancestors 'self'"), (b"x-frame-options", b"SAMEORIGIN"))
CLOSED_MARK = "closed"  # in Prefect's home: marks a database that was never open to others


def new_password() -> str:
    """Return the server's password from the environment, else a new one: name and secret, as in HTTP Basic."""
    return os.environ.get(SERVER_AUTH_VARIABLE) or f"user:{secrets.token_urlsafe(24)}"


def header(password: str) -> dict[str, str]:
    """Return the header of a request with the password; empty for an empty one."""
    if not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()}


def close_home(home: Path) -> None:
    """Create Prefect's home, or close it and its files to other users; also closes what this process and its children
    create later."""
    os.umask(0o077)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not any((home / name).exists() for name in ("prefect.db", CLOSED_MARK)):
        (home / CLOSED_MARK).touch()
    for path in [home, *home.iterdir()]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            with contextlib.suppress(PermissionError, FileNotFoundError):  # another user's file; one that has just gone
                path.chmod(stat.S_IMODE(mode) & 0o700)


def was_open(home: Path) -> bool:
    """Return whether the database dates from before there were passwords: others may have left runs in it."""
    return not (home / CLOSED_MARK).exists()


def note_closed(home: Path) -> None:
    """Record that leftovers of others are removed."""
    (home / CLOSED_MARK).touch()


def server_settings(password: str, origins: Iterable[str]) -> dict[str, str]:
    """Return the environment of a server."""
    return {SERVER_AUTH_VARIABLE: password, ORIGINS: ",".join(origins)}


def guarded(app: Any, hosts: Iterable[str] = HOSTS) -> Any:
    """Return an ASGI application that answers only requests for these hosts, and no frame of another origin."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return TrustedHostMiddleware(_unframed(app), allowed_hosts=list(hosts), www_redirect=False)


def _unframed(app: Any) -> Any:
    """Forbid browsers to show its pages in another origin's frame, where clicks could be hijacked."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_FRAMES]}
            await send(message)

        await app(scope, receive, answer)

    return called


def write_profile(home: Path, url: str, password: str) -> None:
    """Write a Prefect profile by which Prefect's commands in this checkout find the server, unless the user has one."""
    path = home / PROFILES
    if path.exists() and ABOUT not in path.read_text(encoding="utf-8"):
        return
    values = {"PREFECT_API_URL": url, CLIENTS: password}
    lines = [ABOUT, 'active = "ui"', "", "[profiles.ui]", *(f"{name} = {json.dumps(v)}" for name, v in values.items())]
    write_text(path, "\n".join(lines) + "\n")
    path.chmod(0o600)


def remove_profile(home: Path) -> None:
    """Remove what ``write_profile`` wrote."""
    path = home / PROFILES
    if path.exists() and ABOUT in path.read_text(encoding="utf-8"):
        path.unlink()


def wrong_password(url: str, password: str) -> bool:
    """Return whether a server answers but requires another password."""
    try:
        reply = httpx.get(f"{url}/admin/version", headers=header(password), timeout=5, verify=certificates())
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return reply.status_code == 401


@functools.cache
def certificates() -> ssl.SSLContext:
    """Return the authorities that servers are checked against: httpx would read them for each request, which takes
    longer than the request."""
    return httpx.create_ssl_context()
