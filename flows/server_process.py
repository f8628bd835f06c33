"""Prefect's server as this project runs it: with a password, for this machine only (``flows.access``).

``serve`` runs the small server that flows share, ``page`` the one with the page, for `make ui` and the compose file.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from flows import access
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_json
from r1_searcher.shown import show

IDLE_SECONDS = 60.0
DATABASE = "prefect.db"  # in Prefect's home, as Prefect names it
HISTORY = "it holds the history of runs and nothing that training needs"


def serve(home: Path, port: int = 0) -> None:
    """Run the shared server: bind ``port`` (0: a free one), write ``server.json``, and end when idle."""
    access.close_home(home)
    os.umask(0o077)
    with open(home / "serve.lock", "w") as only_one:
        try:
            fcntl.flock(only_one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process was first; clients find that one
        with bind("127.0.0.1", port) as bound:
            address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            password = access.new_password()
            os.environ.update(access.server_settings(password, [address]))
            state = home / "server.json"
            write_json(state, {"pid": os.getpid(), "url": f"{address}/api", "password": password})
            server = _server(ephemeral=True, log_level="error")
            threading.Thread(target=_end_when_idle, args=(server, home), daemon=True).start()
            try:
                server.run(sockets=[bound])
            finally:
                state.unlink(missing_ok=True)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at that port, or at a free one if it is taken. A killed server frees its port at once."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.bind((host, 0))
    return bound


def page(home: Path, host: str, port: int, names: Sequence[str] = ()) -> None:
    """Run the server with the page. Raises ``PipelineError`` without a password.

    ``names``: further host names of this machine besides 127.0.0.1 and localhost.
    """
    if not os.environ.get(access.SERVER_AUTH_VARIABLE):
        raise PipelineError(
            "the server has no password", where=access.SERVER_AUTH_VARIABLE, fix="export one, as name:secret"
        )
    access.close_home(home)
    os.umask(0o077)
    origins = [f"http://{name}:{port}" for name in access.HOSTS]
    os.environ.setdefault(access.ORIGINS, ",".join(origins))
    os.environ.setdefault("PREFECT_UI_API_URL", f"{origins[0]}/api")  # what the page requests from the browser
    os.environ.setdefault("PREFECT_API_URL", f"{origins[0]}/api")
    for lines in ("STREAM_OUT", "STREAM_PUBLISHING"):  # `--watch` shows a run's lines, and so why it failed
        os.environ.setdefault(f"PREFECT_SERVER_LOGS_{lines}_ENABLED", "true")
    server = _server(ephemeral=False, log_level="warning", host=host, port=port, names=names)
    server.run()


def _server(*, ephemeral: bool, log_level: str, names: Sequence[str] = (), **where: Any) -> Any:
    import uvicorn
    from prefect.server.api.server import create_app

    app = access.guarded(create_app(ephemeral=ephemeral, final=True), (*access.HOSTS, *names))
    return uvicorn.Server(uvicorn.Config(app, log_level=log_level, lifespan="on", timeout_graceful_shutdown=3, **where))


def _end_when_idle(server: Any, home: Path) -> None:
    """Watch the flows' lock: free for ``IDLE_SECONDS`` means that the server is not needed."""
    free_since = time.monotonic()
    with open(home / "in_use.lock", "a") as lock:
        while True:
            time.sleep(1)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free_since = time.monotonic()
                continue
            if time.monotonic() - free_since > IDLE_SECONDS:
                (home / "server.json").unlink(missing_ok=True)  # from here on nobody finds this server
                server.should_exit = True
                return  # closes the file, and with it the lock
            fcntl.flock(lock, fcntl.LOCK_UN)


def prepare(home: Path) -> None:
    """Create or migrate the database, so that the first flow need not (about 10 s, once)."""
    import asyncio

    access.close_home(home)
    os.umask(0o077)
    set_aside_broken_database(home)
    from prefect.server.database import provide_database_interface

    asyncio.run(provide_database_interface().create_db())


def set_aside_broken_database(home: Path) -> None:
    """Move a database that SQLite cannot read aside, and say so: the next server makes a new one. Does nothing while a
    server has it open."""
    path = home / DATABASE
    if not path.exists():
        return
    with open(home / "serve.lock", "a") as only_one:
        try:
            fcntl.flock(only_one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if (why := _broken(path)) is None:
            return
        number = 1
        while (aside := path.with_name(f"{DATABASE}.broken-{number}")).exists():
            number += 1
        os.rename(path, aside)
        for end in ("-wal", "-shm"):  # they belong to it, and would be used with the new one
            if (beside := path.with_name(DATABASE + end)).exists():
                os.rename(beside, f"{aside}{end}")
    show(f"warning: {path}: Prefect's database cannot be read ({why}): it is now {aside.name}, and a new one is made; "
          f"{HISTORY}")  # fmt: skip


def _broken(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:  # a lock, no permission: not damage
        return str(error) if "malformed" in str(error) else None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else found.splitlines()[0]
