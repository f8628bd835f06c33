"""One client for every Milvus: its errors become ours, and calls are retried by the project's policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import tenacity

from r1_searcher.errors import PipelineError
from r1_searcher.net.retries import TryAgain, retrying
from r1_searcher.net.words import in_one_line
from r1_searcher.retrieval.extras import not_installed

T = TypeVar("T")
_BACKOFF, _SLOWEST = 0.5, 10.0  # seconds between two attempts
_SHOWN = 200  # characters of the server's own message
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")  # of gRPC
_DENIED = ("auth check failure", "UNAUTHENTICATED", "PERMISSION_DENIED")


def library(where: str) -> ModuleType:
    """Import pymilvus, or raise a one-line error on how to install it."""
    try:
        import pymilvus
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "milvus", where=where) from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every error, with a traceback, before it raises
    module: ModuleType = pymilvus
    return module


class Milvus:
    """A connection. ``uri``: a server's address, or a folder that ends in ``.db``."""

    def __init__(
        self,
        uri: str,
        *,
        where: str,
        timeout: float,
        key: str = "",
        database: str = "",
        wait: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect. ``timeout``: seconds per call; ``wait``: seconds for which a server that does not answer is
        retried. Raises ``PipelineError``."""
        self._library = library(where)
        self.uri, self._where, self._key, self._timeout = uri, where, key, timeout
        self._retrying = retrying(
            tenacity.stop_after_delay(wait), backoff=_BACKOFF, longest=_SLOWEST, most_advised=wait, sleep=sleep
        )
        try:
            self._client: Any = self._retrying(self._once, self._connect, database)
        except TryAgain as error:
            raise PipelineError(
                f"no Milvus server answers at {uri}: {error}",
                where=where,
                fix="check that it is running, and the address",
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Return what a method of the client returns, retried. Raises ``TryAgain`` if no answer came in time, and
        ``PipelineError`` if the server refuses."""
        return self._retrying(self._once, getattr(self._client, name), *arguments, timeout=self._timeout, **named)

    def asked(self, name: str, *arguments: Any, **named: Any) -> Any:
        """``call`` for commands, which cannot go on without an answer. Raises ``PipelineError``."""
        try:
            return self.call(name, *arguments, **named)
        except TryAgain as error:
            raise PipelineError(f"Milvus at {self.uri} does not answer: {error}", where=self._where) from None

    def _connect(self, database: str) -> Any:
        return self._library.MilvusClient(uri=self.uri, token=self._key, db_name=database, timeout=self._timeout)

    def _once(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return function(*arguments, **named)
        except self._library.MilvusException as error:
            said = in_one_line(str(error.message or error), key=self._key, longest=_SHOWN)
            code = getattr(error.code, "name", str(error.code))
            if any(word in f"{code} {said}" for word in _DENIED):
                raise PipelineError(
                    f"Milvus at {self.uri} does not accept the key: {said}",
                    where=self._where,
                    fix="name the variable that holds it in key_variable: USER:PASSWORD, or a token",
                ) from None
            if code in _PASSING or "connect" in said.lower() or "Retry timeout" in said:
                raise TryAgain(said) from None
            raise PipelineError(f"Milvus at {self.uri} refuses: {said}", where=self._where) from None
