"""The forms of OpenAI's API that the server reads and writes (https://platform.openai.com/docs/api-reference)."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from r1_searcher.asking.asker import Asked
from r1_searcher.serving.answerer import AnswerRequest
from r1_searcher.transcripts import grammar

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EXTRA = "r1_searcher"  # the field of our own, in requests and in responses
# What would change the answer and is not done: a value other than these is refused, and so is any other field.
_NOT_DONE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
# Fields that change no answer: about the client, or about tools, of which there are none.
_NO_EFFECT = (
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
)
_ENDINGS = {
    grammar.FINISH_TURN_LIMIT: "length",
    grammar.FINISH_LENGTH_LIMIT: "length",
}

Temperature = Annotated[float, Field(ge=0, le=2, strict=True)]  # strict: neither true nor "1" is a number
Include = Literal["thoughts", "searches", "documents"]


class BadRequest(Exception):
    """A request that cannot be answered, with its status and the parameter that is at fault."""

    def __init__(self, line: str, param: str | None = None, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(line)
        self.param, self.status, self.code = param, status, code


class Extra(BaseModel):
    """What a request may say beyond OpenAI's API, in the field ``r1_searcher``."""

    model_config = ConfigDict(extra="forbid")

    include: list[Include] = []  # what ``content`` holds beside the answer
    trace: bool = True  # whether the response has the transcript and the passages' texts
    k: Annotated[int, Field(ge=1)] | None = None
    max_searches: Annotated[int, Field(ge=1)] | None = None
    search: bool = True  # false: answer at once, to compare


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str = ""
    stream: Annotated[bool, Field(strict=True)] | None = None
    stream_options: _StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    r1_searcher: Extra = Extra()

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(one for one in given if one)

    def question(self) -> str:
        """Return the question. Raises ``BadRequest``."""
        raise NotImplementedError

    def wanted(self) -> AnswerRequest:
        """Return what is asked for. Raises ``BadRequest`` for what this server does not do."""
        for name, value in (self.model_extra or {}).items():
            _check_field(name, value)
        if len(self.stops) > 4:
            raise BadRequest("at most 4 stop strings", "stop")
        question = self.question()
        if not question.strip():
            raise BadRequest("the question is empty", "messages" if isinstance(self, ChatRequest) else "prompt")
        # Lone surrogates, which JSON can carry and tokenizers may reject, become question marks.
        return AnswerRequest(
            question.encode("utf-8", "replace").decode().strip(),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            k=self.r1_searcher.k,
            max_searches=self.r1_searcher.max_searches,
            mode="search" if self.r1_searcher.search else "no_search",
            by_token=bool(self.stream),
        )


def _check_field(name: str, value: Any) -> None:
    """Raise ``BadRequest`` for a field that would change the answer, or that is not known; null is no value."""
    if value is None or name in _NO_EFFECT:
        return
    if name not in _NOT_DONE:
        raise BadRequest(f"unrecognised field: {name}"[:200], name[:200], code="unknown_parameter")
    if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in _NOT_DONE[name]):
        raise BadRequest(f"{name} = {value!r} is not supported"[:200], name, code="unsupported_parameter")


class _Part(BaseModel):
    type: str
    text: str | None = None


class _Message(BaseModel):
    role: str
    content: str | list[_Part] | None = None


class ChatRequest(_Request):
    """A chat. The policy answers single questions: the last message is the question, earlier ones are not read."""

    messages: Annotated[list[_Message], Field(min_length=1)]

    def question(self) -> str:
        """Return the last message's text. Raises ``BadRequest`` if it is not the user's, or not text."""
        last = self.messages[-1]
        if last.role != "user":
            raise BadRequest(f"the last message is the question: its role is user, not {last.role!r}", "messages")
        if isinstance(last.content, str) or last.content is None:
            return last.content or ""
        if any(part.type != "text" for part in last.content):
            raise BadRequest("a question is text alone", "messages")
        return "\n".join(part.text or "" for part in last.content)


class CompletionRequest(_Request):
    """A question as a prompt; the policy's own prompt is put around it."""

    prompt: str | list[Any]

    def question(self) -> str:
        """Return the prompt. Raises ``BadRequest`` for several prompts, and for tokens."""
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(given) != 1 or not isinstance(given[0], str):
            raise BadRequest("one prompt, as text", "prompt")
        return given[0]


def error_body(line: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error as OpenAI's clients expect it."""
    return {"error": {"message": line, "type": kind, "param": param, "code": code}}


def finish_reason(asked: Asked) -> str:
    """Return OpenAI's word for how a trajectory ended; the exact one is in the trace."""
    return _ENDINGS.get(asked.finish_reason, "stop")


def usage(asked: Asked) -> dict[str, int]:
    """Return the tokens of the prompt and of the policy. Inserted passages are neither: ``r1_searcher`` has them."""
    source = asked.rollouts["token_source"][0].as_py()
    prompt, written = source.count(grammar.PROMPT), source.count(grammar.POLICY)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def extra(asked: Asked, *, trace: bool) -> dict[str, Any]:
    """Return the field of our own in a response: answer, citations, searches; with ``trace`` all that is known."""
    said = asked.as_json()
    row = asked.rollouts
    short = {"answer": said["answer"], "finish_reason": said["finish_reason"], "citations": said["citations"]}
    passages = ("passage_id", "title", "text", "score") if trace else ("passage_id", "title", "score")
    short["searches"] = [
        search | {"passages": [{name: one[name] for name in passages} for one in search["passages"]]}
        for search in said["searches"]
    ]
    short["document_tokens"] = row["token_source"][0].as_py().count(grammar.DOCUMENT)
    if trace:
        short["trace"] = {
            "question": row["question"][0].as_py(),
            "transcript": said["transcript"],
            "seed": row["seed"][0].as_py(),
            "first_token_seconds": said["first_token_seconds"],
            "seconds": said["seconds"],
        }
    return short


class ResponseForm:
    """The parts that all responses to one request share."""

    def __init__(self, path: str, model: str) -> None:
        self.chat = path == CHAT
        self._head = {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, content: str, reasoning: str, asked: Asked, ended: str, *, trace: bool) -> dict[str, Any]:
        """Return a whole response."""
        message = {"role": "assistant", "content": content, "reasoning_content": reasoning, "refusal": None}
        choice = {"message": message} if self.chat else {"text": content}
        return {
            **self._head,
            "object": "chat.completion" if self.chat else "text_completion",
            "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": ended}],
            "usage": usage(asked),
            EXTRA: extra(asked, trace=trace),
        }

    def chunk(
        self, content: str = "", reasoning: str = "", ended: str | None = None, own: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return an event of a streamed response; ``own``: its field ``r1_searcher``."""
        delta = {name: text for name, text in (("content", content), ("reasoning_content", reasoning)) if text}
        choice = {"delta": delta} if self.chat else {"text": content}
        return {
            **self._head,
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": ended}],
        } | ({EXTRA: own} if own is not None else {})

    def begin(self) -> dict[str, Any]:
        """Return a chat's first event, which names the role."""
        first = self.chunk()
        first["choices"][0]["delta"] = {"role": "assistant", "content": ""}
        return first

    def used(self, asked: Asked) -> dict[str, Any]:
        """Return the event with the usage, which has no choice."""
        return {**self.chunk(), "choices": [], "usage": usage(asked)}
