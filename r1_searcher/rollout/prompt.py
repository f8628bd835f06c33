"""Prompts: templates by name (shipped or registered by a user's file) or by the path of a text file.

A template with ``{question}`` is for base models and is used as it is. One without is the system message for an
instruct model: the question becomes the user's message, the model's chat template is applied, and ``<think>`` is
appended unless the template wrote it. Either way the transcript begins after ``<think>``.

What a tokenizer puts before a text (``<bos>`` of Gemma and Llama) is part of the prompt's text: a chat template writes
it itself, and other prompts get it here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import bind_parameters
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.files.templates import text_of
from r1_searcher.points import PROMPTS
from r1_searcher.transcripts.grammar import THINK

if TYPE_CHECKING:
    from r1_searcher import params

HOLE = "{question}"


@dataclass(frozen=True)
class Prompt:
    """A prompt template with its name."""

    name: str
    template: str

    @property
    def is_chat(self) -> bool:
        """Whether the template is the system message of a chat."""
        return HOLE not in self.template

    @property
    def hash(self) -> str:
        """Sha256 of the template, for protocol cards."""
        return fingerprint(self.template)

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the chat for a question: the template as system message, the question as user message."""
        return [{"role": "system", "content": self.template}, {"role": "user", "content": question}]

    def render(self, question: str, tokenizer: Any = None) -> str:
        """Return the prompt for a question, ending in ``<think>`` (a chat template may add white space).

        ``tokenizer``: the policy's; None if the caller tokenizes the text. Raises ``PipelineError`` if a chat template
        is missing or fails.
        """
        if not self.is_chat:
            return with_leading_tokens(self.template.replace(HOLE, question), tokenizer)
        if getattr(tokenizer, "chat_template", None) is None:
            raise PipelineError(
                f"prompt {self.name!r} is a chat's system message, but the model's tokenizer has no chat template",
                where="rollout.prompt",
                fix="choose `base`, or a file with {question}",
            )
        try:
            text = str(
                tokenizer.apply_chat_template(self.messages(question), tokenize=False, add_generation_prompt=True)
            )
        except Exception as error:  # the template is a program in the model's folder and may raise anything
            raise template_error(self, type(error).__name__, str(error)) from error
        return text if text.rstrip().endswith(THINK) else text + THINK


def template_error(prompt: Prompt, raised: str, told: str) -> PipelineError:
    """Return the error for a chat template that raised ``raised`` (a type's name) with the message ``told``."""
    line = next(iter(told.strip().splitlines()), "")[:200]
    return PipelineError(
        f"the model's chat template does not accept a system message and a question: {raised}: {line}",
        where=f"rollout.prompt {prompt.name}",
        fix="choose `base`, or a file with {question}",
    )


def with_leading_tokens(text: str, tokenizer: Any) -> str:
    """Prepend what the tokenizer puts before a text, such as ``<bos>``, unless the text begins with it."""
    encode = getattr(tokenizer, "encode", None)
    if encode is None or encode("a", add_special_tokens=True) == encode("a", add_special_tokens=False):
        return text
    plain, whole = (list(encode(text, add_special_tokens=special)) for special in (False, True))
    front = next((whole[:length] for length in range(len(whole)) if whole[length : length + len(plain)] == plain), [])
    if not front or plain[: len(front)] == front:
        return text
    written = "".join(tokenizer.convert_ids_to_tokens(front))
    candidates = [written + text, f"{written} {text}"]  # SentencePiece puts a space before a text, but not after <bos>
    return next((one for one in candidates if list(encode(one, add_special_tokens=False)) == whole), candidates[0])


def load_prompt(name: str, extensions: Sequence[str] = ()) -> Prompt:
    """Return a prompt by its name, or from the path of a text file.

    Args:
        name: a shipped name, one registered by a file of ``extensions``, or a path.
        extensions: the user's own files.

    Raises ``PipelineError`` for an unknown name (listing all known ones) and for an invalid template.
    """
    found = PROMPTS.find(name, extensions)
    if found.file.suffix == ".py":
        place, template = found.place(), bind_parameters(found, None, PROMPTS.noun)()
        if not isinstance(template, str):
            raise PipelineError(
                f"the prompt {name!r} returned a {type(template).__name__}, and no text",
                where=place,
                fix="return the template as a string",
            )
    elif found.file.is_file():
        place, template = str(found.file), text_of(found.file)
    else:
        raise PROMPTS.unknown(name, extensions)
    if not template.strip():
        raise PipelineError("the prompt is empty", where=place)
    if HOLE in template and not template.rstrip().endswith(THINK):
        raise PipelineError(f"a prompt with {HOLE} must end in {THINK}", where=place)
    return Prompt(name, template.rstrip() if HOLE in template else template)


def prompt_of(rollout: params.Rollout) -> Prompt:
    """Return the prompt that ``rollout.prompt`` chooses."""
    return load_prompt(rollout.prompt, rollout.extensions)
