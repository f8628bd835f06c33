"""The user's model as the base policy: a local folder, a hub name or a GGUF file, copied whole and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_config, load_model, load_tokenizer
from r1_searcher.models.gguf import ENDING, open_gguf
from r1_searcher.models.manifest import write_manifest
from r1_searcher.rollout.chat_template import try_template
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.transcripts import grammar
from r1_searcher.types.model_config import check_lengths


def import_model(source: str, folder: Path, dtype: str) -> None:
    """Copy a causal language model into ``folder`` as safetensors, with its tokenizer and a manifest. Raises
    ``PipelineError``."""
    if source.endswith(ENDING):
        model, tokenizer = open_gguf(source, dtype)
        check_grammar(tokenizer, source)
    else:
        tokenizer = load_tokenizer(source)
        check_grammar(tokenizer, source)  # before all weights are read
        model = load_model(source, dtype=dtype)
    check_finite(model, source)
    mend_generation_config(model)
    try:
        model.save_pretrained(folder)
    except ValueError as error:  # for an inconsistent configuration
        told = next(iter(str(error).strip().splitlines()), "")[:200]
        raise PipelineError(f"the model cannot be written: {told}", where=source) from error
    tokenizer.save_pretrained(folder)
    check_same_tokens(tokenizer, load_tokenizer(folder), source)
    write_manifest(folder, parent=source, source=source)


def check_usable(source: str, rollout: params.Rollout) -> None:
    """Raise ``PipelineError``, before the weights are read, if prompt or trajectory length do not suit the model."""
    if source.endswith(ENDING):
        return
    check_lengths(load_config(source), rollout.max_total_tokens)
    try_template(prompt_of(rollout), load_tokenizer(source))


def check_finite(model: Any, where: str) -> None:
    """Raise ``PipelineError`` if a weight is NaN or infinite: the model could sample nothing."""
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise PipelineError(
                f"{name} contains NaN or infinities",
                where=where,
                fix="copy the model's folder again, or choose another",
            )


def mend_generation_config(model: Any) -> None:
    """Repair a generation config that transformers would not save: some folders set a temperature without enabling it.
    Only the end-of-text tokens matter here."""
    from transformers import GenerationConfig

    own = model.generation_config
    try:
        own.validate(strict=True)
    except ValueError:
        ids = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)


def _transcript() -> str:
    """Return a text with every tag, a non-ASCII name, and a number."""
    return grammar.render_documents(["A passage of 1931, with a name: Zoë."]).join(
        [
            f"I think.{grammar.QUERY} a query{grammar.END_QUERY}",
            f"So.{grammar.END_THINK}\n\n{grammar.ANSWER} x{grammar.END_ANSWER}",
        ]
    )


def check_same_tokens(original: Any, saved: Any, where: str) -> None:
    """Raise ``PipelineError`` if the policy folder's tokenizer splits texts differently from the model's own:
    transformers chooses the class by the model's kind, silently."""
    text = _transcript()
    if original.encode(text, add_special_tokens=False) != saved.encode(text, add_special_tokens=False):
        raise PipelineError(
            "the tokenizer splits texts differently after it is saved and reopened",
            where=where,
            fix="save it with the tokenizer class that the model's kind has in transformers",
        )


def check_grammar(tokenizer: Any, where: str) -> None:
    """Raise ``PipelineError`` unless the tags survive tokenising: a tag may be several tokens, but the text must come
    back."""
    text = _transcript()
    ids = tokenizer.encode(text, add_special_tokens=False)
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text:
        lost = next((tag for tag in grammar.TAGS if text.count(tag) != back.count(tag)), "white space or letters")
        raise PipelineError(
            f"the tokenizer does not give the transcript grammar back: {lost!r} is changed", where=where
        )
