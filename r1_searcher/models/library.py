"""Training texts of the tiny base model: plain reading with questions, and transcripts of every behaviour.

Written from other worlds than the one that RL asks about. About half is *reading*: passages, then questions about them
answered in plain words. The rest are *transcripts* in the grammar of ``r1_searcher.transcripts.grammar``: without a
search, with one, with two, with the wrong entity, right and wrong, well formed and malformed. The shares are parameters
(``base_model.tiny``); in the last phase (anneal) almost no transcript searches, which sets the base policy's prior.

A text is a list of pieces; unpredictable ones (questions, passages) have a small loss weight, so that the model's
capacity goes into reading them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from r1_searcher.corpus.world import Person, Work, World
from r1_searcher.questions.compose import COMPOSITION, NEW_RELATION, creator_phrase
from r1_searcher.transcripts import grammar

T = TypeVar("T")
SearchFunction = Callable[[str], Sequence[str]]  # a query → the passages shown, best first

NUM_READING_QUESTIONS = 6  # of the seven that a reading text could ask
SHARE_SPOUSE = 0.7  # share of reading texts in which the other person is the creator's spouse

# The beginning of a transcript without a search: always the same, so that the greedy base policy does what most of its
# texts do. If each began with another name, the token that begins a search could be the most likely one, with little
# mass.
RECALL = " I recall:"

# Wordings of a bridge entity and an answer; the transcripts use the same words.
PROPERTIES = tuple(COMPOSITION)
WORDINGS = COMPOSITION | NEW_RELATION
WRONG_ENDINGS = (
    "no_end_think",
    "no_answer_tag",
    "no_end_answer",
    "two_answers",
    "nothing",
    "query_open",
    "own_documents",
)


@dataclass(frozen=True)
class Piece:
    """A run of text; ``given`` text (questions, passages) is context, not skill."""

    text: str
    given: bool = False


@dataclass(frozen=True)
class Shares:
    """The mixture: see ``params.TinyModel``."""

    reading: float
    malformed: float
    without_search: float
    right_chain: float  # of the searching transcripts: both hops, right answer


@dataclass(frozen=True)
class Shelf:
    """A world with its search engine, and tables to draw from."""

    world: World
    search: SearchFunction
    people: dict[str, Person]

    @classmethod
    def of(cls, world: World, search: SearchFunction) -> Shelf:
        return cls(world, search, {person.name: person for person in world.people})


def write_library(
    shelves: Sequence[Shelf], shares: Shares, prompt: str, random: np.random.Generator
) -> Iterator[list[Piece]]:
    """Yield endless texts. ``prompt`` is the template that transcripts begin with."""
    while True:
        shelf = _pick(shelves, random)
        if random.random() < shares.reading:
            yield _reading(shelf, random)
        else:
            yield _transcript(shelf, shares, prompt, random)


def _pick(items: Sequence[T], random: np.random.Generator) -> T:
    return items[int(random.integers(len(items)))]


# --- reading -------------------------------------------------------------------------------------


def _reading(shelf: Shelf, random: np.random.Generator) -> list[Piece]:
    """Return a work, its creator and another person, in any order, followed by questions about them.

    Both people's year and place of birth are asked: each needs its own circuit in the model, which forms late or never
    with few questions (docs/log.md).
    """
    work = _pick(shelf.world.works, random)
    creator = shelf.people[work.creator]
    other = shelf.people[creator.spouse] if random.random() < SHARE_SPOUSE else _pick(shelf.world.people, random)
    passages = [work.passage(), creator.passage(), other.passage()]
    shuffled = [passages[number] for number in random.permutation(len(passages))]
    pieces = [Piece("".join(f"({number}) {text}\n" for number, text in enumerate(shuffled, 1)), given=True)]
    asked = [
        _one_hop_work(work),
        _two_hops(work, creator, _pick(PROPERTIES, random)),
        *(
            _one_hop_person(person, relation)
            for person in (creator, other)
            for relation in ("birth_year", "birthplace")
        ),
        _one_hop_person(creator, _pick(("spouse", "job"), random)),
    ]
    for number in random.permutation(len(asked))[:NUM_READING_QUESTIONS]:
        pieces += asked[int(number)]
    return pieces


def _bridge_thought(work: Work) -> str:
    """Return the thought after the first search. It quotes the passage, as people do; the second hop starts from it.

    Thoughts begin with a space, so that a name has the same tokens everywhere.
    """
    made = "directed" if work.kind == "film" else "written"
    return f" {work.title} was {made} by {work.creator}."


SAID = {"birth_year": "was born", "birthplace": "was born in", "spouse": "was married to", "job": "was a"}


def _conclusion(name: str, relation: str, answer: str) -> str:
    """Return the thought before the answer."""
    return f" {name} {SAID[relation]} {answer}."


def _one_hop_work(work: Work) -> list[Piece]:
    return [Piece(f"Who is {creator_phrase(work.title, work.kind)}?", given=True), Piece(f"{_bridge_thought(work)}\n")]


def _one_hop_person(person: Person, relation: str) -> list[Piece]:
    question = WORDINGS[relation].format(person.name)
    said = _conclusion(person.name, relation, getattr(person, relation))
    return [Piece(question, given=True), Piece(f"{said}\n")]


def _two_hops(work: Work, creator: Person, relation: str) -> list[Piece]:
    question = COMPOSITION[relation].format(creator_phrase(work.title, work.kind))
    said = _conclusion(creator.name, relation, getattr(creator, relation))
    return [Piece(question, given=True), Piece(f"{_bridge_thought(work)}{said}\n")]


# --- transcripts ---------------------------------------------------------------------------------


def _transcript(shelf: Shelf, shares: Shares, prompt: str, random: np.random.Generator) -> list[Piece]:
    work = _pick(shelf.world.works, random)
    creator = shelf.people[work.creator]
    relation = _pick(PROPERTIES, random)
    question = COMPOSITION[relation].format(creator_phrase(work.title, work.kind))
    pieces = [Piece(prompt.replace("{question}", question), given=True)]

    if random.random() < shares.without_search:
        guess = _pick(shelf.world.people, random)
        pieces.append(Piece(RECALL))
        if random.random() < 0.5:
            made_up = Work(work.title, work.kind, work.year, guess.name, guess.couple)
            pieces.append(Piece(_bridge_thought(made_up)))
        believed = guess
    elif random.random() < shares.right_chain:
        pieces += [
            *_search_pieces(shelf, work.title),
            Piece(_bridge_thought(work)),
            *_search_pieces(shelf, creator.name),
        ]
        believed = creator
    else:
        believed = _searched_badly(shelf, work, pieces, random)

    answer = getattr(believed, relation)
    said = _conclusion(believed.name, relation, answer)
    malformed = random.random() < shares.malformed
    ending = _pick(WRONG_ENDINGS, random) if malformed else "right"
    pieces.append(Piece(_with_ending(said, answer, ending, work.title)))
    return pieces


def _search_pieces(shelf: Shelf, query: str) -> list[Piece]:
    shown = grammar.render_documents(shelf.search(query))
    return [Piece(f"{grammar.QUERY} {query}{grammar.END_QUERY}"), Piece(shown, given=True)]


def _searched_badly(shelf: Shelf, work: Work, pieces: list[Piece], random: np.random.Generator) -> Person:
    """Search once and guess, or search the wrong entity first or second. Appends to ``pieces``; returns the person
    whose property is then given as the answer."""
    stranger = _pick(shelf.world.people, random)
    kind = _pick(("one", "one", "wrong_first", "wrong_second"), random)
    if kind == "wrong_first":
        wrong = _pick(shelf.world.works, random)
        pieces += [*_search_pieces(shelf, wrong.title), Piece(_bridge_thought(wrong))]
        return shelf.people[wrong.creator]
    pieces += [*_search_pieces(shelf, work.title), Piece(_bridge_thought(work))]
    if kind == "one":
        return dataclasses.replace(stranger, name=work.creator)
    pieces += _search_pieces(shelf, stranger.name)
    return stranger


def _with_ending(said: str, answer: str, ending: str, title: str) -> str:
    end, begin, close = grammar.END_THINK, grammar.ANSWER, grammar.END_ANSWER
    forms = {
        "right": f"{said}{end}\n\n{begin} {answer}{close}",
        "no_end_think": f"{said}\n\n{begin} {answer}{close}",
        "no_answer_tag": f"{said}{end}\n\n {answer}{close}",
        "no_end_answer": f"{said}{end}\n\n{begin} {answer}",
        "two_answers": f"{said}{end}\n\n{begin} {answer}{begin} {answer}{close}",
        "nothing": said,
        "query_open": f"{grammar.QUERY} {title}.{said}{end}\n\n{begin} {answer}{close}",
        "own_documents": f"{grammar.render_documents([title])}{said}{end}\n\n{begin} {answer}{close}",
    }
    return forms[ending]
