"""``corpus.source: world``: a synthetic world."""

from __future__ import annotations

from r1_searcher.corpus.source import CorpusRequest, Drawn
from r1_searcher.extend import corpus_source


@corpus_source("world")
def world(request: CorpusRequest, parameters: None) -> Drawn:
    """Return the world drawn by ``corpus.world`` and the seed, with its facts."""
    from r1_searcher.corpus.world import make_world

    settings = request.settings.world
    made = make_world(settings, request.seed)
    metadata = {"source": "world", "world": settings.model_dump(), "seed": request.seed}
    return Drawn(made.passages(), made.facts(), metadata)
