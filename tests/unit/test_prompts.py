"""Prompts: the built-in ones, users' files, chat templates, and their faults."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import ROOT, tokenizer

from r1_searcher.errors import PipelineError
from r1_searcher.rollout.chat_template import try_template
from r1_searcher.rollout.prompt import HOLE, load_prompt
from r1_searcher.transcripts import grammar

SHIPPED = sorted(path.stem for path in (ROOT / "r1_searcher" / "rollout" / "prompts").glob("*.txt"))
RELEASED = Path(os.environ.get("R1SEARCHER_DATA", ROOT.parent / "shared" / "data")) / "r1searcher" / "prompts"
CHAT = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


class Chatty:
    """A tokenizer with a chat template, as far as a prompt uses one."""

    chat_template = CHAT
    special_tokens_map: ClassVar = {"bos_token": "<bos>"}

    def get_chat_template(self) -> str:
        return self.chat_template

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        import jinja2

        assert options.pop("tokenize") is False
        return str(jinja2.Template(CHAT).render(messages=messages, **options))


def test_what_is_shipped() -> None:
    assert {"base", "examples_chatml", "instruct", "ircot", "ircot_instruct", "open", "short"} <= set(SHIPPED)
    for name in ("base", "examples_chatml", "instruct", "ircot", "ircot_instruct", "open", "short"):
        assert load_prompt(name).is_chat == name.endswith("instruct"), name


@pytest.mark.parametrize("name", ["base", "ircot", "open", "short"])
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
    assert load_prompt(str(other)).hash == prompt.hash  # the template's, wherever it is


def test_what_can_be_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError,
        match=r"rollout\.prompt: no prompt 'shrot' \(known: .*base, .*examples_chatml, .*instruct.*path of a text",
    ):
        load_prompt("shrot")
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(PipelineError, match=r"rollout\.prompt: no prompt .*known: .*base"):
            load_prompt(str(path))
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


class Thinks(Chatty):
    """One whose chat template itself opens the thinking."""

    ending = "<think>\n"

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        return super().apply_chat_template(messages, **options) + self.ending


def test_think_is_written_once() -> None:
    prompt = load_prompt("instruct")
    said = f"[system] {prompt.template}\n[user] Who?\n[assistant] "
    assert prompt.render("Who?", Thinks()) == f"{said}<think>\n"

    class Closes(Thinks):
        ending = "<think>\n\n</think>\n\n"  # no longer opens it

    assert prompt.render("Who?", Closes()) == f"{said}<think>\n\n</think>\n\n<think>"


class Refuses(Chatty):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("System role not supported\nmore"), TypeError(), OverflowError("x")])
def test_a_chat_template_that_raises_is_one_line(error: Exception) -> None:
    with pytest.raises(
        PipelineError, match=r"rollout\.prompt instruct: the model's chat template does not accept"
    ) as found:
        load_prompt("instruct").render("Who?", Refuses(error))
    assert "\n" not in str(found.value) and "more" not in str(found.value)


class Explodes(Chatty):
    """A template that keeps requesting more."""

    def __init__(self, program: str) -> None:
        self.chat_template = program


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("{{ 'a' * 9999999999 }}", r"MemoryError|more than \d+ s or \d+ MB"),
        (LOOPS, r"takes more than 1 s or"),
        ("{{ 'a' * 2000000 }}", "a prompt of 2,000,000 characters of a short question"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ raise_exception('no system\nrole') }}", r"TemplateError: no system \(choose"),
    ],
    ids=["memory", "time", "length", "raises", "refuses"],
)
def test_a_chat_template_is_tried_within_limits(program: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1_searcher.rollout.chat_template.CPU_SECONDS", 1)
    with pytest.raises(PipelineError, match=told):
        try_template(load_prompt("instruct"), Explodes(program))
    try_template(load_prompt("base"), Explodes(program))  # has no use for it


@pytest.mark.slow
def test_a_chat_template_that_does_its_work_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1_searcher.rollout.chat_template.CPU_SECONDS", 1)
    try_template(load_prompt("instruct"), Chatty())
    try_template(load_prompt("instruct"), Explodes("{{ bos_token + messages[1].content + strftime_now('%Y') }}"))


def with_front(front: str | None, *, metaspace: bool) -> Any:
    """A word tokenizer that puts ``front`` before its texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(set("".join(load_prompt(name).template for name in SHIPPED) + "Who?▁<>"))
    made = Tokenizer(models.BPE({text: number for number, text in enumerate(["<bos>", *letters])}, [], unk_token="<"))
    made.add_special_tokens(["<bos>"])
    if metaspace:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        made.decoder = decoders.Metaspace(prepend_scheme="first")
    if front:
        made.post_processor = processors.TemplateProcessing(single=f"{front} $A", special_tokens=[(front, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>")


@pytest.mark.parametrize("metaspace", [False, True])
def test_what_a_tokenizer_puts_before_a_text_is_there_once(metaspace: bool, tmp_path: Path) -> None:
    names = with_front("<bos>", metaspace=metaspace)
    prompt = load_prompt("short")
    plain = prompt.render("Who?")
    ids = names.encode(prompt.render("Who?", names), add_special_tokens=False)
    assert ids == names.encode(plain, add_special_tokens=True) and ids.count(0) == 1
    file = tmp_path / "mine.txt"
    file.write_text(f"<bos>{prompt.template}", encoding="utf-8")  # a file that writes it itself
    assert names.encode(load_prompt(str(file)).render("Who?", names), add_special_tokens=False).count(0) == 1


def test_a_tokenizer_that_wants_nothing_before_a_text_gets_nothing() -> None:
    prompt = load_prompt("short")
    for names in (tokenizer(True), tokenizer(False), with_front(None, metaspace=True), None):
        assert prompt.render("Who?", names) == prompt.template.replace(HOLE, "Who?")
