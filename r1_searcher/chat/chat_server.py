"""A model behind any OpenAI-compatible server: asked concurrently, retried, paced, accounted for.

The `openai` client does the talking and the retries with back-off (429 with its Retry-After, 408, 409,
5xx, time-outs, lost connections, replies that are no completion). What it does not do stands
here: a limit of requests a minute, tokens and money, giving up a server that is gone, and one clear
line for what a user can mend. Keys come from the environment and are never shown.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

from r1_searcher.chat.rate_limiter import Pace
from r1_searcher.errors import PipelineError
from r1_searcher.keys import read_key, without_key
from r1_searcher.net import replies
from r1_searcher.params import ChatEndpoint
from r1_searcher.texts import parse_json

Item = TypeVar("Item")
Result = TypeVar("Result")
Messages = Sequence[Mapping[str, str]]  # {"role": …, "content": …}, as the API has them

_CONNECT_SECONDS = 10.0
MAX_REPLY_BYTES = 16 << 20  # bytes of a reply
_SHOWN = 200  # characters of a server's own words in our messages


class RequestFailed(Exception):
    """One request got no reply, its retries included; others may still do. Its text is the reason, in one line."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote (empty where it wrote nothing), why it ended, and the tokens that were counted."""

    text: str
    finish_reason: str  # stop, length, or what the server says
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class TokenUsage:
    """What a server's replies have cost. ``uncounted``: replies that did not say their tokens."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0

    def cost(self, settings: ChatEndpoint) -> float:
        """Money, in the currency of the prices (a million tokens)."""
        spent = self.prompt_tokens * settings.price_prompt + self.completion_tokens * settings.price_completion
        return spent / 1_000_000


class ChatServer:
    """One model on one server. May be shared by threads; ``with`` closes its connections.

    ``where`` names the section of params.yaml for messages. Raises ``PipelineError`` where the address
    or the key's variable is of no use.
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
        self._failures = 0  # in a row, of requests that the server did not answer
        self._pace = Pace(settings.requests_a_minute)
        seconds = settings.timeout_seconds
        asking = openai.DefaultHttpxClient(
            event_hooks={"request": [self._pace.wait], "response": [_check_completion]},
            timeout=openai.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        )
        self._client = openai.OpenAI(
            base_url=address,
            api_key=self._key or "none",  # the client insists on one; a server without keys looks at none
            max_retries=settings.retries,
            http_client=replies.limit(asking, seconds=seconds, most=MAX_REPLY_BYTES),
        )

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; requests that are under way fail."""
        self._client.close()

    @property
    def usage(self) -> TokenUsage:
        """What the replies so far have cost."""
        with self._lock:
            return self._usage

    def complete(
        self, prompt: Messages | str, *, max_tokens: int, stop: Sequence[str] = (), temperature: float = 0.0
    ) -> Reply:
        """One reply: to messages (chat/completions), or to a text that is continued (completions). ``stop``
        strings are not part of it.

        ``RequestFailed``: this request had no luck. ``PipelineError``: none will have (unknown model,
        refused key).
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
            raise PipelineError(f"{self._place} refuses the key: {self._said(error)}", fix=fix) from None
        except openai.NotFoundError as error:
            raise PipelineError(
                f"{self._place} knows no model {self.settings.model!r}, or is no such address: {self._said(error)}",
                fix=f"check {self._where}.model and {self._where}.server, which usually ends in /v1",
            ) from None
        except openai.APITimeoutError:
            raise self._failed(f"no answer within {self.settings.timeout_seconds:g} s") from None
        except openai.APIConnectionError as error:
            raise self._failed(self._said(error.__cause__ or error)) from None
        except openai.APIStatusError as error:
            self_inflicted = error.status_code < 500 and error.status_code != 429
            raise self._failed(self._said(error), answered=self_inflicted) from None
        return self._account(completion)

    def each(
        self, work: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | RequestFailed]]:
        """``work(item)`` of every item, as they are done, ``concurrency`` of them at a time.

        ``work`` calls ``complete``, once or many times. A ``RequestFailed`` of it is yielded in the place
        of its result; anything else stops the rest and is raised.
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
        return self._failures >= 2 * self.settings.concurrency

    @property
    def _place(self) -> str:
        return f"{self._where}: the server at {self.settings.server}"

    def _said(self, error: BaseException) -> str:
        """An error's text in one line, without the key."""
        text = " ".join(str(error).split()) or type(error).__name__
        text = without_key(text, self._key)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

    def _failed(self, reason: str, *, answered: bool = False) -> RequestFailed:
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
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
        with self._lock:
            self._failures = 0
            self._usage = TokenUsage(
                self._usage.replies + 1,
                self._usage.prompt_tokens + reply.prompt_tokens,
                self._usage.completion_tokens + reply.completion_tokens,
                self._usage.uncounted + (used is None),
            )
        return reply


def _check_completion(response: Any) -> None:
    """Raise where a 200 is no completion: the client takes that for a lost connection, and tries again."""
    if response.status_code != 200:
        return
    response.read()
    try:
        said = parse_json(response.content)
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not JSON: {error.msg}") from None
    if not _is_completion(said):
        raise ValueError("the reply is no completion")


def _is_completion(said: Any) -> bool:
    """Whether all that is read of a reply has the type that it is read as."""
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
            "an address must not hold a key", where=f"{where}.server", fix="put it into the variable of key_variable"
        )
    return server
