"""Limits on connections that uvicorn does not have.

Per client: a number of connections, seconds for a request to arrive, and seconds for an unread response to make
progress. Without them a client that starts a thousand requests, or reads none of its responses, would block all others.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def protocol(*, seconds: float, connections: int) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with limits: ``seconds`` for a request's head and for a stalled response,
    ``connections`` per address."""

    class Limited(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _coming: asyncio.TimerHandle | None = None
        _going: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            host = self.client and self.client[0]
            if sum(bool(other.client) and other.client[0] == host for other in self.connections) > connections:
                transport.abort()
                return
            self._start_timer()

        def data_received(self, data: bytes) -> None:
            if self._idle() and self._coming is None:
                self._start_timer()
            super().data_received(data)
            if not self._idle():
                _cancel(self._coming)
                self._coming = None

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._coming)
            _cancel(self._going)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            _cancel(self._going)
            self._going = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            _cancel(self._going)
            super().resume_writing()

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _start_timer(self) -> None:
            self._coming = self.loop.call_later(seconds, self.transport.abort)

    return Limited


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
