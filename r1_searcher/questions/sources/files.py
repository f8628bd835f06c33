"""``questions.source: files``: one file per split."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import question_source
from r1_searcher.questions.source import QuestionRequest, Splits, check_splits


@question_source("files")
def files(request: QuestionRequest, parameters: None) -> Splits:
    """Return the questions of ``questions.files``."""
    from r1_searcher.questions.files import read_questions

    named = request.settings.files
    check_splits(named, where="params.yaml, questions.files", what="file")
    return Splits({split: read_questions(Path(name)) for split, name in named.items()}, {"source": "files"})
