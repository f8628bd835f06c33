"""MLflow: a database and artifacts in ``FOLDER/mlflow``, or a tracking server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, field_validator

from r1_searcher.extend import tracker
from r1_searcher.tracking.protocol import TrackedRun, Tracker

_RUN_ID = "r1_searcher.run_id"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_TEXT = 500  # characters of a parameter: the limit of older servers
_AT_ONCE = 100  # parameters per request


class MlflowParams(BaseModel):
    """``tracking.mlflow``. Credentials come from MLFLOW_TRACKING_USERNAME, _PASSWORD or _TOKEN."""

    uri: str = ""  # a server's address; empty: the local database

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str) -> str:
        if "@" in urlsplit(uri).netloc:
            raise ValueError("no user or password here: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        parts = urlsplit(uri)
        if uri and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ValueError("https:// is needed, or http:// to this machine: credentials would be sent as clear text")
        return uri


@tracker("mlflow", parameters=MlflowParams)
def mlflow(run: TrackedRun, parameters: MlflowParams) -> Tracker:
    """Create the run, or find the one of this id; parameters and protocol card are also JSON artifacts."""
    return _Mlflow(run, parameters)


class _Mlflow:
    def __init__(self, run: TrackedRun, parameters: MlflowParams) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow.tracking import MlflowClient

        files = run.folder.absolute() / "mlflow"
        if not parameters.uri:
            files.mkdir(parents=True, exist_ok=True)
        self.client: Any = MlflowClient(tracking_uri=parameters.uri or f"sqlite:///{files}/mlflow.db")
        found = self.client.get_experiment_by_name(run.project)
        place = None if parameters.uri else (files / "artifacts").as_uri()
        experiment = found.experiment_id if found else self.client.create_experiment(run.project, place)
        earlier = self.client.search_runs([experiment], f"tags.`{_RUN_ID}` = '{run.id}'", max_results=1)
        self.id: str = earlier[0].info.run_id if earlier else self._create(experiment, run)
        self.client.update_run(self.id, status="RUNNING")
        self.there = self._last_step() if earlier else -1

    def _create(self, experiment: str, run: TrackedRun) -> str:
        from mlflow.entities import Param

        tags = {_RUN_ID: run.id, "group": run.group}
        new: str = self.client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        texts = [Param(name, str(value)[:_MOST_TEXT]) for name, value in _flat(run.params)]
        for start in range(0, len(texts), _AT_ONCE):
            self.client.log_batch(new, params=texts[start : start + _AT_ONCE])
        self.client.log_dict(new, dict(run.params), "params.json")
        self.client.log_dict(new, dict(run.card), "protocol_card.json")
        return new

    def _last_step(self) -> int:
        """Return the last step that the run has: a killed process may have logged it and not have said so."""
        return max((one.step for one in self.client.get_metric_history(self.id, "reward")), default=-1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if step > self.there:
            now = int(time.time() * 1000)
            self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    def close(self) -> None:
        self.client.set_terminated(self.id)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    for key, part in value.items():
        yield from _flat(part, f"{name}.{key}" if name else str(key))
