"""A corpus and questions of your own, made by code: the squares of the first numbers.

Make both, index the corpus and search it:

    mkdir -p own
    r1-searcher params examples/own_corpus/profile.yaml > own/params.yaml
    r1-searcher corpus --params own/params.yaml --corpus own/corpus
    r1-searcher questions --params own/params.yaml --corpus own/corpus --questions own/questions
    r1-searcher index --params own/params.yaml --corpus own/corpus --index own/index
    r1-searcher search "What is the square of 7?" -k 1 --params own/params.yaml --index own/index
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from r1_searcher.corpus.source import CorpusRequest
from r1_searcher.extend import corpus_source, question_source
from r1_searcher.questions.source import QuestionRequest

LAST = {"train": 60, "validation": 80, "held_out": 100}  # the last number that a split asks for


class Squares(BaseModel):
    """Parameters of the corpus ``squares``."""

    up_to: int = 100


@corpus_source("squares", parameters=Squares)
def squares(request: CorpusRequest, parameters: Squares) -> Iterator[tuple[str, str, str]]:
    """Id, title and text of each passage; an empty id becomes a hash of title and text."""
    for number in range(1, parameters.up_to + 1):
        yield "", f"The square of {number}", f"{number} times {number} is {number * number}."


@question_source("squares")
def questions(request: QuestionRequest, parameters: None) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split."""
    asked: dict[str, list[dict[str, Any]]] = {split: [] for split in LAST}
    for number in range(1, max(LAST.values()) + 1):
        split = next(split for split, last in LAST.items() if number <= last)
        title = f"The square of {number}"
        row = {"question": f"What is the square of {number}?", "answer": str(number * number)}
        asked[split].append({**row, "supporting_titles": [title]})
    return asked
