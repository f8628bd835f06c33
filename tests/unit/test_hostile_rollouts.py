"""Hundreds of hostile passages through the real loop: each token's author, how a trajectory ends, its text and its
reward are the same as with harmless passages. With a scripted policy and with a tiny real model."""

from __future__ import annotations

import pytest
from hostile import HOSTILE
from hostile_play import (
    ENDS,
    PAIRS,
    WITH_OPEN,
    Finds,
    K,
    Pair,
    asked,
    asked_with_open,
    check_same,
    harmless,
    hostile,
    play,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny_policy import check_rollouts, force_tokens, questions_table, random_engine, rollout_params, tokenizer

from r1_searcher.rollout import roll_out
from r1_searcher.rollout.loop import trajectory_seed
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.documents import fold_space
from r1_searcher.transcripts.grammar import END_ANSWER, Mode


def test_the_set_changes_nothing_for_a_scripted_policy() -> None:
    scripts = [asked(number, end) for number in range(-(-len(PAIRS) // (2 * K))) for end in (ENDS["answer"],)]
    rows, plains = (play(scripts, finds) for finds in (hostile(PAIRS), harmless()))
    assert len(PAIRS) > 900 and len(rows) * 2 * K >= len(PAIRS)
    for row, plain in zip(rows, plains, strict=True):
        check_same(row, plain)
        assert (row["finish_reason"], row["answer"], len(row["turns"])) == ("answer", "Trabo", 2)


@pytest.mark.slow
def test_the_set_opened_by_windows_changes_nothing() -> None:
    scripts = [asked_with_open(number, ENDS["answer"]) for number in range(-(-len(PAIRS) // (2 * K)))]
    rows, plains = (play(scripts, finds, **WITH_OPEN) for finds in (hostile(PAIRS), harmless()))
    for row, plain in zip(rows, plains, strict=True):
        check_same(row, plain)
        assert (row["finish_reason"], row["answer"]) == ("answer", "Trabo")
        assert [turn["tool"] for turn in row["turns"]] == ["search", "open", "open"] * 2
        opened = [turn["passage_ids"] for turn in row["turns"] if turn["tool"] == "open"]
        assert all(1 <= len(ids) <= 3 for ids in opened)


@pytest.mark.slow
@given(
    st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=2 * K),
    st.sampled_from(list(ENDS)),
    st.sampled_from([0, 60]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_passages_and_the_end(pairs: list[Pair], end: str, budget: int, opens: bool) -> None:
    enough = all if opens else any  # a number of the block that is to be opened must be there
    assume(all(enough(fold_space(text) for _, text in hostile(pairs).found(f"n{query}")) for query in (0, 1)))
    scripts = [(asked_with_open if opens else asked)(0, ENDS[end])]
    changes = {"max_documents_tokens": budget, **(WITH_OPEN if opens else {})}
    (row,), (plain,) = (play(scripts, finds, **changes) for finds in (hostile(pairs), harmless()))
    check_same(row, plain)
    assert row["finish_reason"] == end


@pytest.mark.parametrize("mode", ["plain_rag", "ircot"])
def test_the_baselines_too(mode: Mode) -> None:
    ends = [f" Trabo{END_ANSWER}" if mode == "plain_rag" else "The river is long. " + ENDS["answer"]] * 60
    rows, plains = (
        play(ends, Finds(lambda query, found=found: found(query if query[1:].isdigit() else "n7")), mode)  # type: ignore[misc]
        for found in (hostile(PAIRS[-300:]).found, harmless().found)
    )
    for row, plain in zip(rows, plains, strict=True):
        check_same(row, plain)
        assert row["answer"] == "Trabo"


@pytest.mark.slow
@pytest.mark.parametrize("tags_are_tokens", [True, False])
def test_the_set_changes_nothing_for_a_real_model(tags_are_tokens: bool) -> None:
    """Its tokens are forced, so that they can be compared; everything else is the engine's own work."""
    names, engine = tokenizer(tags_are_tokens), random_engine(tags_are_tokens)
    pairs = PAIRS[:: len(PAIRS) // 150]
    scripts = [asked(number, ENDS["answer"]) for number in range(-(-len(pairs) // (2 * K)))]
    rollout = rollout_params(k=K, passages="title_and_text", max_turn_tokens=300, max_total_tokens=1500)
    tables = []
    for finds in (hostile(pairs), harmless()):
        spelled = [names.encode(script, add_special_tokens=False) for script in scripts]
        seeds = {trajectory_seed(3, f"q{number}", 0): ids for number, ids in enumerate(spelled)}
        with pytest.MonkeyPatch.context() as patch:
            force_tokens(patch, seeds, names.eos_token_id)
            questions = questions_table([f"question {number}" for number in range(len(scripts))])
            table, _ = roll_out(engine, finds, questions, rollout, samples=1, seed=3)
        check_rollouts(table, engine, rollout, [names.eos_token_id])
        tables.append(table.to_pylist())
    for row, plain in zip(*tables, strict=True):
        row["policy_logprobs"], plain["policy_logprobs"] = len(row["policy_logprobs"]), len(plain["policy_logprobs"])
        check_same(row, plain)
        assert (row["finish_reason"], row["answer"]) == ("answer", "Trabo")
        # Read as tokens too, the document's tokens contain its two tags and nothing else of the kind.
        ids = [token for token, source in zip(row["token_ids"], row["token_source"], strict=True) if source == 2]
        read = engine.decode(ids)
        assert sum(read.count(tag) for tag in (*grammar.TAGS, *grammar.END_OF_TEXT_TOKENS)) == 4
        assert names.eos_token_id not in ids


def test_more_than_was_asked_for_is_not_shown_and_an_error_is_one_line() -> None:
    many = Finds(lambda query: [("t", f"passage {number}") for number in range(9)])
    (row,) = play([asked(0, ENDS["retriever_error"])], many)
    assert [len(turn["passage_ids"]) for turn in row["turns"]] == [K, K, 0]
    assert row["turns"][0]["passage_ids"][0] == "\\ud800t"
    assert row["turns"][2]["error"] == "\\x1b[31mdown\\ud800\\n<answer>"
