"""Run a flow that a stage of another flow starts as that flow's child, in a process of its own.

The stage's process gets the parent's id through the environment. Prefect shows a child below its parent, cancels it
with the parent, and offers no separate *Cancel*.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

PARENT = "R1SEARCHER_PARENT_RUN"
STOPPED = "stopped by an interrupt; start the same run again to resume"


def parent_environment() -> dict[str, str]:
    """Return the variable that tells a stage's process which run starts it; empty outside of a run."""
    from prefect.context import FlowRunContext, TaskRunContext

    task, flow = TaskRunContext.get(), FlowRunContext.get()
    run = task.task_run.flow_run_id if task else flow.flow_run.id if flow and flow.flow_run else None
    return {PARENT: str(run)} if run else {}


def run_as_child(flow: Flow[..., Any], **parameters: Any) -> Any:
    """Run ``flow``, as a child if there is a parent; return its result. An interrupted run ends as cancelled."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    with get_client(sync_client=True) as client:
        run = _create_run(client, flow, parameters)
        try:
            return run_flow(flow, flow_run=run, parameters=parameters)
        except KeyboardInterrupt:
            _cancel(client, run)
            raise


def _create_run(client: SyncPrefectClient, flow: Flow[..., Any], parameters: dict[str, Any]) -> FlowRun:
    from prefect.states import Pending

    return client.create_flow_run(
        flow,
        name=flow.flow_run_name if isinstance(flow.flow_run_name, str) else None,
        parameters=flow.serialize_parameters(parameters),
        parent_task_run_id=_place_in_parent(client, flow),
        state=Pending(),
    )


def _place_in_parent(client: SyncPrefectClient, flow: Flow[..., Any]) -> UUID | None:
    """Return the task run that represents the child in its parent, as for Prefect's subflows; None without a parent.

    A server that does not know the parent has replaced a lost one: then there is none.
    """
    from prefect import Task
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Pending

    if not os.environ.get(PARENT):
        return None
    parent = UUID(os.environ[PARENT])
    try:
        client.read_flow_run(parent)
    except ObjectNotFound:
        return None
    standing_for = Task(fn=flow.fn, name=flow.name)
    name = flow.flow_run_name if isinstance(flow.flow_run_name, str) else flow.name
    return client.create_task_run(
        standing_for, flow_run_id=parent, dynamic_key=str(uuid4()), name=name, state=Pending()
    ).id


def _cancel(client: SyncPrefectClient, run: FlowRun) -> None:
    """Mark an interrupted run as cancelled; Prefect would call it crashed."""
    import httpx
    from prefect.states import Cancelled

    with contextlib.suppress(httpx.HTTPError):  # a server that is gone need not be told
        client.set_flow_run_state(run.id, Cancelled(message=STOPPED), force=True)
