"""A synthetic world: people, films, books and cities, with one passage each.

A world is drawn from a seed. Two worlds share their stock of names and contradict each other in every fact, so a model
that has read one knows nothing about the other and must search. Couples are the unit: a work belongs to its creator's
couple, and a question's whole chain (work, creator, spouse) stays within one couple. So splitting couples splits
questions without shared entities (``r1_searcher/questions/compose.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from r1_searcher.errors import PipelineError

if TYPE_CHECKING:  # the tokenizer needs this module's years, and no table
    import pyarrow as pa

    from r1_searcher import params

FIRST_NAMES = (
    "Ada Alma Anton Arlo Basil Bela Bruno Cara Celia Clara Conrad Cora Dario Della Edgar Edith Elena Elias Emil Enid "
    "Erik Esme Ezra Felix Fiona Flora Frieda Gideon Greta Gustav Hanna Hazel Hugo Ida Igor Ines Iris Ivan Jasper Joan "
    "Jonas Judith Karl Katya Lena Leo Lidia Livia Lorenz Lucas Magda Marek Mina Nadia Nils Olga Oscar Petra Rosa Viktor"
).split()
ADJECTIVES = (
    "Silent Golden Broken Hidden Distant Burning Frozen Crimson Hollow Gentle Bitter Secret Wandering Endless Quiet "
    "Scarlet Shattered Lonely Restless Sacred Fallen Stolen Velvet Winter Summer Midnight Savage Tender Wicked Painted "
    "Invisible Emerald Silver Iron Wooden Paper Crystal Forgotten Ancient Drifting Sleeping Laughing Weeping Dancing "
    "Howling Blazing Rusty Barren Radiant Sunken"
).split()
NOUNS = (
    "Harbor Garden River Mountain Lantern Mirror Bridge Orchard Tower Island Desert Forest Window Letter Carnival "
    "Journey Shadow Promise Kingdom Voyage Sparrow Wolf Tiger Falcon Serpent Rose Thorn Ember Storm Tide Horizon "
    "Meadow Castle Chapel Clock Compass Anchor Crown Dagger Mask Violin Piano Waltz Ballad Sonnet Riddle Circus "
    "Harvest Canyon Glacier"
).split()
ONSETS = "b br d dr f fl g gr h k kr l m n p pl r s st t tr v z".split()
VOWELS = "a e i o u".split()
CODAS = ("l", "m", "n", "r", "s", "x")
COUNTRIES = "Altaria Borvia Cestan Dorland Elmark Fennia Gorvia Halmark".split()
JOBS = "pilot nurse lawyer baker sailor teacher farmer soldier tailor painter".split()
YEARS = range(1900, 1950)
NUM_SURNAMES = 180  # with the first names it makes 10,800 people
NUM_CITIES = 120
CITY_ENDINGS = ("ton", "burg", "ville", "dal", "by", "ford", "stad")
STOCK_SEED = 2503_05592  # names are the same in every world

# relations of people; `spouse` is symmetric
PERSON_RELATIONS = ("birth_year", "birthplace", "spouse", "job")


@dataclass(frozen=True)
class Person:
    """A person; ``couple`` numbers the pair formed with ``spouse``."""

    name: str
    birth_year: str
    birthplace: str
    spouse: str
    job: str
    couple: int

    def passage(self) -> str:
        return f"{self.name}, born {self.birth_year} in {self.birthplace}, was a {self.job} married to {self.spouse}."


@dataclass(frozen=True)
class Work:
    """A film or a book."""

    title: str
    kind: str  # film, book
    year: str
    creator: str
    couple: int

    def passage(self) -> str:
        made = "film directed" if self.kind == "film" else "book written"
        return f"{self.title} is a {self.year} {made} by {self.creator}."


@dataclass(frozen=True)
class World:
    """One whole world, in a fixed order."""

    people: tuple[Person, ...]
    works: tuple[Work, ...]
    cities: dict[str, str]  # city → country

    def passages(self) -> pa.Table:
        """Return one passage per thing (schema PASSAGES), ids ``w0``, ``w1``, …"""
        import pyarrow as pa

        from r1_searcher.types import schemas

        rows = [(work.title, work.passage()) for work in self.works]
        rows += [(person.name, person.passage()) for person in self.people]
        rows += [(city, f"{city} is a city in {country}.") for city, country in self.cities.items()]
        columns = {
            "passage_id": [f"w{number}" for number in range(len(rows))],
            "title": [title for title, _ in rows],
            "text": [text for _, text in rows],
            "source": ["world"] * len(rows),
        }
        return pa.table(columns, schema=schemas.PASSAGES)

    def facts(self) -> pa.Table:
        """Return every fact (schema FACTS); ``couple`` is a relation too, by which questions are split."""
        import pyarrow as pa

        from r1_searcher.types import schemas

        rows: list[tuple[str, str, str, str]] = []
        for work in self.works:
            role = "director" if work.kind == "film" else "author"
            rows += [(work.title, work.kind, role, work.creator), (work.title, work.kind, "year", work.year)]
        for person in self.people:
            rows += [(person.name, "person", relation, getattr(person, relation)) for relation in PERSON_RELATIONS]
            rows.append((person.name, "person", "couple", str(person.couple)))
        rows += [(city, "city", "country", country) for city, country in self.cities.items()]
        return pa.table(
            {name: list(values) for name, values in zip(schemas.FACTS.names, zip(*rows, strict=False), strict=True)},
            schema=schemas.FACTS,
        )


def make_world(world: params.WorldSize, seed: int) -> World:
    """Draw a world, deterministic in ``seed``: couples of two people, each work made by one person. Raises
    ``PipelineError`` for more names than there are."""
    random = np.random.default_rng([seed, 1])
    surnames, city_stock = name_stock()
    people_stock = len(FIRST_NAMES) * len(surnames)
    title_stock = len(ADJECTIVES) * len(NOUNS)
    num_works = world.films + world.books
    for name, wanted, stock in (
        ("people", world.people, people_stock),
        ("films + books", num_works, title_stock),
        ("cities", world.cities, len(city_stock)),
    ):
        if wanted > stock:
            raise PipelineError(f"{wanted} is more than the {stock} names there are", where=f"corpus.world, {name}")
    if world.people % 2:
        raise PipelineError("must be even: people come in couples", where="corpus.world.people")

    names = _couples(random, surnames, world.people // 2)
    cities = [city_stock[number] for number in random.permutation(len(city_stock))[: world.cities]]
    countries = {
        city: COUNTRIES[number]
        for city, number in zip(cities, random.integers(len(COUNTRIES), size=len(cities)), strict=True)
    }
    people = tuple(
        Person(
            name=name,
            birth_year=str(random.choice(YEARS)),
            birthplace=cities[random.integers(len(cities))],
            spouse=names[number ^ 1],
            job=JOBS[random.integers(len(JOBS))],
            couple=number // 2,
        )
        for number, name in enumerate(names)
    )
    titles = [
        f"{ADJECTIVES[number % len(ADJECTIVES)]} {NOUNS[number // len(ADJECTIVES)]}"
        for number in random.permutation(title_stock)[:num_works]
    ]
    works = []
    for number, title in enumerate(titles):
        # The first works cover all couples, so that every couple has one if there are enough works.
        couple = number % (len(people) // 2)
        creator = people[2 * couple + int(random.integers(2))]
        kind = "film" if number < world.films else "book"
        works.append(Work(title, kind, str(random.choice(YEARS)), creator.name, couple))
    return World(people, tuple(works), countries)


def _couples(random: np.random.Generator, surnames: list[str], count: int) -> list[str]:
    """Return the names of ``count`` couples, (2 * count,), partners adjacent. A couple shares a surname, as families
    do."""
    pairs = [
        (f"{FIRST_NAMES[first]} {surname}", f"{FIRST_NAMES[second]} {surname}")
        for surname in surnames
        for first, second in random.permutation(len(FIRST_NAMES)).reshape(-1, 2)
    ]
    return [name for number in random.permutation(len(pairs))[:count] for name in pairs[number]]


def name_stock() -> tuple[list[str], list[str]]:
    """Return surnames and cities built from syllables; equal in every world, no word in both."""
    random = np.random.default_rng(STOCK_SEED)
    taken: set[str] = set()

    def words(count: int, syllables: int, endings: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            word = "".join(random.choice(ONSETS) + random.choice(VOWELS) for _ in range(syllables)).capitalize()
            word += str(random.choice(endings))
            if word not in taken and word not in FIRST_NAMES:
                taken.add(word)
                found.append(word)
        return found

    return words(NUM_SURNAMES, 2, CODAS), words(NUM_CITIES, 1, CITY_ENDINGS)
