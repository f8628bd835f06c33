"""Shared by all tests: quiet, offline libraries, and GPU tests that say why they were skipped."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Files that one worker runs: those that share a run, and those that start Ray, which looks for clusters on its machine.
TOGETHER = ("tests/end_to_end/", "tests/engines/test_ray_")
WHOLE_HEAP = 20  # every so many files the whole heap is searched for garbage
_FILES = itertools.count()
USERS_PARAMS = str(Path(__file__).resolve().parents[1] / "params.yaml")
LOOKS_AT_IT = "test_dvc_yaml.py"  # whether dvc.yaml matches the user's own choices

# As in the Makefile, so that `pytest` alone behaves like `make test`.
for name, value in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
}.items():
    os.environ.setdefault(name, value)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: no tested run would see Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker; two threads each would wait for one another


def _leave_the_users_parameters_alone(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: a test that opens this checkout's params.yaml fails, whatever its content."""
    if event != "open" or not isinstance(arguments[0], str) or not arguments[0].endswith("params.yaml"):
        return
    if os.path.abspath(arguments[0]) != USERS_PARAMS:
        return
    frame, files = sys._getframe(), set()
    while frame.f_back is not None:
        frame = frame.f_back
        files.add(Path(frame.f_code.co_filename).name)
    if LOOKS_AT_IT not in files:
        raise AssertionError("a test reads the user's own params.yaml: take r1_searcher/params/defaults.yaml")


sys.addaudithook(_leave_the_users_parameters_alone)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``: one worker runs a file's tests, in order, and those of the files that belong together."""
    from xdist.scheduler import LoadFileScheduling

    class Whole(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return next((group for group in TOGETHER if file.startswith(group)), file)

    return Whole(config, log)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # held by _small_heap; libraries complain about what is left when the process ends


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` without a CUDA device; asks torch only if there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """Freeze what is loaded by now: DeepSpeed collects garbage several times per trainer."""
    if next(_FILES) % WHOLE_HEAP == 0:
        gc.unfreeze()  # cycles that were frozen and are garbage by now would stay forever; a second with all libraries
    gc.collect()  # what the file before left: all of it is younger than the last freeze
    gc.freeze()


@pytest.fixture(scope="session")
def prefect() -> Iterator[str]:
    """A temporary server and database; gives the API's address."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    import flows  # noqa: F401  sets what Prefect reads when it is imported

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())
