"""The loop on the transformers engine: with tags as tokens, and with a tokenizer that splits every tag, as Qwen's does.

The policy's tokens are forced (``force_tokens``), or sampled by a random model that writes many tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import (
    END,
    GLUED_ANSWER,
    GLUED_QUERY,
    ScriptedEngine,
    ScriptedRetriever,
    check_rollouts,
    force_tokens,
    forward_logprobs,
    questions_table,
    random_engine,
    rollout_params,
    tokenizer,
)

from r1_searcher.rollout import roll_out
from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.rollout.loop import trajectory_seed
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY

BOTH = pytest.mark.parametrize("tags_are_tokens", [True, False])
SEARCH = f"Hm. {QUERY} Ada{END_QUERY}"
FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}"
ROOMY = rollout_params(max_turn_tokens=600, max_total_tokens=4000, max_passage_tokens=600)
SEED = 11


def spelled(tags_are_tokens: bool, text: str, *, by_letters: bool = False) -> list[int]:
    """Return the tokens of a policy's text: as the tokenizer writes it, or letter by letter."""
    names = tokenizer(tags_are_tokens)
    ids: list[int] = []
    for number, part in enumerate(text.split(END)):
        ids += [names.eos_token_id] * (number > 0)
        for piece in part if by_letters else [part]:
            ids += names.encode(piece, add_special_tokens=False)
    return ids


def play(tags_are_tokens: bool, scripts: Sequence[Sequence[int]], retriever: ScriptedRetriever) -> pa.Table:
    """Roll out questions, number q answered by the tokens ``scripts[q]``; returns checked rows."""
    engine = random_engine(tags_are_tokens)
    table = questions_table([f"question {number}" for number in range(len(scripts))])
    seeds = {trajectory_seed(SEED, f"q{number}", 0): script for number, script in enumerate(scripts)}
    end_id = tokenizer(tags_are_tokens).eos_token_id
    with pytest.MonkeyPatch.context() as patch:
        force_tokens(patch, seeds, end_id)
        rollouts, _ = roll_out(engine, retriever, table, ROOMY, samples=1, seed=SEED)
    check_rollouts(rollouts, engine, ROOMY, [end_id])
    check_logprobs(rollouts, engine)
    return rollouts


def check_logprobs(rollouts: pa.Table, engine: TransformersEngine) -> None:
    """The engine's log-probabilities are those of a plain forward over the trajectory."""
    for row in rollouts.to_pylist():
        expected = forward_logprobs(engine, row["token_ids"]).tolist()
        policy = [
            value for value, source in zip(expected, row["token_source"], strict=True) if source == grammar.POLICY
        ]
        assert row["policy_logprobs"] == pytest.approx(policy, abs=1e-5)


def by_character(scripts: Sequence[str], retriever: ScriptedRetriever) -> pa.Table:
    """The same on the engine whose tokens are characters."""
    engine = ScriptedEngine({f"question {number}": script for number, script in enumerate(scripts)})
    table = questions_table([f"question {number}" for number in range(len(scripts))])
    return roll_out(engine, retriever, table, ROOMY, samples=1, seed=SEED)[0]


def shown(table: pa.Table) -> list[dict[str, Any]]:
    """What does not depend on the tokenizer."""
    rows: list[dict[str, Any]] = table.drop_columns(["token_ids", "token_source", "policy_logprobs"]).to_pylist()
    return rows


SCRIPTS = {
    "answer": FINAL,
    "search": SEARCH + FINAL,
    "end_of_text": f"I give up{END}",
    "empty_query": f"{QUERY} '' {END_QUERY}",
    "search_limit": SEARCH * 4,
    "retriever_error": f"{SEARCH}{QUERY} please fail{END_QUERY}",
    "broken tags": f"<|end_of_query <|begin {END_QUERY[:-1]} {QUERY} Ada{END_QUERY}</answe{END}",
}


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("by_letters", [False, True], ids=["as written", "by letters"])
def test_the_transcript_does_not_depend_on_how_its_tags_are_spelled(tags_are_tokens: bool, by_letters: bool) -> None:
    scripts = list(SCRIPTS.values())
    retriever, other = ScriptedRetriever(), ScriptedRetriever()
    ids = [spelled(tags_are_tokens, script, by_letters=by_letters) for script in scripts]
    found = play(tags_are_tokens, ids, retriever)
    assert shown(found) == shown(by_character(scripts, other))
    reasons = dict(zip(SCRIPTS, found["finish_reason"].to_pylist(), strict=True))
    assert reasons == {name: name for name in SCRIPTS} | {"search": "answer", "broken tags": "end_of_text"}
    # What was sampled is kept: no token is recomputed from the text.
    for row, script in zip(found.to_pylist(), ids, strict=True):
        kept = [t for t, source in zip(row["token_ids"], row["token_source"], strict=True) if source == grammar.POLICY]
        assert kept == script[: len(kept)]
        assert len(script) == len(kept)


