"""Connections that cannot be held: what uvicorn has no limits for.

A client has so many connections, a request so many seconds to come, and an answer that nobody reads so many seconds to
move on. Without these one client that begins a thousand requests, or reads none of its answers, is all that is served.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def protocol(*, seconds: float, connections: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol with limits: ``seconds`` for a request's head and for an answer that does not move,
    ``connections`` of one address."""

    class Limited(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _coming: asyncio.TimerHandle | None = None
        _going: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            host = self.client and self.client[0]
            if sum(bool(other.client) and other.client[0] == host for other in self.connections) > connections:
                transport.abort()
                return
            self._expect()

        def data_received(self, data: bytes) -> None:
            if self._idle() and self._coming is None:
                self._expect()
            super().data_received(data)
            if not self._idle():
                _cancelled(self._coming)
                self._coming = None

        def connection_lost(self, exc: Exception | None) -> None:
            _cancelled(self._coming)
            _cancelled(self._going)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            _cancelled(self._going)
            self._going = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            _cancelled(self._going)
            super().resume_writing()

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _expect(self) -> None:
            self._coming = self.loop.call_later(seconds, self.transport.abort)

    return Limited


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
