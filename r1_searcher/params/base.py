"""The base of every section of params.yaml, and what several of them share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of params.yaml; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChatEndpoint(Section):
    """A chat model on an OpenAI-compatible server. Prices are per million tokens, in any one currency."""

    server: str  # base URL, e.g. http://127.0.0.1:8000/v1
    model: str
    key_variable: str = ""  # environment variable with the key; empty: the server needs none
    concurrency: Count  # simultaneous requests
    requests_a_minute: Annotated[float, Field(ge=0)] = 0.0  # 0: no limit; retries count
    timeout_seconds: Annotated[float, Field(gt=0)]  # of one attempt
    retries: Annotated[int, Field(ge=0)]  # after the first attempt, with growing pauses
    price_prompt: Annotated[float, Field(ge=0)] = 0.0
    price_completion: Annotated[float, Field(ge=0)] = 0.0
