"""Who may use this project's Prefect servers: the user of the checkout and nobody else.

Whoever may ask the server for a run has a command run by its worker. So every server has a password, made at random
when it starts unless PREFECT_SERVER_API_AUTH_STRING gives one; it listens on loopback, lets no page of another origin
read it, and answers to no other host's name (a name of somebody's domain can be pointed at 127.0.0.1). The password
stands in files of Prefect's home, which only its user can read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import stat
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r1_searcher.files.artefacts import write_text

SERVER_AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"  # what a server asks for
CLIENTS = "PREFECT_API_AUTH_STRING"  # what a client sends
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
HOSTS = ("127.0.0.1", "localhost")
PROFILES = "profiles.toml"  # in Prefect's home: where a second terminal finds server and password
ABOUT = "# Written by `make ui`, and removed when it ends: the server of this checkout, for Prefect's own commands."
_FRAMES = ((b"content-security-policy", b"frame-ancestors 'self'"), (b"x-frame-options", b"SAMEORIGIN"))
CLOSED_MARK = "closed"  # in Prefect's home: the database was never open to others


def new_password() -> str:
    """A server's password as the environment gives it, else a new one: name and secret, as HTTP Basic has them."""
    return os.environ.get(SERVER_AUTH_VARIABLE) or f"user:{secrets.token_urlsafe(24)}"


def header(password: str) -> dict[str, str]:
    """The header of a request with the password; none for an empty one."""
    if not password:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()}


def close_home(home: Path) -> None:
    """Make Prefect's home, or take from others the right to read it and what is in it. What is made there later by
    this process and its children is closed too."""
    os.umask(0o077)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not any((home / name).exists() for name in ("prefect.db", CLOSED_MARK)):
        (home / CLOSED_MARK).touch()
    for path in [home, *home.iterdir()]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            with contextlib.suppress(PermissionError, FileNotFoundError):  # another user's file; one that just went
                path.chmod(stat.S_IMODE(mode) & 0o700)


def was_open(home: Path) -> bool:
    """Whether the database is from a time without passwords: others may have left runs in it."""
    return not (home / CLOSED_MARK).exists()


def note_closed(home: Path) -> None:
    """What others may have left is gone."""
    (home / CLOSED_MARK).touch()


def server_settings(password: str, origins: Iterable[str]) -> dict[str, str]:
    """The environment of a server."""
    return {SERVER_AUTH_VARIABLE: password, ORIGINS: ",".join(origins)}


def guarded(app: Any, hosts: Iterable[str] = HOSTS) -> Any:
    """An ASGI application that answers requests for these hosts alone, and stands in no page of another origin."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return TrustedHostMiddleware(_unframed(app), allowed_hosts=list(hosts), www_redirect=False)


def _unframed(app: Any) -> Any:
    """Browsers show its pages in no other origin's frame, where a click could be led to a button of theirs."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_FRAMES]}
            await send(message)

        await app(scope, receive, answer)

    return called


def write_profile(home: Path, url: str, password: str) -> None:
    """Let Prefect's commands in this checkout find a server: a profile of Prefect's, where the user has none."""
    path = home / PROFILES
    if path.exists() and ABOUT not in path.read_text(encoding="utf-8"):
        return
    values = {"PREFECT_API_URL": url, CLIENTS: password}
    lines = [ABOUT, 'active = "ui"', "", "[profiles.ui]", *(f"{name} = {json.dumps(v)}" for name, v in values.items())]
    write_text(path, "\n".join(lines) + "\n")
    path.chmod(0o600)


def remove_profile(home: Path) -> None:
    """Take away what ``write_profile`` wrote."""
    path = home / PROFILES
    if path.exists() and ABOUT in path.read_text(encoding="utf-8"):
        path.unlink()


def refused(url: str, password: str) -> bool:
    """Whether a server that answers wants another password."""
    request = urllib.request.Request(f"{url}/admin/version", headers=header(password))
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return False
