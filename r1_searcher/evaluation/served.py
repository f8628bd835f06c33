"""A model behind an OpenAI-compatible server as a policy: an ``Engine`` on text in, text out.

Modes, limits and format rules are the rollout loop's; this module only adds what a server needs. Such a server reveals
no tokens, so tokens are pieces of text here (words, punctuation marks), the unit of ``max_total_tokens``,
``max_passage_tokens`` and the evaluation's counts; ``max_turn_tokens`` is passed to the server and counts the model's
own tokens. Log-probabilities are unknown (NaN): nothing can be trained on this engine's output.

- ``completions`` continues the transcript as it is: the same text that a local policy would read.
- ``chat`` cannot continue a message. What the model wrote becomes the assistant's message, what is inserted the user's
  next one, and a baseline's forced answer becomes the user's request for one. Tags at the beginning of a reply that the
  transcript already has (``<think>``, or those that ask for the answer) are dropped. The end of a reply also ends a
  line.

Replies are stored by the whole request (`.store/reply/`): a repeated request does not reach the server.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1_searcher.chat.chat_server import ChatServer, Reply, RequestFailed
from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint, read_json, write_json
from r1_searcher.files.store import Store
from r1_searcher.params import ServedPolicy, Serving
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Sampling, Turn

_KIND = "reply"  # in the store
TOKENS = "words and marks"  # what this engine's tokens are, for the protocol card
ASK = f"Now answer in a few words. Write {grammar.ANSWER} your answer {grammar.END_ANSWER} and nothing else."

_PIECE = re.compile(r" ?\w{1,8}|\s+|[^\w\s]")
_TOO_LONG = re.compile(r"context.?(length|window)", re.IGNORECASE)
_END = 0  # the token that ends a text

Message = dict[str, str]


@dataclass
class _Row:
    trajectory: int
    ids: list[int]
    prompt: str  # the rendered prompt, ending in <think>
    events: list[Message] = field(default_factory=list)  # what was written (assistant) and inserted (user) since
    unread: tuple[str, str] | None = None  # rest of the model's reply after the last stop, and how the reply ended
    waiting: bool = False

    def add(self, role: str, text: str) -> None:
        if self.events and self.events[-1]["role"] == role:
            self.events[-1]["content"] += text
        elif text:
            self.events.append({"role": role, "content": text})


def open_served(
    policy: ServedPolicy, serving: Serving, opened: contextlib.ExitStack
) -> tuple[ServedEngine, dict[str, Any]]:
    """Return the engine, and the lines of the protocol card that differ from a local policy's."""
    server = opened.enter_context(ChatServer(serving.of(policy), where="evaluate.policies"))
    return ServedEngine(policy, server, Store()), {"dtype": None, "tokens": TOKENS}


