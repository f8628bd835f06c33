"""``questions.source: world``: composed from the facts of a synthetic world."""

from __future__ import annotations

from r1_searcher.errors import PipelineError
from r1_searcher.extend import question_source
from r1_searcher.files import artefacts
from r1_searcher.questions.source import QuestionRequest, Splits
from r1_searcher.types import schemas


@question_source("world")
def world(request: QuestionRequest, parameters: None) -> Splits:
    """Compose as many questions as ``questions.world`` asks for, drawn by the seed."""
    from r1_searcher.questions.compose import compose

    path = request.corpus / "facts.parquet"
    facts = artefacts.read_table(path, schemas.FACTS)
    if facts.num_rows == 0:
        raise PipelineError(
            "questions.source is world, but this corpus is not a world and has no facts",
            where=str(path),
            fix="set questions.source to files and name yours in questions.files",
        )
    counts = request.settings.world
    metadata = {"source": "world", "counts": counts.model_dump(), "seed": request.seed}
    return Splits(compose(facts, counts, request.seed), metadata)
