"""The tiny base model's training texts: the mixture, correct chains judged right, malformed endings judged
malformed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tiny_policy import params_with

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.models import library
from r1_searcher.models.library import Piece, Shares, Shelf, write_library
from r1_searcher.questions.compose import COMPOSITION, creator_phrase
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import QUERY, Segment, Transcript
from r1_searcher.types import schemas

PROMPT = "User: {question}\nAssistant: <think>"
START = "User: "
RIGHT = Shares(reading=0.0, malformed=0.0, without_search=0.0, right_chain=1.0)


def make_shelf(seed: int = 7) -> Shelf:
    """A world whose search finds a title's passage, and another one."""
    world = make_world(params.WorldSize(people=80, films=50, books=50, cities=20), seed)
    passages = world.passages()
    texts = dict(zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True))
    other = next(iter(texts.values()))
    return Shelf.of(world, lambda title: [texts[title], other])


SHELF = make_shelf()
GOLD = {
    COMPOSITION[relation].format(creator_phrase(work.title, work.kind)): getattr(SHELF.people[work.creator], relation)
    for work in SHELF.world.works
    for relation in COMPOSITION
}


def texts(shares: Shares, count: int, seed: int = 0) -> list[list[Piece]]:
    return list(itertools.islice(write_library([SHELF], shares, PROMPT, np.random.default_rng(seed)), count))


def is_transcript(text: list[Piece]) -> bool:
    return text[0].given and text[0].text.startswith(START)


def transcript(text: list[Piece]) -> Transcript:
    """By provenance: pieces given after the prompt are documents."""
    return Transcript.of(Segment("document" if piece.given else "policy", piece.text) for piece in text[1:])


def searches(text: list[Piece]) -> int:
    return sum(piece.given for piece in text[1:])


def question(text: list[Piece]) -> str:
    return text[0].text.removeprefix(START).partition("\n")[0]


def rollouts(chosen: list[list[Piece]]) -> pa.Table:
    """Return the library's transcripts as a rollouts table, with the world's answers as gold."""
    rows = []
    for number, text in enumerate(chosen):
        made = transcript(text)
        assert made.segments is not None
        found: dict[str, Any] = {"query": "q", "passage_ids": [], "scores": [], "error": None}
        rows.append(
            {
                "trajectory_id": f"q{number}#0",
                "question_id": f"q{number}",
                "sample": 0,
                "question": question(text),
                "answers": [GOLD[question(text)]],
                "prompt": text[0].text,
                "token_ids": [1],
                "token_source": [grammar.POLICY],
                "policy_logprobs": [0.0],
                "turns": [found] * searches(text),
                "segments": [{"source": part.source, "text": part.text} for part in made.segments],
                "text": made.text,
                "answer": grammar.extract_answer(made.text),
                "finish_reason": grammar.FINISH_ANSWER,
                "seed": 0,
            }
        )
    return pa.Table.from_pylist(rows, schema=schemas.ROLLOUTS)


def test_right_chains_are_judged_right() -> None:
    reward = params_with().reward
    chosen = texts(RIGHT, 150)
    judged = reward_table(rollouts(chosen), reward, 2).to_pylist()
    for row, text in zip(judged, chosen, strict=True):
        assert (row["format_right"], row["violations"], row["cover_em"], row["em"]) == (True, [], 1.0, 1.0)
        assert row["num_searches"] == searches(text) == 2
    asked = {question(text).split()[0] for text in chosen}
    assert asked == {wording.split()[0] for wording in COMPOSITION.values()}


def test_a_right_chain_asks_for_the_work_and_then_for_its_creator() -> None:
    works = {work.title: work for work in SHELF.world.works}
    for text in texts(RIGHT, 40):
        made = transcript(text)
        assert made.segments is not None
        turns = [part.text for part in made.segments if part.source == "policy" and QUERY in part.text]
        first, second = (grammar.extract_query(turn) for turn in turns)
        assert works[first].creator == second
        assert first in question(text)


