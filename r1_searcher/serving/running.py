"""One request while it is answered: its thread's pieces as events of the response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from r1_searcher.asking.asker import Asked
from r1_searcher.asking.citations import Search
from r1_searcher.asking.spans import Kind
from r1_searcher.serving import forms
from r1_searcher.serving.answerer import Answerer, AnswerRequest
from r1_searcher.serving.content import ContentSplitter
from r1_searcher.serving.metrics import PolicyMetrics
from r1_searcher.serving.slots import Slots
from r1_searcher.transcripts.grammar import LOST_FINISHES


@dataclass(frozen=True)
class Answering:
    """One request. Leaving ``events`` or ``whole`` early cancels its generation and frees its slot."""

    answerer: Answerer
    asked: forms.ChatRequest | forms.CompletionRequest
    reply: forms.ResponseForm
    slots: Slots
    threads: ThreadPoolExecutor
    counted: PolicyMetrics

    async def whole(self) -> dict[str, Any]:
        """Return the whole response. Raises as ``events``."""
        wanted, content = self.asked.wanted(), self._content()
        async with self.slots.taken():
            found = await self._run(wanted, lambda kind, text: content.feed(kind, text) and None, content.searched)
        content.end()
        ended = "stop" if content.stopped else forms.finish_reason(found)
        return self.reply.whole(content.content, content.reasoning, found, ended, trace=self._trace)

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield the events of a streamed response.

        Raises ``BadRequest``, ``Busy``, ``PipelineError`` and ``HTTPException`` (the retriever failed).
        """
        wanted, content = self.asked.wanted(), self._content()
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Any] | None]()

        def told(what: str, value: Any) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, (what, value))

        async with self.slots.taken():
            running = asyncio.ensure_future(
                self._run(wanted, lambda kind, text: told("span", (kind, text)), lambda search: told("search", search))
            )
            running.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                begun = False
                while (came := await pieces.get()) is not None:
                    if not begun and self.reply.chat:
                        yield self.reply.begin()
                    begun = True
                    for event in self._events_of(content, *came):
                        yield event
                found = await running
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await running
        rest, _ = content.end()
        if rest:
            yield self.reply.chunk(content=rest)
        ended = "stop" if content.stopped else forms.finish_reason(found)
        yield self.reply.chunk(ended=ended, own=forms.extra(found, trace=self._trace))
        if self.asked.stream_options and self.asked.stream_options.include_usage:
            yield self.reply.used(found)

    def _events_of(self, content: ContentSplitter, what: str, value: Any) -> list[dict[str, Any]]:
        if what == "span":
            said = {"kind": value[0]}
            text, reasoning = content.feed(*value)
        else:
            said = {"search": _short(value, trace=self._trace)}
            text, reasoning = content.searched(value)
            return [self.reply.chunk(text, reasoning, own=said)]
        return [self.reply.chunk(text, reasoning, own=said)] if text or reasoning else []

    async def _run(
        self, wanted: AnswerRequest, on_span: Callable[[Kind, str], Any], on_search: Callable[[Search], Any]
    ) -> Asked:
        """Answer in a thread; if this is cancelled, so is the job, and the thread is waited for."""
        job = self.answerer.job(wanted)
        answer = asyncio.wrap_future(self.threads.submit(job.run, on_span, on_search))
        try:
            found = await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.counted.cancelled.inc()
            job.cancel()
            with contextlib.suppress(Exception):
                await answer
            raise
        if found.finish_reason in LOST_FINISHES:
            failed = next((one.error for one in found.searches if one.error), None)
            raise forms.BadRequest(f"a search failed: {failed or 'it did not say why'}", status=502)
        self.counted.note_answer(found)
        return found

    def _content(self) -> ContentSplitter:
        return ContentSplitter(self.asked.r1_searcher.include, self.asked.stops)

    @property
    def _trace(self) -> bool:
        return self.asked.r1_searcher.trace


def _short(search: Search, *, trace: bool) -> dict[str, Any]:
    passages = [
        {"passage_id": one.passage_id, "title": one.title, "score": one.score} | ({"text": one.text} if trace else {})
        for one in search.passages
    ]
    return {"query": search.query, "passages": passages}
