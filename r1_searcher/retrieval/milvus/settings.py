"""``retriever.milvus``: the server, and how it is asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class MilvusSettings(BaseModel):
    """Parameters of ``retriever.kind: milvus``. Model and graph are those of ``index.dense``."""

    uri: str = "http://127.0.0.1:19530"  # of a standalone server, a cluster's proxy, or a cloud's endpoint
    collection: str = Field("r1_searcher", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")  # beginning of the name there
    database: str = ""
    key_variable: str = ""  # environment variable with USER:PASSWORD or a token; empty: the server asks for none
    timeout: Annotated[float, Field(gt=0)] = 600.0  # seconds for an answer; building the graph is one call
    wait: Annotated[float, Field(ge=0)] = 120.0  # seconds for which an unresponsive server is retried
