"""Two runs that want one GPU take turns; a run without GPUs waits for nobody."""

from __future__ import annotations

import contextvars
import threading
from types import SimpleNamespace
from typing import cast

import pytest

from flows import gpus
from r1_searcher.params import Params


def test_names_are_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.slots(2) == ["gpu:node:0", "gpu:node:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,7")
    assert gpus.slots(2) == ["gpu:node:4", "gpu:node:6"]
    assert gpus.slots(0) == []


def test_a_run_on_ray_holds_gpus_where_the_cluster_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware = SimpleNamespace(gpus=2)
    for place, address, names in (
        ("inside", "", 2),
        ("local", "", 2),
        ("local", "node:6379", 2),  # an address that does not count
        ("ray", "", 2),
        ("ray", "auto", 0),
        ("ray", "node:6379", 0),
    ):
        params = SimpleNamespace(hardware=hardware, workers=SimpleNamespace(place=place, ray_address=address))
        assert len(gpus.slots_of(cast(Params, params))) == names, (place, address)


def test_none_are_held_where_none_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody answers there
    with gpus.hold_slots([]):
        pass


def test_the_second_run_waits_for_the_first(prefect: str, capsys: pytest.CaptureFixture[str]) -> None:
    order, entered = [], threading.Event()

    def second() -> None:
        with gpus.hold_slots(["gpu:node:1", "gpu:node:2"]):
            order.append("second")
            entered.set()

    with gpus.hold_slots(["gpu:node:0", "gpu:node:1"]):
        # In our context: Prefect's settings, which name the server, belong to a context, and a thread starts without
        # one.
        other = threading.Thread(target=contextvars.copy_context().run, args=(second,))
        other.start()
        assert not entered.wait(3.0)
        order.append("first")
    assert entered.wait(60.0)
    other.join()
    assert order == ["first", "second"]
    assert "waiting for gpu:node:1, which another run holds" in capsys.readouterr().out
