"""The client of chat servers against a real HTTP server: retries, rate limit, faults, counts."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from chat_servers import Answer, ScriptedServer, completion, fault, serving, settings
from fastapi.responses import Response

from r1_searcher.chat.chat_server import ChatServer, Reply, RequestFailed, TokenUsage
from r1_searcher.errors import PipelineError

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture
def unused_address() -> Iterator[str]:
    """Return an address where nobody listens: the port is taken by a socket that does not reply."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def asked(
    answer: Answer, *, times: int = 1, **changes: Any
) -> tuple[list[Reply | RequestFailed], ScriptedServer, TokenUsage]:
    """Return the replies to ``times`` requests in turn."""
    script = ScriptedServer(answer)
    got: list[Reply | RequestFailed] = []
    with serving(script.app) as url, ChatServer(settings(url, **changes), where="judge") as server:
        for _ in range(times):
            try:
                got.append(server.complete(HELLO, max_tokens=7, stop=["###"]))
            except RequestFailed as failure:
                got.append(failure)
        return got, script, server.usage


def test_a_reply_and_what_is_asked() -> None:
    got, script, usage = asked(lambda body, number: "Hello.")
    assert got == [Reply("Hello.", "stop", 10, 2)]
    assert usage == TokenUsage(1, 10, 2, 0)
    request = script.requests[0]
    assert request["model"] == "scripted" and request["messages"] == HELLO
    assert request["temperature"] == 0 and request["max_tokens"] == 7 and request["stop"] == ["###"]


def test_nothing_written_and_nothing_counted() -> None:
    got, _, usage = asked(lambda body, number: completion(None, usage=False, finish_reason="length"))
    assert got == [Reply("", "length", 0, 0)]
    assert usage == TokenUsage(1, 0, 0, 1)


def test_half_a_surrogate_pair_becomes_something_that_a_file_can_hold() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "\ud800 a"}}], "usage": None}
    got, _, _ = asked(lambda *_: Response(json.dumps(body), media_type="application/json"))
    assert got == [Reply("? a", "stop")]


def test_a_text_is_continued() -> None:
    script = ScriptedServer(lambda body, number: f"{body['prompt']} world")
    with serving(script.app) as url, ChatServer(settings(url), where="judge") as server:
        assert server.complete("hello", max_tokens=7) == Reply("hello world", "stop")
        assert server.usage.uncounted == 1
    assert "messages" not in script.requests[0] and "stop" not in script.requests[0]


def test_money() -> None:
    spent = TokenUsage(5, prompt_tokens=2_000_000, completion_tokens=500_000)
    assert spent.cost(settings("http://h/v1", price_prompt=0.15, price_completion=0.6)) == pytest.approx(0.6)
    assert spent.cost(settings("http://h/v1")) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [
        lambda: fault(429, "slow down", retry_after="0.01"),
        lambda: fault(500, "oops"),
        lambda: fault(503, "starting"),
        lambda: Response('{"choices": [', media_type="application/json"),
        lambda: Response("<html>a proxy's page</html>", media_type="text/html"),
        lambda: Response('{"choices": []}', media_type="application/json"),
        lambda: Response("[]", media_type="application/json"),
        lambda: Response("[" * 100_000, media_type="application/json"),
        lambda: Response('{"choices": [3]}', media_type="application/json"),
        lambda: Response(b"\xff{", media_type="application/json"),
    ],
    ids=["429", "500", "503", "cut JSON", "HTML", "no choice", "no object", "deep", "a number", "no text"],
)
def test_trouble_passes(trouble: Any) -> None:
    got, script, usage = asked(lambda body, number: trouble() if number < 2 else "at last")
    assert [reply.text for reply in got if isinstance(reply, Reply)] == ["at last"]
    assert len(script.requests) == 3
    assert usage.replies == 1


@pytest.mark.slow
def test_an_answer_that_takes_too_long_is_asked_for_again() -> None:
    got, script, _ = asked(lambda body, number: "at last" if number else 30.0, timeout_seconds=1.5)
    assert [reply.text for reply in got if isinstance(reply, Reply)] == ["at last"]
    assert len(script.requests) >= 2


@pytest.mark.slow
def test_an_answer_that_always_takes_too_long() -> None:
    got, _, _ = asked(lambda body, number: 30.0, timeout_seconds=0.2, retries=1)
    assert isinstance(got[0], RequestFailed) and "no answer within 0.2 s" in str(got[0])


@pytest.mark.slow
def test_retry_after_is_obeyed() -> None:
    _, script, _ = asked(lambda body, number: "yes" if number else fault(429, "slow down", retry_after="0.6"))
    first, second = (request["at"] for request in script.requests)
    assert second - first >= 0.6


def test_trouble_that_stays_fails_this_request_alone() -> None:
    got, script, _ = asked(lambda body, number: fault(500, "oops") if number < 3 else "fine", times=2, concurrency=8)
    assert isinstance(got[0], RequestFailed) and "500" in str(got[0]) and "oops" in str(got[0])
    assert got[1] == Reply("fine", "stop", 10, 2)
    assert len(script.requests) == 4


