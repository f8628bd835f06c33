"""Questions composed from a world's facts, split so that no entity of a chain is in two splits.

Kinds: ``composition`` (two hops: a work's creator, then a property of theirs) is in ``train`` and ``held_out``.
``held_out_kind`` has compositions that training never shows: another relation (``new_relation``: the creator's job) and
another depth (``three_hop``: a property of the creator's spouse). ``comparison`` asks which of two works came first.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.types import schemas

# Wordings: the property asked of "the director of Silent Harbor".
COMPOSITION = {
    "birth_year": "When was {} born?",
    "birthplace": "Where was {} born?",
    "spouse": "Who married {}?",
}
NEW_RELATION = {"job": "What was the job of {}?"}
SHARES = {"train": 0.56, "validation": 0.08, "held_out": 0.36}  # of the couples
ROLES = {"film": "director", "book": "author"}


@dataclass(frozen=True)
class Facts:
    """Facts by subject and relation."""

    works: dict[str, dict[str, str]]  # title → {kind, creator, year}
    people: dict[str, dict[str, str]]  # name → its relations

    @classmethod
    def of(cls, table: pa.Table) -> Facts:
        works: dict[str, dict[str, str]] = defaultdict(dict)
        people: dict[str, dict[str, str]] = defaultdict(dict)
        for row in table.to_pylist():
            if row["kind"] == "person":
                people[row["subject"]][row["relation"]] = row["object"]
            elif row["kind"] in ROLES:
                relation = "creator" if row["relation"] == ROLES[row["kind"]] else row["relation"]
                works[row["subject"]] |= {"kind": row["kind"], relation: row["object"]}
        return cls(dict(works), dict(people))


def compose(facts: pa.Table, counts: params.QuestionCounts, seed: int) -> dict[str, pa.Table]:
    """Return all splits as QUESTIONS tables. Raises ``PipelineError`` if the world is too small for the counts."""
    known = Facts.of(facts)
    random = np.random.default_rng([seed, 2])
    works = _split_works(known, random)
    built = {
        "train": _compositions(known, works["train"]),
        "validation": _compositions(known, works["validation"]),
        "held_out": _compositions(known, works["held_out"]),
        "held_out_kind": _new_kinds(known, works["held_out"]),
        "comparison": _comparisons(known, works["held_out"], random),
    }
    splits = {}
    for split, rows in built.items():
        wanted = getattr(counts, split)
        if wanted > len(rows):
            raise PipelineError(
                f"{wanted} asked for, but this world gives {len(rows)}",
                where=f"questions.world.{split}",
                fix="enlarge corpus.world or ask for fewer",
            )
        chosen = [rows[number] for number in random.permutation(len(rows))[:wanted]]
        for number, row in enumerate(chosen):
            row["question_id"] = f"{split}-{number:05d}"
        splits[split] = pa.Table.from_pylist(chosen, schema=schemas.QUESTIONS)
    return splits


def _split_works(facts: Facts, random: np.random.Generator) -> dict[str, list[str]]:
    couples = sorted({int(person["couple"]) for person in facts.people.values()})
    order = [couples[number] for number in random.permutation(len(couples))]
    bounds = np.cumsum([round(share * len(order)) for share in SHARES.values()])
    split_of = {
        couple: list(SHARES)[min(int(np.searchsorted(bounds, place, side="right")), 2)]
        for place, couple in enumerate(order)
    }
    works: dict[str, list[str]] = {split: [] for split in SHARES}
    for title, work in facts.works.items():
        works[split_of[int(facts.people[work["creator"]]["couple"])]].append(title)
    return works


def _row(question: str, answer: str, kind: str, hops: int, titles: list[str]) -> dict[str, object]:
    return {
        "question": question,
        "answers": [answer],
        "dataset": "world",
        "kind": kind,
        "num_hops": hops,
        "supporting_titles": titles,
    }


def creator_phrase(title: str, kind: str) -> str:
    """Return how a question names the creator of a work."""
    return f"the {ROLES[kind]} of {title}"


def _compositions(facts: Facts, titles: list[str]) -> list[dict[str, object]]:
    rows = []
    for title in titles:
        work = facts.works[title]
        person = facts.people[work["creator"]]
        phrase = creator_phrase(title, work["kind"])
        for relation, wording in COMPOSITION.items():
            support = [title, work["creator"]]
            rows.append(_row(wording.format(phrase), person[relation], "composition", 2, support))
    return rows


def _new_kinds(facts: Facts, titles: list[str]) -> list[dict[str, object]]:
    rows = []
    for title in titles:
        work = facts.works[title]
        creator = facts.people[work["creator"]]
        phrase = creator_phrase(title, work["kind"])
        support = [title, work["creator"]]
        for relation, wording in NEW_RELATION.items():
            rows.append(_row(wording.format(phrase), creator[relation], "new_relation", 2, support))
        spouse = facts.people[creator["spouse"]]
        relation = ("birth_year", "birthplace")[len(rows) // 2 % 2]
        question = COMPOSITION[relation].format(f"the spouse of {phrase}")
        rows.append(_row(question, spouse[relation], "three_hop", 3, [*support, creator["spouse"]]))
    return rows


def _comparisons(facts: Facts, titles: list[str], random: np.random.Generator) -> list[dict[str, object]]:
    rows = []
    order = [titles[number] for number in random.permutation(len(titles))]
    for one, other in itertools.pairwise(order):
        years = facts.works[one]["year"], facts.works[other]["year"]
        if years[0] != years[1]:
            first = one if years[0] < years[1] else other
            rows.append(_row(f"Which came out first, {one} or {other}?", first, "comparison", 2, [one, other]))
    return rows
