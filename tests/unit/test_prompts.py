"""Prompts: the shipped ones, files of the user's, chat templates, and what can be wrong with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import ROOT, tokenizer

from stages.contract import grammar
from stages.contract.errors import PipelineError
from stages.rollout.prompt import HOLE, PROMPTS, load_prompt

SHIPPED = sorted(path.stem for path in PROMPTS.glob("*.txt"))
RELEASED = Path(os.environ.get("R1SEARCHER_DATA", ROOT.parent / "shared" / "data")) / "r1searcher" / "prompts"
CHAT = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


class Chatty:
    """A tokenizer with a chat template, as far as a prompt looks at one."""

    chat_template = CHAT

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        import jinja2

        assert options.pop("tokenize") is False
        return jinja2.Template(CHAT).render(messages=messages, **options)


def test_what_is_shipped() -> None:
    assert SHIPPED == ["base", "examples_chatml", "instruct", "ircot", "ircot_instruct", "short"]
    assert [name for name in SHIPPED if load_prompt(name).is_chat] == ["instruct", "ircot_instruct"]


@pytest.mark.parametrize("name", ["base", "ircot", "short"])
@given(question=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_base_prompt_holds_the_question_as_it_is_and_ends_in_think(name: str, question: str) -> None:
    prompt = load_prompt(name)
    before, after = prompt.template.split(HOLE)
    assert prompt.render(question) == f"{before}{question}{after}"
    assert prompt.render(question).endswith(grammar.THINK)


@pytest.mark.parametrize("name", ["base", "examples_chatml", "instruct"])
def test_the_long_prompts_explain_the_grammar(name: str) -> None:
    template = load_prompt(name).template
    assert all(tag in template for tag in grammar.TAGS)


def test_a_chat_prompt_is_the_system_message() -> None:
    prompt = load_prompt("instruct")
    assert prompt.render("Who?", Chatty()) == f"[system] {prompt.template}\n[user] Who?\n[assistant] {grammar.THINK}"


@pytest.mark.parametrize("without", [None, tokenizer(True)])
def test_a_chat_prompt_needs_a_chat_template(without: Any) -> None:
    with pytest.raises(PipelineError, match=r"rollout\.prompt: .*no chat template"):
        load_prompt("instruct").render("Who?", without)


def test_a_file_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(f"Frage: {HOLE} {{json}}\n{grammar.THINK}\n\n", encoding="utf-8")
    prompt = load_prompt(str(file))
    assert prompt.render("Wer? {question}") == f"Frage: Wer? {{question}} {{json}}\n{grammar.THINK}"
    assert prompt.name == str(file)
    other = tmp_path / "other.txt"
    other.write_text(f"Q: {HOLE}\n{grammar.THINK}", encoding="utf-8")
    assert load_prompt(str(other)).hash != prompt.hash
    other.write_text(f"Frage: {HOLE} {{json}}\n{grammar.THINK}", encoding="utf-8")
    assert load_prompt(str(other)).hash == prompt.hash  # of the template, wherever it stands


def test_what_can_be_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"rollout\.prompt: no prompt 'shrot' \(shipped ones are base, examples_chatml, instruct"
    ):
        load_prompt("shrot")
    with pytest.raises(PipelineError, match="no prompt"):
        load_prompt(str(tmp_path))
    file = tmp_path / "mine.txt"
    file.write_text(f"Q: {HOLE}\nA:", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"mine\.txt: a prompt with \{question\} must end in <think>"):
        load_prompt(str(file))
    file.write_bytes(b"Q\xff: {question} <think>")
    with pytest.raises(PipelineError, match=r"mine\.txt: not UTF-8"):
        load_prompt(str(file))
    file.write_text("", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"mine\.txt: .*empty"):
        load_prompt(str(file))


@pytest.mark.skipif(not RELEASED.is_dir(), reason=f"no released prompts in {RELEASED} (set R1SEARCHER_DATA)")
@pytest.mark.parametrize("name", ["base_eval_v0", "base_train", "instruct_system_train"])
def test_the_released_prompts_load_verbatim(name: str) -> None:
    file = RELEASED / f"{name}.txt"
    released = file.read_bytes().decode()
    prompt = load_prompt(str(file))
    assert prompt.template == released
    if prompt.is_chat:
        assert prompt.render("Who?", Chatty()) == f"[system] {released}\n[user] Who?\n[assistant] <think>"
    else:
        assert prompt.render("Who?") == released.replace("{question}", "Who?")
    assert prompt.is_chat == name.startswith("instruct")


@pytest.mark.skipif(not RELEASED.is_dir(), reason=f"no released prompts in {RELEASED} (set R1SEARCHER_DATA)")
@pytest.mark.parametrize(("own", "released"), [("base", "base_train"), ("instruct", "instruct_system_train")])
def test_our_prompts_show_the_tags_as_the_released_do_in_other_words(own: str, released: str) -> None:
    tag = re.compile("|".join(map(re.escape, grammar.TAGS)))
    ours, theirs = load_prompt(own).template, load_prompt(str(RELEASED / f"{released}.txt")).template
    assert tag.findall(ours) == tag.findall(theirs)
    sentences = {line.strip() for line in re.split(r"[.\n]", tag.sub("", theirs)) if len(line.split()) > 4}
    assert sentences and not any(sentence in ours for sentence in sentences)
