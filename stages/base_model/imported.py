"""A model of the user's as the base policy: a local folder or a hub name, copied whole and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.contract import grammar
from stages.contract.artefacts import write_json
from stages.contract.errors import PipelineError
from stages.contract.weights import weights_sha256
from stages.rollout.load import load_model, load_tokenizer


def import_model(source: str, folder: Path, dtype: str) -> None:
    """Copy a causal language model into ``folder`` as safetensors, with its tokenizer and a manifest."""
    tokenizer = load_tokenizer(source)
    check_grammar(tokenizer, source)
    model = load_model(source, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sha256 = weights_sha256(folder)
    write_json(folder / "manifest.json", {"sha256": sha256, "parent": source, "step": 0, "source": source})


def check_grammar(tokenizer: Any, where: str) -> None:
    """The tags must survive tokenising: a tag may be several tokens, but the text must come back."""
    text = grammar.render_documents(["A passage, with a name: Zoë."]).join(
        [
            f"I think.{grammar.QUERY} a query{grammar.END_QUERY}",
            f"So.{grammar.END_THINK}\n\n{grammar.ANSWER} x{grammar.END_ANSWER}",
        ]
    )
    ids = tokenizer.encode(text, add_special_tokens=False)
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text:
        lost = next((tag for tag in grammar.TAGS if text.count(tag) != back.count(tag)), "white space or letters")
        raise PipelineError(
            f"the tokenizer does not give the transcript grammar back: {lost!r} is changed", where=where
        )
