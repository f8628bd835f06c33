"""The grammar through tokenizers: a tag is several tokens, and every text survives the round trip.

No tokenizer of a real model is in this repository. Look-alikes are built here by the rules that Qwen2.5, Llama 3 and
SmolLM2 publish in their tokenizer.json (byte-level BPE, each with its own pre-tokenizer and its special tokens), over
vocabularies of our own. Real ones are tested alike if present: base models made by this checkout and its workspaces,
except the tiny one, and folders in $R1SEARCHER_TOKENIZERS (separated by ``:``; a model's, or one with a folder per
model).
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_tokenizer
from r1_searcher.models.imported import check_grammar, check_same_tokens
from r1_searcher.rollout.prompt import load_prompt
from r1_searcher.rollout.stops import StopFinder
from r1_searcher.transcripts import grammar

ROOT = Path(__file__).resolve().parents[2]
GIVEN = [Path(name) for name in os.environ.get("R1SEARCHER_TOKENIZERS", "").split(os.pathsep) if name]
END = "<|endoftext|>"
SPECIAL = {  # the first ones of each; Llama's share a beginning with our tags
    "qwen": [END, "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|box_start|>", "<|vision_pad|>"],
    "llama": ["<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "smollm": [END, "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"],
}


def real(given: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return folders of real models' tokenizers, each with a name: those given, and those made under ``root``."""
    found: list[Path] = []
    for folder in given:
        inside = [folder] if _has_tokenizer(folder) else sorted(filter(_has_tokenizer, folder.iterdir()))
        if not inside:
            raise FileNotFoundError(f"R1SEARCHER_TOKENIZERS: no tokenizer in {folder}")
        found += inside
    for folder in (root / "data/base_model", *sorted(root.glob(".workspaces/*/data/base_model"))):
        manifest = folder / "manifest.json"
        made_of = json.loads(manifest.read_text("utf-8")).get("source") if manifest.exists() else None
        if _has_tokenizer(folder) and made_of not in (None, "tiny"):
            found.append(folder)
    return {f"{number}-{folder.name}": folder for number, folder in enumerate(found)}


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


REAL = real(GIVEN, ROOT)
NONE = pytest.mark.skip(reason="no real model's tokenizer here: R1SEARCHER_TOKENIZERS names folders")
REALS: list[Any] = [*REAL] or [pytest.param("a real one", marks=NONE)]
# Digits one by one (Qwen) or up to three (Llama), then letters, signs with the line breaks after them, white space.
CUTS = {
    digits: r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
    for digits in (r"\p{N}", r"\p{N}{1,3}")
}
TEXTS = [
    "Ada Kolm was born in Trabo in 1931 and made Silent Harbor, a film about the river.\n\n",
    f"the query of the documents and the answer:?! {grammar.ANSWER} 1931{grammar.END_ANSWER}...\n\n",
    f"{grammar.END_QUERY}\n\n",
] * 30


@functools.cache
def built(kind: str) -> Any:
    """Return a tokenizer of a kind: "qwen", "llama" or "smollm"."""
    draft = Tokenizer(models.BPE(ignore_merges=kind == "llama"))
    if kind == "qwen":
        draft.normalizer = normalizers.NFC()
    cut = {"qwen": r"\p{N}", "llama": r"\p{N}{1,3}"}.get(kind)
    steps = [pre_tokenizers.Split(Regex(CUTS[cut]), "isolated")] if cut else [pre_tokenizers.Digits(True)]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut is None)  # SmolLM2: GPT-2's own
    draft.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte_level])
    draft.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    draft.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=430, special_tokens=SPECIAL[kind], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=draft, eos_token=SPECIAL[kind][0], clean_up_tokenization_spaces=False
    )


@functools.cache
def tokenizer(name: str) -> Any:
    return load_tokenizer(REAL[name]) if name in REAL else built(name)


@functools.cache
def token_texts(name: str) -> list[str]:
    names = tokenizer(name)
    return [names.decode([number]) for number in range(len(names))]


ALL = pytest.mark.parametrize("name", ["qwen", "llama", "smollm", *REALS])