class ServedEngine:
    """``Engine`` on a server; see ``r1_searcher.types.protocols`` and this module."""

    overlaps = False

    def __init__(self, policy: ServedPolicy, server: ChatServer, store: Store) -> None:
        self.name = f"openai-compatible {policy.interface}"
        self.server = server
        self.tokenizer = _Messages() if policy.interface == "chat" else None
        self._policy, self._store = policy, store
        self._pieces: list[str] = [""]
        self._ids: dict[str, int] = {}
        self._rows: dict[int, _Row] = {}

    def encode(self, text: str) -> list[int]:
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self._pieces)
            self._pieces.append(piece)
        return self._ids[piece]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(self._pieces[number] for number in token_ids)

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        self._sampling, self._stops = sampling, tuple(stops)
        self._sent = _stop_strings([stop for stop in stops if len(stop) > 1])  # not the ends of sentences
        self._rows = {}

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        text = self.decode(prompt_ids)
        end = text.rindex(grammar.THINK) + len(grammar.THINK)
        row = _Row(trajectory, list(prompt_ids), text[:end])
        row.add("user", text[end:])
        self._rows[trajectory] = row

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        row = self._waiting_row(trajectory)
        row.waiting = False
        if token_ids:  # else the model continues, with what it has already written beyond the stop
            row.unread = None
            row.ids += token_ids
            row.add("user", self.decode(token_ids))

    def release(self, trajectory: int) -> None:
        del self._rows[self._waiting_row(trajectory).trajectory]

    def _waiting_row(self, trajectory: int) -> _Row:
        row = self._rows[trajectory]
        assert row.waiting, f"trajectory {trajectory} has no ended turn"
        return row

    @property
    def asked(self) -> str:
        """Requests to the server so far and their cost; stored replies are not counted."""
        used, settings = self.server.usage, self.server.settings
        said = f"{used.replies} replies, {used.prompt_tokens} + {used.completion_tokens} tokens"
        said += f" ({used.uncounted} replies told none)" if used.uncounted else ""
        return said + (f", {used.cost(settings):.2f} in money" if used.cost(settings) else "")

    def load_weights(self, policy: Path) -> None:
        raise AssertionError("a server's weights are not ours to change")

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        raise PipelineError("a policy on a server gives no log-probabilities", where=self._policy.server)

    def sleep(self) -> None:
        """Does nothing: the server's memory is not ours."""

    def wake(self) -> None:
        """Does nothing."""

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        rows = list(self._rows.values())
        assert not any(row.waiting for row in rows), "an ended turn was neither extended nor released"
        self._read([row for row in rows if row.unread is None])
        return [self._turn(row) for row in rows]

    # --- one turn of a reply

    def _turn(self, row: _Row) -> Turn:
        assert row.unread is not None
        text, end = row.unread
        places = [(text.find(stop), stop) for stop in self._stops]
        place, stop = min(((place + len(stop), stop) for place, stop in places if place >= 0), default=(-1, ""))
        said = text[:place] if stop else text
        row.unread = (text[len(said) :], end)
        if not stop:
            stop = end
            if end == grammar.FINISH_END_OF_TEXT and said.strip() and "\n" in self._stops and self.tokenizer:
                said, stop = f"{said}\n", "\n"
        ids = self.encode(said) + [_END] * (stop == grammar.FINISH_END_OF_TEXT)
        room = self._sampling.max_total_tokens - len(row.ids)
        if len(ids) > room or (len(ids) == room and stop == grammar.FINISH_TURN_LIMIT):
            ids, stop = ids[:room], grammar.FINISH_LENGTH_LIMIT
        row.ids += ids
        row.add("assistant", self.decode(ids))
        row.waiting = True
        return Turn(row.trajectory, ids, [math.nan] * len(ids), stop)

    # --- requests

    def _read(self, rows: Sequence[_Row]) -> None:
        """Fetch every row's reply. All are requested before a failure is raised, and replies that came are stored."""
        failures: list[RequestFailed] = []
        for row, reply in self.server.each(self._reply, rows):
            if isinstance(reply, Reply):
                row.unread = self._parsed_reply(row, reply)
            elif _TOO_LONG.search(str(reply)):
                row.unread = ("", grammar.FINISH_LENGTH_LIMIT)
            else:
                failures.append(reply)
        if failures:
            raise PipelineError(
                f"{len(failures)} of {len(rows)} requests to the policy's server failed: {failures[0]}",
                fix="check the server, and run the same command again: answered requests are kept",
            )

    def _reply(self, row: _Row) -> Reply:
        asked: dict[str, Any] = {
            "prompt": self._conversation(row) if self.tokenizer else self.decode(row.ids),
            "max_tokens": self._sampling.max_turn_tokens,
            "temperature": self._sampling.temperature,
            "stop": [*self._sent.values()],
        }
        request = {"server": self._policy.server, "model": self._policy.model, **asked}
        key = fingerprint(request)
        if (kept := self._store.get(_KIND, key)) is not None:
            return Reply(**read_json(kept / "reply.json")["reply"])
        reply = self.server.complete(**asked)
        with self._store.put(_KIND, key) as draft:
            write_json(draft / "reply.json", {"request": request, "reply": vars(reply)})
        return reply

    def _conversation(self, row: _Row) -> list[Message]:
        """Return the transcript as messages that alternate between user and assistant."""
        assert self.tokenizer is not None
        messages = self.tokenizer.messages(row.prompt)
        for event in row.events:
            text = event["content"]
            if event["role"] == "user":
                wanted = text.endswith(grammar.FORCED_ANSWER)
                text = text.removesuffix(grammar.FORCED_ANSWER).strip()
                text = "\n\n".join(filter(None, [text, ASK if wanted else ""]))
            if messages[-1]["role"] == event["role"]:
                messages[-1] = {"role": event["role"], "content": f"{messages[-1]['content']}\n\n{text}"}
            else:
                messages.append({"role": event["role"], "content": text})
        return messages

    def _parsed_reply(self, row: _Row, reply: Reply) -> tuple[str, str]:
        """Return a reply's text with the tag that stopped it and without tags that the transcript already has, and how
        it ended."""
        text = reply.text
        if reply.finish_reason == "stop":
            ends = [sent for tag, sent in self._sent.items() if text.endswith(tag.removesuffix(sent))]
            text += ends[0] if ends else ""
        if self.tokenizer:
            there = [grammar.THINK] if not row.events else []
            if row.events and row.events[-1]["content"].endswith(grammar.FORCED_ANSWER):
                there = [grammar.THINK, grammar.END_THINK, grammar.ANSWER]
            for tag in there:
                if text.lstrip().startswith(tag):
                    text = text.lstrip().removeprefix(tag)
        return text, grammar.FINISH_TURN_LIMIT if reply.finish_reason == "length" else grammar.FINISH_END_OF_TEXT


def _stop_strings(tags: Sequence[str]) -> dict[str, str]:
    """Return the stop string to send for each tag: the tag's end.

    A server removes the stop string and does not say whether it met one or the text just ended; a leftover beginning of
    a tag shows that the tag was written.
    """
    begun = {tag: 2 if tag.startswith("<|") else 1 for tag in tags}
    sent = {}
    for tag, least in begun.items():
        alike = [other for other in tags if other != tag and other[: begun[other]] == tag[:least]]
        kept = next(kept for kept in range(least, len(tag)) if not any(one.startswith(tag[:kept]) for one in alike))
        sent[tag] = tag[kept:]
    return sent


class _Messages:
    """Replaces a tokenizer's chat template: renders messages as text, and finds them again."""

    chat_template = "messages"

    def __init__(self) -> None:
        self._rendered: dict[str, list[Message]] = {}

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **_: Any) -> str:
        text = "".join(f"{message['role']}: {message['content']}\n\n" for message in messages) + "assistant: "
        self._rendered[text + grammar.THINK] = [dict(message) for message in messages]
        return text

    def messages(self, prompt: str) -> list[Message]:
        """Return the messages of a rendered prompt; a prompt for base models is one user message."""
        return list(self._rendered.get(prompt, [{"role": "user", "content": prompt}]))