def test_a_stop_token_that_carries_text_beyond_its_tag() -> None:
    """The text continues inside the token: the rest stays the policy's, and is no part of the query or the answer."""
    script = f"Hm. {QUERY} Ada{GLUED_QUERY}", f"So.{END_THINK}\n\n{ANSWER} Trabo{GLUED_ANSWER}"
    retriever = ScriptedRetriever()
    (row,) = play(False, [[number for part in script for number in spelled(False, part)]], retriever).to_pylist()
    assert retriever.calls == [["Ada"]]
    policy = [part["text"] for part in row["segments"] if part["source"] == "policy"]
    assert policy == list(script)
    assert (row["finish_reason"], row["answer"]) == ("answer", "Trabo")
    assert row["text"] == script[0] + row["segments"][1]["text"] + script[1]
    assert row["segments"][1]["text"].startswith("\n\n")
    violations = grammar.format_violations(
        grammar.Transcript.of(grammar.Segment(part["source"], part["text"]) for part in row["segments"])
    )
    assert violations == ("text_after_answer",)


@pytest.mark.slow
@BOTH
def test_passages_are_cut_between_tokens_and_never_through_a_letter(tags_are_tokens: bool) -> None:
    engine = random_engine(tags_are_tokens)
    long = "Zoë ist 中文 " * 9
    for most in range(1, 14):
        rollout = rollout_params(max_passage_tokens=most, k=1, max_total_tokens=900)
        seeds = {trajectory_seed(SEED, "q0", 0): spelled(tags_are_tokens, SEARCH + FINAL)}
        with pytest.MonkeyPatch.context() as patch:
            force_tokens(patch, seeds, engine.tokenizer.eos_token_id)
            retriever = ScriptedRetriever(lambda query: [long])
            rows = roll_out(engine, retriever, questions_table(["x"]), rollout, samples=1, seed=SEED)[0].to_pylist()
        passage = rows[0]["segments"][1]["text"].split("\n")[3].removeprefix("(1) ")
        assert long.startswith(passage) and "\ufffd" not in passage
        assert most - 4 <= len(engine.encode(passage)) <= most  # a letter cut in two is dropped, and a space


HOSTILE = [*grammar.TAGS, "Ada", "<", "|>", "\n\n(2) ", " é", "<|endoftext|>", "</", "｜"]
PIECES = [*grammar.TAGS, SEARCH, SEARCH, FINAL, END, " Ada", "fail", '"', "é"]


@pytest.mark.slow
@BOTH
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(PIECES), st.booleans()), max_size=7), min_size=3, max_size=5),
    st.lists(st.lists(st.sampled_from(HOSTILE), max_size=7).map("".join), max_size=2),
)
@settings(max_examples=12, deadline=None)
def test_random_scripts_and_hostile_passages(
    tags_are_tokens: bool, scripts: list[list[tuple[str, bool]]], passages: list[str]
) -> None:
    """Each piece of a script is spelled as the tokenizer writes it or by letters; ``play`` checks provenance."""
    ids = [
        [n for piece, by_letters in script for n in spelled(tags_are_tokens, piece, by_letters=by_letters)]
        for script in scripts
    ]
    texts = ["".join(piece for piece, _ in script) + END for script in scripts]
    found = play(tags_are_tokens, ids, ScriptedRetriever(lambda query: passages))
    assert shown(found) == shown(by_character(texts, ScriptedRetriever(lambda query: passages)))


# --- a random policy

QUESTIONS = ["Who was Ada?", "Where is the river Trabo in Harbor of 1931?", "x", "Who made Silent Harbor?"]


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
def test_the_same_seed_gives_the_same_table_bit_for_bit(tags_are_tokens: bool, greedy: bool) -> None:
    engine, asked = random_engine(tags_are_tokens), questions_table(QUESTIONS)
    samples = 2 if greedy else 8  # a question's greedy samples are all the same

    def made(seed: int = 0, **changes: Any) -> pa.Table:
        rollout = rollout_params(**changes)
        table, _ = roll_out(engine, ScriptedRetriever(), asked, rollout, samples=samples, seed=seed, greedy=greedy)
        return table

    first = made()
    check_rollouts(first, engine, rollout_params(), [engine.tokenizer.eos_token_id])
    check_logprobs(first, engine)
    again = made()
    assert again.equals(first) and shown(again) == shown(first)
    other = made(seed=1)
    assert (other["token_ids"] == first["token_ids"]) == greedy
    assert other["seed"] != first["seed"]
    split = made(max_batch=5)
    assert split["token_ids"] == first["token_ids"]
    assert split.drop_columns("policy_logprobs").equals(first.drop_columns("policy_logprobs"))


def test_the_random_policy_meets_every_kind_of_turn() -> None:
    """Otherwise the test above would show little: searches, answers, ends and limits all occur in one table."""
    rollout = rollout_params()
    table, _ = roll_out(random_engine(), ScriptedRetriever(), questions_table(QUESTIONS), rollout, samples=8, seed=0)
    assert {"answer", "end_of_text", "empty_query"} <= set(table["finish_reason"].to_pylist())
    searches = [len(turns) for turns in table["turns"].to_pylist()]
    assert sum(count > 0 for count in searches) >= 6 and max(searches) >= 2
    assert len({len(ids) for ids in table["token_ids"].to_pylist()}) >= 15