def test_what_the_server_will_not_read_is_not_asked_again() -> None:
    got, script, _ = asked(lambda body, number: fault(400, "too long"), times=5, concurrency=1)
    assert all(isinstance(failure, RequestFailed) and "too long" in str(failure) for failure in got)
    assert len(script.requests) == 5  # and the server is not considered down


def test_a_server_that_is_gone_is_given_up(unused_address: str) -> None:
    with ChatServer(settings(unused_address, concurrency=2), where="judge") as server:
        failures = [failure for _, failure in server.each(lambda _: server.complete(HELLO, max_tokens=1), range(200))]
        assert server.given_up
    assert len(failures) == 200 and all(isinstance(failure, RequestFailed) for failure in failures)
    reasons = [str(failure) for failure in failures]
    assert any(unused_address in reason and "refused" in reason for reason in reasons)
    assert sum("not asked" in reason for reason in reasons) >= 190


def test_unknown_model_is_said_at_once() -> None:
    with pytest.raises(PipelineError, match=r"knows no model 'scripted'.*no such thing.*judge\.model"):
        asked(lambda body, number: fault(404, "no such thing"))


def test_refused_key_is_said_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "sk-very-secret")
    with pytest.raises(PipelineError, match=r"refuses the key.*\$TEST_API_KEY") as caught:
        asked(lambda body, number: fault(401, "bad key sk-very-secret"), key_variable="TEST_API_KEY")
    assert "very-secret" not in str(caught.value)
    with pytest.raises(PipelineError, match=r"refuses the key.*judge\.key_variable"):
        asked(lambda body, number: fault(401, "a key is needed"))


def test_the_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_API_KEY", "sk-very-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    _, script, _ = asked(lambda body, number: "yes", key_variable="TEST_API_KEY")
    assert script.requests[0]["key"] == "Bearer sk-very-secret"
    _, script, _ = asked(lambda body, number: "yes")
    assert script.requests[0]["key"] == "Bearer none"  # a local server never sees a key


@pytest.mark.parametrize("value", [None, " "])
def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TEST_API_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_API_KEY", value)
    with pytest.raises(PipelineError, match="TEST_API_KEY is not set"):
        ChatServer(settings("http://127.0.0.1:1/v1", key_variable="TEST_API_KEY"), where="judge")


def test_a_key_in_the_parameters_is_refused_and_not_shown() -> None:
    with pytest.raises(PipelineError, match="name of an environment variable") as caught:
        ChatServer(settings("http://127.0.0.1:1/v1", key_variable="sk-very-secret"), where="judge")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_no_address(address: str) -> None:
    with pytest.raises(PipelineError, match=r"judge\.server: not the address"):
        ChatServer(settings(address), where="judge")


def test_a_key_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(PipelineError, match="must not contain a key") as caught:
        ChatServer(settings("http://me:hidden@host/v1"), where="judge")
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_requests_run_side_by_side_and_no_more_than_allowed() -> None:
    script = ScriptedServer(lambda body, number: 0.1)
    with serving(script.app) as url, ChatServer(settings(url, concurrency=3), where="judge") as server:
        got = dict(server.each(lambda item: server.complete(HELLO, max_tokens=item), range(1, 10)))
    assert set(got) == set(range(1, 10)) and all(isinstance(reply, Reply) for reply in got.values())
    assert script.busiest == 3
    assert server.usage == TokenUsage(9, 90, 18, 0)


@pytest.mark.slow
def test_requests_keep_the_pace_retries_too() -> None:
    script = ScriptedServer(lambda body, number: fault(500, "oops") if number == 1 else "yes")
    with serving(script.app) as url, ChatServer(settings(url, requests_a_minute=600), where="judge") as server:
        assert len(list(server.each(lambda _: server.complete(HELLO, max_tokens=1), range(5)))) == 5
    times = [request["at"] for request in script.requests]
    assert len(times) == 6
    assert times[-1] - times[0] >= 0.45  # 600 per minute: 0.1 s each


def test_what_nobody_can_mend_by_waiting_stops_the_rest() -> None:
    script = ScriptedServer(lambda body, number: fault(404, "no such model"))
    with (
        serving(script.app) as url,
        ChatServer(settings(url, concurrency=2), where="judge") as server,
        pytest.raises(PipelineError, match="knows no model"),
    ):
        list(server.each(lambda _: server.complete(HELLO, max_tokens=1), range(100)))
    assert len(script.requests) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_who_stops_need_not_wait_for_the_pace() -> None:
    script = ScriptedServer(lambda body, number: "yes")
    began = time.monotonic()
    with serving(script.app) as url, ChatServer(settings(url, requests_a_minute=0.5), where="judge") as server:
        for _ in server.each(lambda _: server.complete(HELLO, max_tokens=1), range(50)):
            break
        assert time.monotonic() - began < 60  # the second request would be sent after 120 s
    assert len(script.requests) == 1


def test_what_is_stopped_can_be_asked_again() -> None:
    script = ScriptedServer(lambda body, number: "yes")
    with serving(script.app) as url, ChatServer(settings(url, concurrency=2), where="judge") as server:
        for _ in server.each(lambda item: server.complete(HELLO, max_tokens=item), range(1, 50)):
            break
        assert len(script.requests) < 40
        assert len(list(server.each(lambda item: server.complete(HELLO, max_tokens=item), range(1, 5)))) == 4
