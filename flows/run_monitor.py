"""Watch the runs of `make ui`'s server: name each queued one, and print a line for each that ended.

Prefect names a run only when it begins, and reports failures only on its page.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from typing import Any

import httpx

from flows import access
from flows.names import run_name
from r1_searcher.shown import printable, show
from r1_searcher.texts import parse_json

TIMEOUT_SECONDS = 5.0
LIMIT = 200  # runs per look
OUTCOMES = {"COMPLETED": "is done", "FAILED": "failed", "CRASHED": "crashed", "CANCELLED": "was cancelled"}
_RAISED = "PipelineError: "  # precedes the line of an expected error in a state's message


class RunMonitor:
    """Watches the server's deployed runs. A server that does not answer is asked again next time."""

    def __init__(self, api: str, password: str = "") -> None:
        """Runs that ended before now are not reported."""
        self._api, self._headers = api, {"Content-Type": "application/json", **access.header(password)}
        self._since = datetime.datetime.now(datetime.UTC).isoformat()
        self._said: set[str] = set()
        self._flows: dict[str, str] = {}

    def look(self) -> None:
        """Name queued runs, and report those that ended."""
        with contextlib.suppress(httpx.HTTPError, ValueError):  # no answer, or a truncated one
            for run in self._runs({"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}):
                self._name(run)
            for run in self._runs(
                {"state": {"type": {"any_": [*OUTCOMES]}}, "end_time": {"after_": self._since}},
            ):
                if run["id"] not in self._said:
                    self._said.add(run["id"])
                    show(outcome(run))

    def _name(self, run: Mapping[str, Any]) -> None:
        if "profile" in run["parameters"]:
            name = run_name(self._flow(run["flow_id"]), run["parameters"])
            if name != run["name"]:
                self._ask("PATCH", f"flow_runs/{run['id']}", {"name": name})

    def _flow(self, flow: str) -> str:
        if flow not in self._flows:
            self._flows[flow] = str(self._ask("GET", f"flows/{flow}")["name"])
        return self._flows[flow]

    def _runs(self, which: Mapping[str, Any]) -> list[dict[str, Any]]:
        body = {"flow_runs": {**which, "deployment_id": {"is_null_": False}}, "limit": LIMIT, "sort": "END_TIME_DESC"}
        found: list[dict[str, Any]] = self._ask("POST", "flow_runs/filter", body)
        return found

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        url = f"{self._api}/{path}"
        how: dict[str, Any] = {"headers": self._headers, "timeout": TIMEOUT_SECONDS, "verify": access.certificates()}
        reply = httpx.request(method, url, json=body, **how).raise_for_status()
        return parse_json(reply.content) if reply.content else None


def outcome(run: Mapping[str, Any]) -> str:
    """Return one line about a run's outcome, with the reason if there is one."""
    line = f"{run['name']} {OUTCOMES[run['state_type']]}"
    message = ((run.get("state") or {}).get("message") or "").strip()
    if run["state_type"] not in ("FAILED", "CRASHED") or not message:
        return printable(line)
    return printable(f"{line}: {message.partition(_RAISED)[2] or message.splitlines()[0]}")