def back(names: Any, ids: list[int]) -> str:
    return str(names.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@ALL
def test_the_grammar_comes_back(name: str) -> None:
    names = tokenizer(name)
    check_grammar(names, name)
    assert all(len(names.encode(tag, add_special_tokens=False)) > 1 for tag in grammar.TAGS)


@ALL
@given(
    st.lists(st.sampled_from([*grammar.TAGS, " ", "\n\n", "(1) ", "Ada Kolm", "1931", ":", "?!", "東京", "Zoë", "🙂"]))
)
@settings(max_examples=80, deadline=None)
def test_tags_among_anything_come_back(name: str, parts: list[str]) -> None:
    names, text = tokenizer(name), "".join(parts)
    assert back(names, names.encode(text, add_special_tokens=False)) == text


@ALL
@given(before=st.sampled_from(["", "1931", "?", "Trabo", " ", "\n"]), stop=st.sampled_from(grammar.STOPS))
@settings(deadline=None)
def test_a_stop_of_several_tokens_is_found_where_it_ends(name: str, before: str, stop: str) -> None:
    names = tokenizer(name)
    ids = names.encode(f"{before}{stop}", add_special_tokens=False)
    finder = StopFinder(token_texts(name), grammar.STOPS, lambda tokens: back(names, list(tokens)))
    assert [finder.find(ids[:length]) for length in range(1, len(ids) + 1)] == [None] * (len(ids) - 1) + [stop]


@ALL
def test_special_tokens_stay_one_and_break_no_tag(name: str) -> None:
    names = tokenizer(name)
    specials = names.get_added_vocab()
    assert set(SPECIAL.get(name, [])) <= set(specials) and names.eos_token in specials
    for token, number in specials.items():
        text = f"{grammar.QUERY}{token}{grammar.END_QUERY}"
        ids = names.encode(text, add_special_tokens=False)
        assert number in ids and back(names, ids) == text


@pytest.mark.parametrize("name", REALS)
def test_a_real_models_own_prompt_comes_back_and_is_cut_alike_once_saved(name: str, tmp_path: Path) -> None:
    names = tokenizer(name)
    for prompt in ["base", *(["instruct"] if names.chat_template else [])]:
        text = load_prompt(prompt).render("Who made Silent Harbor?", names)
        assert back(names, names.encode(text, add_special_tokens=False)) == text
    names.save_pretrained(tmp_path)
    check_same_tokens(names, load_tokenizer(tmp_path), name)


def test_real_tokenizers_are_found_where_they_may_be(tmp_path: Path) -> None:
    """Given: a model's folder, or a folder of such. Made: base models of the checkout and its workspaces, not tiny."""
    checkout, models = tmp_path / "checkout", tmp_path / "models"
    made = {"data/base_model": {"source": "tiny"}, ".workspaces/a/data/base_model": {"source": "a/real-model"}}
    for place, manifest in made.items():
        (checkout / place).mkdir(parents=True)
        (checkout / place / "manifest.json").write_text(json.dumps(manifest))
        (checkout / place / "tokenizer.json").write_text("{}")
    for model in ("one", "two"):
        (models / model).mkdir(parents=True)
        (models / model / "tokenizer.json").write_text("{}")
    (models / "notes").mkdir()
    one, two, workspace = models / "one", models / "two", checkout / ".workspaces/a/data/base_model"
    assert [*real([], checkout).values()] == [workspace]
    assert [*real([two, models], checkout).values()] == [two, one, two, workspace]
    with pytest.raises(FileNotFoundError, match="R1SEARCHER_TOKENIZERS: no tokenizer in"):
        real([models / "notes"], checkout)


def test_a_tokenizer_that_breaks_a_tag_is_refused() -> None:
    """One without byte fallback, like BERT's: unknown characters are lost."""
    words = Tokenizer(models.WordLevel({"I": 0, "think": 1, ".": 2, "[UNK]": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    broken = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    with pytest.raises(PipelineError, match=r"somewhere: the tokenizer does not give the transcript grammar back: '<"):
        check_grammar(broken, "somewhere")