BROKEN = {
    "no_end_think": "end_think_count",
    "no_answer_tag": "begin_answer_count",
    "no_end_answer": "end_answer_count",
    "two_answers": "begin_answer_count",
    "nothing": "end_think_count",
    "query_open": "query_not_closed",
    "own_documents": "document_tag_written",
}


@pytest.mark.parametrize("ending", library.WRONG_ENDINGS)
def test_every_wrong_ending_is_malformed(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "WRONG_ENDINGS", (ending,))
    for text in texts(replace(RIGHT, malformed=1.0), 15) + texts(Shares(0.0, 1.0, 1.0, 0.0), 15):
        assert BROKEN[ending] in grammar.format_violations(transcript(text))


def test_all_other_transcripts_have_the_right_format_and_often_the_wrong_answer() -> None:
    chosen = texts(Shares(0.0, 0.0, 0.4, 0.0), 300)
    assert all(grammar.format_violations(transcript(text)) == () for text in chosen)
    judged = reward_table(rollouts(chosen), params_with().reward, 2)
    assert np.mean(judged["cover_em"].to_numpy()) < 0.2
    assert {searches(text) for text in chosen} == {0, 1, 2}


@pytest.mark.parametrize("shares", [Shares(0.5, 0.15, 0.3, 0.8), Shares(0.3, 0.45, 0.85, 0.4)], ids=["main", "anneal"])
def test_shares_hold(shares: Shares) -> None:
    """Each within four standard deviations of its binomial."""

    def holds(hits: int, of: int, share: float) -> bool:
        return bool(abs(hits - of * share) < 4 * np.sqrt(of * share * (1 - share)))

    chosen = texts(shares, 3000)
    written = [text for text in chosen if is_transcript(text)]
    assert holds(len(chosen) - len(written), len(chosen), shares.reading)
    malformed = [text for text in written if grammar.format_violations(transcript(text))]
    assert holds(len(malformed), len(written), shares.malformed)
    searching = [text for text in written if searches(text)]
    assert holds(len(written) - len(searching), len(written), shares.without_search)
    works = {work.title: work for work in SHELF.world.works}

    def is_right_chain(text: list[Piece]) -> bool:
        queries = [grammar.extract_query(piece.text) for piece in text[1:] if piece.text.endswith(grammar.END_QUERY)]
        work = works.get(queries[0])
        asked = work is not None and creator_phrase(work.title, work.kind) in question(text)
        return asked and work is not None and queries[1:] == [work.creator]

    assert holds(sum(map(is_right_chain, searching)), len(searching), shares.right_chain)


def test_reading_is_passages_and_true_statements() -> None:
    facts = set(SHELF.world.passages()["text"].to_pylist())
    for text in texts(replace(RIGHT, reading=1.0), 100):
        assert not is_transcript(text)
        lines = text[0].text.splitlines()
        assert text[0].given
        assert all(line.partition(") ")[2] in facts for line in lines)
        shown = " ".join(lines)
        said = [piece.text for piece in text[1:] if not piece.given]
        assert said and all(piece.endswith(".\n") for piece in said)
        # What is written names something that the passages show.
        assert all(piece.removesuffix(".\n").split(" ")[-1] in shown for piece in said)


def test_the_library_is_a_function_of_its_random_numbers() -> None:
    shares = Shares(0.4, 0.3, 0.3, 0.5)
    assert texts(shares, 50, seed=1) == texts(shares, 50, seed=1) != texts(shares, 50, seed=2)


def test_given_pieces_are_what_nobody_could_predict() -> None:
    for text in texts(Shares(0.5, 0.2, 0.3, 0.5), 200):
        for piece in text:
            assert piece.text
            if piece.given and piece is not text[0] and is_transcript(text):
                assert piece.text.startswith(f"\n\n{grammar.DOCUMENTS}") and piece.text.endswith("\n\n")
