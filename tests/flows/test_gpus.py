"""Two runs that want one GPU take turns; a run without GPUs asks nobody."""

from __future__ import annotations

import threading

import pytest

from flows import gpus


def test_names_are_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.slots(2) == ["gpu:node:0", "gpu:node:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,7")
    assert gpus.slots(2) == ["gpu:node:4", "gpu:node:6"]
    assert gpus.slots(0) == []


def test_none_are_held_where_none_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there
    with gpus.held([]):
        pass


def test_the_second_run_waits_for_the_first(prefect: str, capsys: pytest.CaptureFixture[str]) -> None:
    order, entered = [], threading.Event()

    def second() -> None:
        with gpus.held(["gpu:node:1", "gpu:node:2"]):
            order.append("second")
            entered.set()

    with gpus.held(["gpu:node:0", "gpu:node:1"]):
        other = threading.Thread(target=second)
        other.start()
        assert not entered.wait(3.0)
        order.append("first")
    assert entered.wait(60.0)
    other.join()
    assert order == ["first", "second"]
    assert "waiting for gpu:node:1, which another run holds" in capsys.readouterr().out
