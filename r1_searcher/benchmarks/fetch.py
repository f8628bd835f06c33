"""Fetch a released file from a folder, a mirror or its own address; it is stored under its checksum.

A file with another checksum is never used and stops the command, wherever it came from. A place that lacks the file, or
does not answer, is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import tenacity

from r1_searcher.benchmarks.releases import Release
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import sha256_file
from r1_searcher.files.store import Store
from r1_searcher.net import replies
from r1_searcher.net.retries import TryAgain, may_pass, retry_after, retrying

FETCHED_KIND = "benchmarks"  # of the store
RETRIES = 4  # of a request that failed in a way that may pass: no connection, 429, 5xx
BACKOFF = 0.5  # s before the first retry, doubled each time
TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # s between two parts of an answer, s to connect
LONGEST = 600.0  # s for a file, its retries included
LONGEST_PAUSE = 30  # s between two retries, whatever a server advises
_BLOCK = 1 << 16


class _Broke(TryAgain):
    """The connection broke on the way."""


class Absent(Exception):
    """A place does not provide the file; the message briefly says why."""


def fetch(release: Release, mirrors: Sequence[str], store: Store, *, backoff: float = BACKOFF) -> Path:
    """Return the released file, whole and verified, in the store; fetch it if it is not there yet.

    ``mirrors``: folders and addresses (http, https) that may have ``release.file``, tried in order before the release's
    own address. Raises ``PipelineError`` for a wrong checksum, and if no place has it.
    """
    kept = store.get(FETCHED_KIND, release.sha256)
    if kept is not None:
        path = kept / release.file
        if sha256_file(path) != release.sha256:
            raise PipelineError("was changed after the download", where=str(path), fix=f"remove {kept}")
        return path
    missed = []
    for place in (*mirrors, release.address):
        try:
            with store.put(FETCHED_KIND, release.sha256) as draft:
                path = draft / release.file
                _copy_from(place, path, release.num_bytes, backoff)
                _verify(path, release, place)
        except Absent as reason:
            missed.append(f"{place}: {reason}")
        else:
            return store.place(FETCHED_KIND, release.sha256) / release.file
    raise PipelineError(
        f"{release.file} was not found: {'; '.join(missed)}",
        where=f"benchmark {release.name}",
        fix="name a folder or a mirror that has it in benchmarks.mirrors",
    )


def _copy_from(place: str, path: Path, num_bytes: int, backoff: float) -> None:
    """Copy ``path.name`` from ``place``, a folder or an address, to ``path``; at most ``num_bytes`` + 1 bytes."""
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme in ("http", "https"):
        _download(f"{place.rstrip('/')}/{path.name}", path, num_bytes, backoff)
    elif scheme and scheme != "file":
        raise PipelineError(
            f"cannot fetch from {place!r}", where="benchmarks.mirrors", fix="a folder, http:// or https://"
        )
    else:
        source = Path(place.removeprefix("file://")).expanduser() / path.name
        try:
            with source.open("rb") as given:
                path.write_bytes(given.read(num_bytes + 1))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Absent("no such file") from None
        except PermissionError:
            raise Absent("not readable") from None


def _download(address: str, path: Path, num_bytes: int, backoff: float) -> None:
    """GET ``address`` into ``path``, again from the start if the connection breaks on the way.

    Encoded responses are refused, and nothing is read beyond ``num_bytes`` + 1 bytes or after LONGEST seconds.
    """
    until = time.monotonic() + LONGEST
    asking = retrying(_stops, backoff=backoff, longest=LONGEST_PAUSE)
    try:
        asking(_attempt, address, path, num_bytes, until)
    except (TryAgain, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        late = f"it was not whole after {LONGEST:.0f} s"
        raise Absent(late if time.monotonic() >= until else " ".join(str(error).split())) from None


def _stops(state: tenacity.RetryCallState) -> bool:
    """Whether a place is given up. Connections that break on the way cost most, and are tried once less."""
    error = state.outcome.exception() if state.outcome is not None else None
    most = RETRIES if isinstance(error, _Broke) else RETRIES + 1
    return state.attempt_number >= most or (state.seconds_since_start or 0) + state.upcoming_sleep >= LONGEST


def _attempt(address: str, path: Path, num_bytes: int, until: float) -> None:
    left = num_bytes + 1
    begun = False
    headers = {"Accept-Encoding": "identity"}
    try:
        with (
            httpx.Client(headers=headers, timeout=TIMEOUT, follow_redirects=True) as client,
            replies.counted(client).using(replies.ExchangeBudget(until - time.monotonic(), left)),
            client.stream("GET", address) as answer,
            path.open("wb") as file,
        ):
            _check_answer(answer)
            begun = True
            for block in answer.iter_raw(_BLOCK):
                file.write(block[:left])
                left -= len(block)
                if left <= 0:
                    break
    except httpx.TransportError as error:
        if time.monotonic() >= until:
            raise
        if begun:
            raise _Broke("the connection broke each time before the file was whole") from None
        raise TryAgain(str(error)) from None


def _check_answer(answer: httpx.Response) -> None:
    """Raise ``TryAgain`` or ``Absent`` unless a file follows as it is."""
    if not answer.is_success:
        said = f"the server says {answer.status_code} {answer.reason_phrase}".rstrip()
        if may_pass(answer.status_code):
            raise TryAgain(said, retry_after(answer.headers.get("Retry-After")))
        raise Absent(said)
    if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Absent("the server sends it encoded")


def _verify(path: Path, release: Release, place: str) -> None:
    size, found = path.stat().st_size, sha256_file(path)
    if size > release.num_bytes or found != release.sha256:
        other = f"sha256 {found[:16]}…, not {release.sha256[:16]}…"
        if size > release.num_bytes:
            other = f"it has more than {release.num_bytes:,} bytes"
        raise PipelineError(
            f"{release.file} is not the released file: {other}",
            where=place,
            fix="remove it there, or name another place in benchmarks.mirrors",
        )
