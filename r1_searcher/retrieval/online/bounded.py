"""GET a page within hard limits: bytes received, bytes decoded, and seconds for everything together.

Of a page that is too long or too slow, the part that arrived is used: a beginning is still a page.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpcore
import httpx

from r1_searcher.net import replies

_MAX_REDIRECTS = 5


@dataclass(frozen=True)
class Answer:
    """The response after all redirects. ``content``: the beginning of the decoded body, up to the limit."""

    status: int
    content_type: str
    content: bytes


class Unreadable(Exception):
    """No response within the limits, or an unreadable one; the message says why."""


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    network: httpcore.NetworkBackend,
    context: ssl.SSLContext,
    seconds: float,
    most: int,
    wanted: Iterable[str],
) -> Answer:
    """Return the response at ``url``, after at most five redirects.

    ``seconds``: for everything, including name resolution. ``most``: bytes of the body, before and after decoding; the
    rest is not read. ``wanted``: media types whose body is read; a response of another type, or with a status other
    than 200, has no content. Raises ``Unreadable``.
    """
    kinds = frozenset(wanted)
    try:
        with (
            httpx.Client(
                verify=context,
                headers={**headers, "Accept-Encoding": "gzip"},
                timeout=seconds,
                trust_env=False,  # a proxy would connect for us, to addresses that nobody checks
            ) as client,
            replies.counted(client, network).using(replies.ExchangeBudget(seconds, most)),
        ):
            request: httpx.Request | None = client.build_request("GET", url)
            for _ in range(_MAX_REDIRECTS + 1):
                assert request is not None
                _check_address(request.url)
                answer = client.send(request, stream=True)
                try:
                    request = answer.next_request
                    if request is None:
                        return _read(answer, most, kinds)
                finally:
                    answer.close()
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        raise Unreadable(str(error) or type(error).__name__) from None
    raise Unreadable("too many redirects")


def _check_address(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or url.userinfo:
        raise Unreadable("not an address of a page")


def _read(answer: httpx.Response, most: int, wanted: frozenset[str]) -> Answer:
    content_type = answer.headers.get("Content-Type", "text/html")
    if answer.status_code != 200 or content_type.partition(";")[0].strip().lower() not in wanted:
        return Answer(answer.status_code, content_type, b"")
    return Answer(answer.status_code, content_type, replies.read(answer, most, beginning=True))
