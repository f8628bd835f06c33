"""A model behind an OpenAI-compatible server: concurrent, retried, rate-limited, with accounting.

The `openai` client sends requests and retries them with back-off (429 with its Retry-After, 408, 409, 5xx, time-outs,
lost connections, malformed replies). This module adds a rate limiter, tokens and cost, a circuit breaker, and one clear
line for errors that a user can fix. Keys come from the environment and are never shown.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

from r1_searcher.errors import PipelineError
from r1_searcher.keys import read_key
from r1_searcher.net import replies
from r1_searcher.net.retries import CircuitBreaker, RateLimiter
from r1_searcher.net.words import in_one_line
from r1_searcher.params import ChatEndpoint
from r1_searcher.texts import parse_json

Item = TypeVar("Item")
Result = TypeVar("Result")
Messages = Sequence[Mapping[str, str]]  # {"role": …, "content": …}, as in the API

_CONNECT_SECONDS = 10.0
MAX_REPLY_BYTES = 16 << 20  # bytes per reply


class RequestFailed(Exception):
    """One request got no reply after its retries; others may succeed. Its text is the reason in one line."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote (perhaps nothing), why it ended, and the reported tokens."""

    text: str
    finish_reason: str  # stop, length, or what the server reports
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class TokenUsage:
    """Usage of a server so far. ``uncounted``: replies without token counts."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    def cost(self, settings: ChatEndpoint) -> float:
        """Return the cost in the currency of the prices (per million tokens)."""
        spent = self.prompt_tokens * settings.price_prompt + self.completion_tokens * settings.price_completion
        return spent / 1_000_000


class ChatServer:
    """One model on one server. Threads may share it; ``with`` closes its connections.

    ``where`` names the section of params.yaml in messages. Raises ``PipelineError`` if the address or the key's
    variable is unusable.
    """

    def __init__(self, settings: ChatEndpoint, *, where: str) -> None:
        import openai

        self.settings = settings
        self._where = where
        address = _address(settings.server, where)
        self._key = read_key(
            settings.key_variable,
            address,
            where=f"{where}.key_variable",
            fix="export the server's key under this name, or leave key_variable empty for a server without keys",
        )
        self._lock = threading.Lock()
        self._usage = TokenUsage()
        self._breaker = CircuitBreaker(2 * settings.concurrency)
        self._pace = RateLimiter(settings.requests_a_minute / 60)
        seconds = settings.timeout_seconds
        asking = openai.DefaultHttpxClient(
            event_hooks={"request": [self._pace.wait], "response": [_check_completion]},
            timeout=openai.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        )
        self._client = openai.OpenAI(
            base_url=address,
            api_key=self._key or "none",  # the client requires one; a server without keys ignores it
            max_retries=settings.retries,
            http_client=replies.limit(asking, seconds=seconds, most=MAX_REPLY_BYTES),
        )

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; running requests fail."""
        self._client.close()

    @property
    def usage(self) -> TokenUsage:
        """Usage of the replies so far."""
        with self._lock:
            return self._usage

    def complete(
        self, prompt: Messages | str, *, max_tokens: int, stop: Sequence[str] = (), temperature: float = 0.0
    ) -> Reply:
        """Return one reply, to messages (chat/completions) or to a text to continue (completions), without ``stop``
        strings.

        Raises ``RequestFailed`` if this request failed, ``PipelineError`` if all would (unknown model, rejected key).
        """
        import openai

        if self.given_up:
            raise RequestFailed("not asked: the server had stopped answering")
        given: dict[str, Any] = {"model": self.settings.model, "max_tokens": max_tokens, "temperature": temperature}
        if stop:
            given["stop"] = list(stop)
        try:
            completion: Any
            if isinstance(prompt, str):
                completion = self._client.completions.create(prompt=prompt, **given)
            else:
                completion = self._client.chat.completions.create(messages=list(prompt), **given)  # type: ignore[arg-type]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            variable = self.settings.key_variable
            fix = (
                f"check the key in ${variable}"
                if variable
                else f"name the key's variable in {self._where}.key_variable"
            )
            raise PipelineError(f"{self._place} refuses the key: {self._one_line(error)}", fix=fix) from None
        except openai.NotFoundError as error:
            raise PipelineError(
                f"{self._place} knows no model {self.settings.model!r}, or the address is wrong: "
                f"{self._one_line(error)}",
                fix=f"check {self._where}.model and {self._where}.server, which usually ends in /v1",
            ) from None
        except openai.APITimeoutError:
            raise self._failed(f"no answer within {self.settings.timeout_seconds:g} s") from None
        except openai.APIConnectionError as error:
            raise self._failed(self._one_line(error.__cause__ or error)) from None
        except openai.APIStatusError as error:
            self_inflicted = error.status_code < 500 and error.status_code != 429
            raise self._failed(self._one_line(error), answered=self_inflicted) from None
        return self._account(completion)

    def each(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | RequestFailed]]:
        """Yield ``work(item)`` for every item as it finishes, ``concurrency`` at a time.

        ``work`` calls ``complete``, once or more. Its ``RequestFailed`` is yielded in place of a result; any other
        exception stops the rest and is raised.
        """
        pool = ThreadPoolExecutor(self.settings.concurrency)
        try:
            waiting = {pool.submit(work, item): item for item in items}
            for future in as_completed(waiting):
                try:
                    yield waiting[future], future.result()
                except RequestFailed as failure:
                    yield waiting[future], failure
        except BaseException:
            with self._pace.stopped():
                pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown()

    @property
    def given_up(self) -> bool:
        """Whether so many requests in a row went unanswered that no more are sent."""
        return self._breaker.is_open

    @property
    def _place(self) -> str:
        return f"{self._where}: the server at {self.settings.server}"

    def _one_line(self, error: BaseException) -> str:
        """Return an error's text in one line, without the key."""
        return in_one_line(str(error), key=self._key) or type(error).__name__

    def _failed(self, reason: str, *, answered: bool = False) -> RequestFailed:
        self._breaker.note(answered=answered)
        return RequestFailed(f"{self.settings.server}: {reason}")

    def _account(self, completion: Any) -> Reply:
        used = completion.usage
        choice = completion.choices[0]
        text: str | None = choice.message.content if hasattr(choice, "message") else choice.text
        reply = Reply(
            text=(text or "").encode("utf-8", "replace").decode(),  # lone surrogates fit in no file
            finish_reason=choice.finish_reason or "",
            prompt_tokens=(used and used.prompt_tokens) or 0,
            completion_tokens=(used and used.completion_tokens) or 0,
        )
        self._breaker.note(answered=True)
        with self._lock:
            self._usage = TokenUsage(
                self._usage.replies + 1,
                self._usage.prompt_tokens + reply.prompt_tokens,
                self._usage.completion_tokens + reply.completion_tokens,
                self._usage.uncounted + (used is None),
            )
        return reply


def _check_completion(response: Any) -> None:
    """Raise ``ValueError`` for a malformed reply with status 200: the client treats that as a lost connection and
    retries."""
    if response.status_code != 200:
        return
    response.read()
    try:
        said = parse_json(response.content)
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not JSON: {error.msg}") from None
    if not _is_completion(said):
        raise ValueError("the reply is not a completion")


def _is_completion(said: Any) -> bool:
    """Return whether every field that is read has the expected type."""
    try:
        choice, usage = said["choices"][0], said.get("usage")
        text = choice["message"].get("content") if "message" in choice else choice["text"]
        end = choice.get("finish_reason")
        counts = [] if usage is None else [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    except (LookupError, TypeError, AttributeError):
        return False
    written = isinstance(text, str) or (text is None and "message" in choice)
    return (
        written
        and isinstance(end, str | None)
        and all(count is None or (type(count) is int and 0 <= count < 1 << 53) for count in counts)
    )


def _address(server: str, where: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise PipelineError(
            f"not the address of a server: {server!r}", where=f"{where}.server", fix="e.g. http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password:
        raise PipelineError(
            "an address must not contain a key", where=f"{where}.server", fix="put it into the variable of key_variable"
        )
    return server
