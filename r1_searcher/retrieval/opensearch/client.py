"""Requests to a cluster through its vendor's own client, with the project's retries and messages.

Two clients, because each checks what it talks to: Elasticsearch's refuses OpenSearch, and OpenSearch's follows an API
that Elasticsearch left at 7.10. Only their transports are used (connections, TLS, credentials, media types), so that
one code serves both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tenacity

from r1_searcher.errors import PipelineError
from r1_searcher.keys import read_key
from r1_searcher.net.retries import TryAgain, may_pass, retrying
from r1_searcher.net.words import in_one_line
from r1_searcher.retrieval.addresses import url_without_password
from r1_searcher.retrieval.extras import not_installed
from r1_searcher.retrieval.opensearch.settings import OpenSearchSettings

SECTION = "params.yaml, retriever.opensearch"
_BACKOFF, _SLOWEST = 0.2, 5.0  # seconds between two attempts
_SHOWN = 200  # characters of the server's own message
_LINES = "application/x-ndjson"


@dataclass(frozen=True)
class ClusterReply:
    """A status and the JSON that came with it."""

    status: int
    content: Any
    key: str = ""  # that the request had, and that no message may show

    def words(self) -> str:
        """Return the reason of an error, in one line."""
        error = self.content.get("error", self.content) if isinstance(self.content, dict) else self.content
        return reason(error, self.key) or f"HTTP {self.status}"


Send = Callable[
    [str, str, Mapping[str, str], Any], ClusterReply
]  # method, path, parameters, body (text: lines of JSON)


class _NoReply(Exception):
    """No answer: no connection, or none in time."""


def reason(error: Any, key: str = "") -> str:
    """Return what an ``error`` object of a reply says, in one line, without ``key``."""
    if isinstance(error, dict):
        causes = error.get("root_cause") or [error]
        first = causes[0] if isinstance(causes, list) and causes and isinstance(causes[0], dict) else error
        error = f"{first.get('type', '')}: {first.get('reason', '')}"
    return in_one_line(str(error), key=key, longest=_SHOWN)


class Cluster:
    """A cluster, asked through the client of its vendor."""

    def __init__(self, settings: OpenSearchSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """Sends nothing yet. Raises ``PipelineError`` for an address, key or client that cannot be used."""
        self.url = settings.url.rstrip("/")
        url_without_password(self.url, where=f"{SECTION}.url", fix="e.g. https://search-host:9200")
        fix = "export the password or API key under that name"
        self._key = read_key(settings.key_variable, self.url, where=f"{SECTION}.key_variable", fix=fix)
        if settings.user and not self._key:
            raise PipelineError(
                "a user needs a password",
                where=f"{SECTION}.user",
                fix="name the variable that holds it in key_variable",
            )
        make = _elasticsearch if settings.flavour == "elasticsearch" else _opensearch
        self._send = make(settings, self.url, self._key)
        self._flavour, self._gone = settings.flavour, False
        stop = tenacity.stop_after_delay(settings.wait)
        self._retrying = retrying(stop, backoff=_BACKOFF, longest=_SLOWEST, most_advised=settings.wait, sleep=sleep)

    def check(self) -> None:
        """Raise ``PipelineError`` unless the cluster is what ``flavour`` says."""
        version = self.asked("GET", "/").content.get("version", {})
        if self._flavour == "opensearch" and version.get("distribution") != "opensearch":
            raise PipelineError(
                f"{self.url} is not OpenSearch (version {version.get('number', 'unknown')!s:.20})",
                where=f"{SECTION}.flavour",
                fix="set flavour: elasticsearch",
            )

    def asked(self, method: str, path: str, body: Any = None, **parameters: str) -> ClusterReply:
        """Return a reply that says yes, or 404. Raises ``PipelineError`` otherwise."""
        try:
            reply = self.ask(method, path, body, **parameters)
        except TryAgain as error:
            raise PipelineError(
                f"{self.url} does not answer: {error}",
                where=f"{SECTION}.url",
                fix="check that the cluster is running, and the address",
            ) from None
        if reply.status >= 300 and reply.status != 404:
            raise PipelineError(f"{self.url} refuses {method} {path}: {reply.words()}", where=SECTION)
        return reply

    def ask(self, method: str, path: str, body: Any = None, **parameters: str) -> ClusterReply:
        """Return a reply, whatever it says. Raises ``TryAgain`` if none came for ``wait`` seconds, or only refusals
        that may pass, and ``PipelineError`` for wrong credentials."""
        asking = self._retrying.copy(stop=tenacity.stop_after_attempt(1)) if self._gone else self._retrying
        try:
            reply: ClusterReply = asking(self._once, method, path, body, parameters)
        except TryAgain:
            self._gone = True
            raise
        self._gone = False
        return reply

    def _once(self, method: str, path: str, body: Any, parameters: Mapping[str, str]) -> ClusterReply:
        try:
            reply = self._send(method, path, parameters, body)
        except _NoReply as error:
            raise TryAgain(in_one_line(str(error), key=self._key, longest=_SHOWN)) from None
        reply = replace(reply, key=self._key)
        if reply.status in (401, 403):
            raise PipelineError(
                f"{self.url} does not accept the credentials (HTTP {reply.status})",
                where=SECTION,
                fix="check user and the variable that key_variable names",
            )
        if may_pass(reply.status):
            raise TryAgain(reply.words())
        return reply


def _opensearch(settings: OpenSearchSettings, url: str, key: str) -> Send:
    try:
        import opensearchpy
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "opensearch", where=SECTION) from None
    logging.getLogger("opensearch").setLevel(logging.CRITICAL)  # it logs every 404
    how: dict[str, Any] = {"http_auth": (settings.user, key)} if settings.user else {}
    if key and not settings.user:
        how = {"headers": {"Authorization": f"ApiKey {key}"}}
    if settings.certificates:
        how["ca_certs"] = settings.certificates
    client = opensearchpy.OpenSearch([url], max_retries=0, timeout=settings.timeout, http_compress=True, **how)

    def send(method: str, path: str, parameters: Mapping[str, str], body: Any) -> ClusterReply:
        headers = {"Content-Type": _LINES if isinstance(body, str) else "application/json"}
        try:
            found = client.transport.perform_request(method, path, params=dict(parameters), body=body, headers=headers)
        except opensearchpy.SSLError as error:
            raise _untrusted(url, error) from None
        except opensearchpy.ConnectionError as error:
            raise _NoReply(error.error) from None
        except opensearchpy.TransportError as error:
            return ClusterReply(int(error.status_code), error.info)
        except opensearchpy.SerializationError:
            raise _foreign(url) from None
        return ClusterReply(200, found)

    return send


def _elasticsearch(settings: OpenSearchSettings, url: str, key: str) -> Send:
    try:
        import elastic_transport
        import elasticsearch
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "elasticsearch", where=SECTION) from None
    logging.getLogger("elastic_transport").setLevel(logging.CRITICAL)
    how: dict[str, Any] = {"basic_auth": (settings.user, key)} if settings.user else {}
    if key and not settings.user:
        how = {"api_key": key}
    if settings.certificates:
        how["ca_certs"] = settings.certificates
    client = elasticsearch.Elasticsearch(
        [url], max_retries=0, request_timeout=settings.timeout, http_compress=True, **how
    )

    def send(method: str, path: str, parameters: Mapping[str, str], body: Any) -> ClusterReply:
        headers = {
            "Accept": "application/json",
            "Content-Type": _LINES if isinstance(body, str) else "application/json",
        }
        if body is None:
            del headers["Content-Type"]
        try:
            found = client.perform_request(method, path, params=dict(parameters), headers=headers, body=body)
        except elasticsearch.UnsupportedProductError:
            raise PipelineError(
                f"{url} is not Elasticsearch", where=f"{SECTION}.flavour", fix="set flavour: opensearch"
            ) from None
        except elasticsearch.ApiError as error:
            if "media_type_header_exception" in str(error.body):
                major = elasticsearch.__version__[0]
                raise PipelineError(
                    f"{url} is older than the client (elasticsearch {major})",
                    where=SECTION,
                    fix="install the client of its version, e.g. pip install 'elasticsearch>=8,<9'",
                ) from None
            return ClusterReply(int(error.meta.status), error.body)
        except elastic_transport.TlsError as error:
            raise _untrusted(url, error) from None
        except elastic_transport.SerializationError:
            raise _foreign(url) from None
        except elastic_transport.TransportError as error:
            raise _NoReply(error.message) from None
        return ClusterReply(int(found.meta.status), found.body)

    return send


def _untrusted(url: str, error: Exception) -> PipelineError:
    words = " ".join(str(error).split())[:_SHOWN]
    return PipelineError(
        f"no safe connection to {url}: {words}",
        where=SECTION,
        fix="name the file of its certificate authority in certificates",
    )


def _foreign(url: str) -> PipelineError:
    return PipelineError(f"{url} answers something other than JSON", where=f"{SECTION}.url")
