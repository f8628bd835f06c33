"""``retriever.opensearch``: the cluster, and how it is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from r1_searcher.params.base import Count


class OpenSearchSettings(BaseModel):
    """Parameters of ``retriever.kind: opensearch``. BM25's own are those of ``index``."""

    url: str = "http://127.0.0.1:9200"
    flavour: Literal["opensearch", "elasticsearch"] = "opensearch"  # which official client; each refuses the other
    name: str = Field("r1-searcher", pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")  # of the index on the cluster
    user: str = ""  # with a password in key_variable; empty: key_variable holds an API key
    key_variable: str = ""  # environment variable with the password or API key; empty: the cluster asks for none
    certificates: str = ""  # file with the cluster's certificate authority; empty: the usual ones
    shards: Count = 1
    replicas: Annotated[int, Field(ge=0)] = 0
    passages_a_request: Count = 1000  # while loading
    queries_a_request: Count = 64
    timeout: Annotated[float, Field(gt=0)] = 60.0  # seconds for an answer
    wait: Annotated[float, Field(ge=0)] = 120.0  # seconds for which an unresponsive cluster is retried
