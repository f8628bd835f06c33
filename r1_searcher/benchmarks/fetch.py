"""Fetch a released file from a folder, a mirror or its own address; it is stored under its checksum.

A file with another checksum is never used and stops the command, wherever it came from. A place that lacks the file, or
does not answer, is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from r1_searcher.benchmarks.releases import Release
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import sha256_file
from r1_searcher.files.store import Store

FETCHED_KIND = "benchmarks"  # in the store
RETRIES = 4  # of a request with a transient failure: no connection, 429, 5xx
BACKOFF = 0.5  # s before the second retry, doubled each time
TIMEOUT = (10.0, 60.0)  # s to connect, s between two parts of a response
LONGEST = 600.0  # s per file, including retries
LONGEST_PAUSE = 30  # s between two retries, whatever a server asks for
_BLOCK = 1 << 16
_PASSING = (429, 500, 502, 503, 504)


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
            raise PipelineError("was changed after it was fetched", where=str(path), fix=f"remove {kept}")
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
        f"{release.file} was found nowhere: {'; '.join(missed)}",
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
    """GET ``address`` into ``path``, restarting if the connection breaks.

    Encoded responses are refused, and nothing is read beyond ``num_bytes`` + 1 bytes or after LONGEST seconds.
    """
    import requests
    import urllib3
    from urllib3.util import Retry

    from r1_searcher.benchmarks.deadline import Deadline, Over

    retries = Retry(
        total=RETRIES,
        backoff_factor=backoff,
        status_forcelist=_PASSING,
        allowed_methods=["GET"],
        retry_after_max=LONGEST_PAUSE,
    )
    late = f"it was not whole after {LONGEST:.0f} s"
    with Deadline(LONGEST) as deadline, requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            session.mount(scheme, deadline.adapter(max_retries=retries))
        for attempt in range(RETRIES):
            try:
                with session.get(address, stream=True, timeout=TIMEOUT) as answer, path.open("wb") as file:
                    if not answer.ok:
                        raise Absent(f"the server says {answer.status_code} {answer.reason}".rstrip())
                    if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
                        raise Absent("the server sends it encoded")
                    _receive(answer.raw, file, num_bytes)
                if deadline.over:  # the deadline may have cut off what came
                    raise Over
                return
            except Over:
                raise Absent(late) from None
            except urllib3.exceptions.ProtocolError:
                if deadline.over:
                    raise Absent(late) from None
                if attempt + 1 == RETRIES:
                    raise Absent("the connection broke each time before the file was whole") from None
                time.sleep(backoff * 2**attempt)
            except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
                raise Absent(late if deadline.over else _reason(error)) from None


def _receive(answer: Any, file: IO[bytes], num_bytes: int) -> None:
    """Write the body of a urllib3 response as it arrives. A truncated body raises ``ProtocolError``."""
    left = num_bytes + 1
    while left and (block := answer.read1(min(left, _BLOCK), decode_content=False)):
        file.write(block)
        left -= len(block)


def _reason(error: BaseException) -> str:
    """Return the innermost reason of a chain of connection errors, briefly."""
    seen: BaseException | None = error
    while seen is not None:  # requests wraps urllib3's error, which wraps the socket's
        error = seen
        inner = getattr(seen, "reason", None) or next((one for one in seen.args if isinstance(one, Exception)), None)
        seen = inner if isinstance(inner, BaseException) else None
    text = " ".join(str(error).split()).rpartition("> ")[2] or type(error).__name__
    return text.rpartition(": ")[2] if "Failed to" in text else text


def _verify(path: Path, release: Release, place: str) -> None:
    size, found = path.stat().st_size, sha256_file(path)
    if size > release.num_bytes or found != release.sha256:
        other = f"sha256 {found[:16]}…, not {release.sha256[:16]}…"
        if size > release.num_bytes:
            other = f"it has more than {release.num_bytes:,} bytes"
        raise PipelineError(
            f"{release.file} is another file than the released one: {other}",
            where=place,
            fix="remove it there, or name another place in benchmarks.mirrors",
        )
