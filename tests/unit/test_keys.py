"""API keys: which variables may be sent where, and that no message shows one."""

from __future__ import annotations

import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.keys import ALLOWED, read_key, without_key

SAFE = "https://api.example.org/v1"
SECRET = "0123456789abcdef-secret"


def key(variable: str, address: str = SAFE, **environment: str) -> str:
    return read_key(variable, address, where="judge.key_variable", fix="export it", environment=environment)


def test_a_key_is_read_under_a_name_for_keys() -> None:
    assert key("") == ""
    assert key("OPENAI_API_KEY", OPENAI_API_KEY=f" {SECRET}\n") == SECRET
    assert key("MY_TOKEN", MY_TOKEN=SECRET, **{ALLOWED: "OTHER, MY_TOKEN"}) == SECRET
    with pytest.raises(PipelineError, match="OPENAI_API_KEY is not set"):
        key("OPENAI_API_KEY")


@pytest.mark.parametrize("variable", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HOME", "API_KEY_OF_MINE"])
def test_other_variables_are_not_sent(variable: str) -> None:
    with pytest.raises(PipelineError, match=f"ends in _API_KEY.*{ALLOWED}"):
        key(variable, **{variable: SECRET})


@pytest.mark.parametrize("given", ["BSAabcdefghijkl0123456789", "abcdef0123456789", "sk-proj-1234", "tvly_1_API_KEYx"])
def test_a_key_in_the_place_of_a_name_is_not_shown(given: str) -> None:
    with pytest.raises(PipelineError) as caught:
        key(given)
    assert given not in str(caught.value)


@pytest.mark.parametrize("bad", [*(f"{SECRET}{end}" for end in ("\nSECOND", " x", "é", "–", "\x00")), "a\tb"])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(bad: str) -> None:
    with pytest.raises(PipelineError, match=r"\$X_API_KEY is not a key") as caught:
        key("X_API_KEY", X_API_KEY=bad)
    assert not any(part in str(caught.value) for part in (SECRET, "SECOND", "a\tb"))


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("https://10.0.0.1/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://api.example.org/v1", False),
        ("http://[", False),
    ],
)
def test_no_key_in_clear_text(address: str, sent: bool) -> None:
    if sent:
        assert key("X_API_KEY", address, X_API_KEY=SECRET) == SECRET
    else:
        with pytest.raises(PipelineError, match="clear text") as caught:
            key("X_API_KEY", address, X_API_KEY=SECRET)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("secret", ['a"b\\c', "plain", 'x\\"'])
def test_a_key_is_taken_out_of_what_servers_say(secret: str) -> None:
    import json

    assert secret not in without_key(f"bad key {secret}", secret)
    assert json.dumps(secret)[1:-1] not in without_key(json.dumps({"bad": secret}), secret)
    assert without_key("text", "") == "text"
