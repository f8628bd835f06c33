"""Questions from a world: their answers follow from the passages, and their splits share no entity."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tiny_policy import params_with

from r1_searcher import params
from r1_searcher.corpus.world import World, make_world
from r1_searcher.errors import PipelineError
from r1_searcher.questions.compose import COMPOSITION, NEW_RELATION, compose, creator_phrase
from r1_searcher.types import schemas

SIZE = params.WorldSize(people=200, films=120, books=120, cities=40)
COUNTS = params.QuestionCounts(train=300, validation=40, held_out=150, held_out_kind=120, comparison=40)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SIZE, 4)


@pytest.fixture(scope="module")
def splits(world: World) -> dict[str, pa.Table]:
    return compose(world.facts(), COUNTS, 4)


def rows_of(splits: dict[str, pa.Table]) -> list[dict[str, Any]]:
    return [row | {"split": split} for split, table in splits.items() for row in table.to_pylist()]


def test_counts_names_and_schema(splits: dict[str, pa.Table]) -> None:
    assert {split: table.num_rows for split, table in splits.items()} == COUNTS.model_dump()
    assert all(table.schema.equals(schemas.QUESTIONS) for table in splits.values())
    rows = rows_of(splits)
    assert len({row["question_id"] for row in rows}) == len(rows)
    assert len({row["question"] for row in rows}) == len(rows)
    assert all(row["question_id"].startswith(f"{row['split']}-") for row in rows)


def test_kinds_and_hops(splits: dict[str, pa.Table]) -> None:
    kinds = {split: {(row["kind"], row["num_hops"]) for row in table.to_pylist()} for split, table in splits.items()}
    assert kinds == {
        "train": {("composition", 2)},
        "validation": {("composition", 2)},
        "held_out": {("composition", 2)},
        "held_out_kind": {("new_relation", 2), ("three_hop", 3)},
        "comparison": {("comparison", 2)},
    }
    for row in rows_of(splits):
        assert len(row["supporting_titles"]) == row["num_hops"]
    asked = splits["train"]["question"].to_pylist()
    for wording in COMPOSITION.values():
        assert sum(question.startswith(wording.split("{}")[0]) for question in asked) > 50
    held = splits["held_out_kind"]["kind"].to_pylist()
    assert 40 <= held.count("three_hop") <= 80
    about = {row["question"].split()[0] for row in splits["held_out_kind"].to_pylist() if row["kind"] == "three_hop"}
    assert about == {"When", "Where"}


def answered(world: World) -> dict[str, tuple[str, list[str]]]:
    """Return every composition and kind possible in the world: question → answer and titles, from the objects."""
    people = {person.name: person for person in world.people}
    found = {}
    for work in world.works:
        phrase, creator = creator_phrase(work.title, work.kind), people[work.creator]
        for relation, wording in (COMPOSITION | NEW_RELATION).items():
            found[wording.format(phrase)] = (getattr(creator, relation), [work.title, creator.name])
        for relation in ("birth_year", "birthplace"):
            question = COMPOSITION[relation].format(f"the spouse of {phrase}")
            found[question] = (getattr(people[creator.spouse], relation), [work.title, creator.name, creator.spouse])
    return found


def test_answers_are_the_worlds_and_stand_in_the_supporting_passages(world: World, splits: dict[str, pa.Table]) -> None:
    passages = world.passages()
    texts = dict(zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True))
    known = answered(world)
    works = {work.title: work for work in world.works}
    for row in rows_of(splits):
        (answer,), titles = row["answers"], row["supporting_titles"]
        if row["kind"] == "comparison":
            one, other = titles
            assert row["question"] == f"Which came out first, {one} or {other}?"
            years = {title: int(works[title].year) for title in titles}
            assert answer == min(years, key=years.__getitem__) and len(set(years.values())) == 2
            assert all(str(year) in texts[title] for title, year in years.items())
            continue
        assert known[row["question"]] == (answer, titles)
        # The chain can be followed by reading: each title is in the previous passage, the answer in the last.
        for title, following in zip(titles, [*titles[1:], answer], strict=True):
            assert following in texts[title]
        assert titles[0] in row["question"] and answer not in row["question"]


def test_the_comparison_has_no_favourite_place(splits: dict[str, pa.Table]) -> None:
    first = [row["answers"][0] == row["supporting_titles"][0] for row in splits["comparison"].to_pylist()]
    assert 0.25 < sum(first) / len(first) < 0.75


@pytest.mark.parametrize("seed", range(5))
def test_no_entity_of_a_chain_is_in_two_splits(seed: int) -> None:
    """Works, their creators and the creators' spouses; years, cities and jobs are common words."""
    world = make_world(SIZE, seed)
    people = {person.name: person for person in world.people}
    creators = {work.title: work.creator for work in world.works}
    entities: dict[str, set[str]] = {}
    for split, table in compose(world.facts(), COUNTS, seed).items():
        found: set[str] = set()
        for row in table.to_pylist():
            for title in row["supporting_titles"]:
                creator = creators.get(title, title)
                found |= {title, creator, people[creator].spouse}
            if row["answers"][0] in people:
                found.add(row["answers"][0])
        entities[split] = found
    assert all(entities.values())
    for one, other in [("train", "validation"), ("train", "held_out"), ("validation", "held_out")]:
        assert not entities[one] & entities[other]
    for split in ("held_out_kind", "comparison"):
        assert not entities[split] & (entities["train"] | entities["validation"])


def test_questions_are_a_function_of_world_and_seed(world: World, splits: dict[str, pa.Table]) -> None:
    again = compose(world.facts(), COUNTS, 4)
    assert all(again[split].equals(table) for split, table in splits.items())
    other = compose(world.facts(), COUNTS, 5)
    assert not other["train"]["question"].equals(splits["train"]["question"])


@pytest.mark.parametrize("split", COUNTS.model_dump())
def test_a_world_too_small(world: World, split: str) -> None:
    asked = COUNTS.model_copy(update={split: 5_000})
    with pytest.raises(PipelineError, match=rf"questions\.world\.{split}: 5000 asked for, but this world gives \d+ \("):
        compose(world.facts(), asked, 0)


def test_the_shipped_figures_fit_each_other() -> None:
    """params.yaml's world yields as many questions as params.yaml requests, for any seed."""
    shipped = params_with()
    for seed in range(3):
        made = compose(make_world(shipped.corpus.world, seed).facts(), shipped.questions.world, seed)
        assert {split: table.num_rows for split, table in made.items()} == shipped.questions.world.model_dump()
