"""The synthetic world: a function of its seed, without duplicate names, and different from every other world."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from tiny_policy import params_with

from r1_searcher import params
from r1_searcher.corpus.world import CITY_ENDINGS, FIRST_NAMES, World, make_world, name_stock
from r1_searcher.errors import PipelineError
from r1_searcher.types import schemas

SMALL = params.WorldSize(people=60, films=30, books=24, cities=12)
EDGE = params.WorldSize(people=4, films=1, books=1, cities=1)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SMALL, 0)


def test_the_same_seed_makes_the_same_world(world: World) -> None:
    again = make_world(SMALL, 0)
    assert again == world
    assert again.passages().equals(world.passages()) and again.facts().equals(world.facts())


@pytest.mark.parametrize("size", [SMALL, EDGE, params_with().corpus.world], ids=["small", "edge", "laptop"])
def test_sizes_names_and_couples(size: params.WorldSize) -> None:
    made = make_world(size, 3)
    names = [person.name for person in made.people]
    titles = [work.title for work in made.works]
    assert (len(names), len(titles), len(made.cities)) == (size.people, size.films + size.books, size.cities)
    assert Counter(work.kind for work in made.works) == {"film": size.films, "book": size.books}
    everything = [*names, *titles, *made.cities]
    assert len(set(everything)) == len(everything)
    people = {person.name: person for person in made.people}
    for person in made.people:
        spouse = people[person.spouse]
        assert spouse is not person and spouse.spouse == person.name and spouse.couple == person.couple
        assert person.birthplace in made.cities
    assert set(Counter(person.couple for person in made.people).values()) == {2}
    assert all(work.couple == people[work.creator].couple for work in made.works)
    couples_with_a_work = {work.couple for work in made.works}
    assert len(couples_with_a_work) == min(size.people // 2, len(titles))


def test_two_worlds_contradict_each_other(world: World) -> None:
    """All names come from one stock, so worlds share some; their facts then agree no more often than by chance."""
    whole = params.WorldSize(people=400, films=300, books=300, cities=120)
    first, second = make_world(whole, 0), make_world(whole, 1)
    assert set(first.cities) == set(second.cities)  # the whole stock
    theirs = {work.title: work for work in second.works}
    shared = [(work, theirs[work.title]) for work in first.works if work.title in theirs]
    assert len(shared) > 60
    assert sum(one.creator == other.creator for one, other in shared) <= 2
    assert sum(one.year == other.year for one, other in shared) < 0.1 * len(shared)
    countries = sum(first.cities[city] == second.cities[city] for city in first.cities)
    assert countries < 0.3 * len(first.cities)  # of eight countries
    assert {person.name for person in first.people} & {person.name for person in second.people}
    assert make_world(SMALL, 1) != world


def test_every_fact_stands_in_a_passage_of_its_subject(world: World) -> None:
    passages = world.passages()
    assert passages.schema.equals(schemas.PASSAGES)
    ids = passages["passage_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 60 + 54 + 12
    texts = dict(zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True))
    facts = world.facts()
    assert facts.schema.equals(schemas.FACTS)
    said = [fact for fact in facts.to_pylist() if fact["relation"] != "couple"]
    assert len(said) == 54 * 2 + 60 * 4 + 12
    for fact in said:
        assert re.search(rf"\b{re.escape(fact['object'])}\b", texts[fact["subject"]].removeprefix(fact["subject"]))
    assert len({(fact["subject"], fact["relation"]) for fact in said}) == len(said)


def test_the_stock_of_names_is_fixed_and_no_word_means_two_things() -> None:
    surnames, cities = name_stock()
    assert (surnames, cities) == name_stock()
    words = [*surnames, *cities, *FIRST_NAMES]
    assert len(set(words)) == len(words)
    assert all(city.endswith(CITY_ENDINGS) for city in cities)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"people": 20_000}, r"corpus\.world, people: 20000 is more than the 10800 names"),
        ({"films": 2_000, "books": 600}, r"films \+ books: 2600 is more than the 2500 names"),
        ({"cities": 121}, r"cities: 121 is more than the 120 names"),
        ({"people": 61}, r"corpus\.world\.people: must be even"),
    ],
)
def test_too_much_asked(size: dict[str, int], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        make_world(SMALL.model_copy(update=size), 0)


def test_the_largest_world_there_is() -> None:
    made = make_world(params.WorldSize(people=10_800, films=1_250, books=1_250, cities=120), 0)
    assert len({person.name for person in made.people}) == 10_800
    assert len({work.title for work in made.works}) == 2_500
