"""Remove leftovers from Prefect's database when `make ui` starts: missed nights, and what others left."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from r1_searcher.shown import show

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


@contextlib.contextmanager
def client(api: str, password: str = "") -> Iterator[SyncPrefectClient]:
    """Yield Prefect's client of a server."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    settings = {PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: password or None}
    with temporary_settings(settings), get_client(sync_client=True) as found:
        yield found


def skip_missed(api: str, password: str = "") -> int:
    """Delete scheduled runs that no worker was there for, because one run now replaces them all; return their
    number."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    late = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": now}}
    return forget_runs(api, password, late, lambda run: bool(run.auto_scheduled))


def forget_runs(api: str, password: str, which: Mapping[str, Any], chosen: Callable[[FlowRun], bool]) -> int:
    """Delete the chosen runs of a filter; return their number."""
    from prefect.client.schemas.filters import FlowRunFilter

    deleted = kept = 0
    with client(api, password) as server:
        while found := server.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(which), limit=200, offset=kept
        ):
            gone = [run for run in found if chosen(run)]
            for run in gone:
                server.delete_flow_run(run.id)
            deleted, kept = deleted + len(gone), kept + len(found) - len(gone)
    return deleted


def delete_leftovers(api: str, password: str) -> None:
    """Delete everything that a worker would act on: waiting runs, deployments, work pools, automations.

    For a database from before there were passwords, to which anybody may have added them; ours are registered again
    afterwards.
    """
    runs = forget_runs(api, password, {"state": {"type": {"any_": ["SCHEDULED"]}}}, lambda run: True)
    with client(api, password) as server:
        for deployment in server.read_deployments():
            server.delete_deployment(deployment.id)
        for pool in server.read_work_pools():
            server.delete_work_pool(pool.name)
        for automation in server.request("POST", "/automations/filter", json={}).json():
            server.request("DELETE", "/automations/{id}", path_params={"id": automation["id"]})
    show(
        "note: Prefect's database is from before its server had a password: its deployments are registered again, "
        f"and waiting runs are dropped ({runs})"
    )
