"""A serving policy in this process: a tiny model, a scripted or a real index, and an OpenAI client."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from r1_searcher.retrieval.service import server as service
from r1_searcher.serving.answerer import Answerer
from r1_searcher.serving.server import ServeSettings, make_policy_app


@contextlib.contextmanager
def served(answerer: Answerer, settings: ServeSettings | None = None) -> Iterator[str]:
    """Run the server in a thread; yields its address. The answerer is closed at the end."""
    chosen = settings or ServeSettings()
    made = service.make_server(make_policy_app(answerer, chosen), chosen.transport())
    with service.bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            made.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
