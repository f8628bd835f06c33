"""Export a policy: a folder that needs nothing of this checkout, with a model card and a script that asks it."""

from __future__ import annotations

import shutil
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.exporting.card import model_card
from r1_searcher.exporting.curves import curves_svg
from r1_searcher.exporting.facts import PolicyFacts
from r1_searcher.exporting.gguf_file import write_gguf
from r1_searcher.files.artefacts import atomic, write_json, write_text
from r1_searcher.files.weights import check_policy
from r1_searcher.rollout.prompt import prompt_of
from r1_searcher.transcripts import grammar

_TEMPLATES = Path(__file__).parent / "templates"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_MODEL = ("config.json", "generation_config.json", "manifest.json")
_TOKENIZER = (
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.*",
)


def export_policy(facts: PolicyFacts, out: Path, *, name: str, licence: str = "", gguf: str | None = None) -> list[str]:
    """Write the folder ``out``, whole; return the names of its files.

    Args:
        facts: what is known about the policy.
        name: of the model, for its card and GGUF file.
        licence: an SPDX or hub identifier; empty: the card says that none is stated.
        gguf: kind of a GGUF file to add (``gguf_file.GGUF_KINDS``); None: none.

    Raises ``PipelineError`` for a damaged policy, one without weights or tokenizer, and for what GGUF cannot hold.
    """
    check_policy(facts.policy)
    chosen = _files(facts.policy)
    with atomic(out, folder=True) as folder:
        for file in chosen:
            shutil.copyfile(file, folder / file.name)
        write_json(folder / "agent.json", agent(facts))
        shutil.copyfile(_TEMPLATES / "ask.py", folder / "ask.py")
        if facts.measured:
            write_json(folder / "protocol_cards.json", [one.card for one in facts.measured])
        if facts.params_text:
            write_text(folder / "params.yaml", facts.params_text)
        if facts.curves:
            write_text(folder / "curves.svg", curves_svg(facts.curves))
        if gguf is not None:
            write_gguf(facts.policy, folder / f"{name}-{gguf}.gguf", kind=gguf, name=name)
        write_text(folder / "README.md", model_card(facts, name=name, licence=licence, gguf=gguf))
    return sorted(path.name for path in out.iterdir())


def agent(facts: PolicyFacts) -> dict[str, object]:
    """Return what a program needs, beside the model, to let it search as it was trained to."""
    prompt, rollout = prompt_of(facts.params.rollout), facts.params.rollout
    return {
        "prompt": prompt.template,
        "prompt_is_chat": prompt.is_chat,
        "tags": {
            "think": grammar.THINK,
            "begin_query": grammar.QUERY,
            "end_query": grammar.END_QUERY,
            "begin_documents": grammar.DOCUMENTS,
            "end_documents": grammar.END_DOCUMENTS,
            "begin_answer": grammar.ANSWER,
            "end_answer": grammar.END_ANSWER,
        },
        "passages": rollout.passages,
        "k": rollout.k,
        "max_searches": rollout.max_searches,
        "max_turn_tokens": rollout.max_turn_tokens,
        "max_total_tokens": rollout.max_total_tokens,
        "max_passage_tokens": rollout.max_passage_tokens,
        "dtype": rollout.dtype,
    }


def _files(policy: Path) -> list[Path]:
    """Return the policy's files to copy. Raises ``PipelineError`` if it is incomplete."""
    weights = [file for pattern in _WEIGHTS for file in sorted(policy.glob(pattern))]
    if not any(file.suffix == ".safetensors" for file in weights):
        raise PipelineError("no *.safetensors in this policy folder", where=str(policy))
    tokenizer = [file for pattern in _TOKENIZER for file in sorted(policy.glob(pattern)) if file.is_file()]
    if not any(file.name in ("tokenizer.json", "tokenizer.model") for file in tokenizer):
        raise PipelineError(
            "the policy folder has no tokenizer, so nobody could use the export",
            where=str(policy),
            fix="copy tokenizer.json and tokenizer_config.json from the model that it was trained from",
        )
    model = [policy / name for name in _MODEL if (policy / name).is_file()]
    return [*model, *weights, *tokenizer]
