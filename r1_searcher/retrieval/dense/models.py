"""Models of the sentence-transformers library: where one is, what identifies it, which prefixes it needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.retrieval.extras import not_installed

AUTO = "auto"
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")  # weights, settings, tokenizer: what embeddings depend on
_CONFIG = "config_sentence_transformers.json"
_OTHER_BACKENDS = ("onnx", "openvino")

# (name, query prefix, passage prefix), from the models' own cards; the name as in folders and hub names
_FAMILIES = (
    (r"bge-(small|base|large)-en", "Represent this sentence for searching relevant passages: ", ""),
    (r"e5-(small|base|large)(?!-instruct)", "query: ", "passage: "),
    (r"(all-minilm|all-mpnet|all-distilroberta|multi-qa|msmarco|contriever|gtr-t5|gte-(small|base|large))", "", ""),
)


def library(where: str) -> ModuleType:
    """Import sentence-transformers, or raise a one-line error on how to install it. ``where``: the parameter that needs
    it."""
    try:
        import sentence_transformers
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "dense", where=where) from None
    module: ModuleType = sentence_transformers
    return module


def locate(name: str, where: str) -> Path:
    """Return the folder of a model: ``name`` itself, or the hub's copy (from the local cache if offline)."""
    place = Path(name)
    if place.is_dir():
        if not any(place.rglob("*.safetensors")):
            raise PipelineError("the model folder contains no weights (*.safetensors)", where=f"{where}, {name}")
        return place
    if place.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise PipelineError("no such model folder", where=f"{where}, {name}", fix="a folder, or a hub name OWNER/NAME")
    import huggingface_hub

    patterns = [f"{backend}/*" for backend in _OTHER_BACKENDS]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES), ignore_patterns=patterns))
    except (OSError, ValueError) as error:  # all of the hub's own errors are one of these
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PipelineError(
            f"no such folder, and the model hub does not have it: {reason}",
            where=f"{where}, {name}",
            fix="name a folder, or allow the hub: HF_HUB_OFFLINE=0",
        ) from None


def shown(name: str) -> str:
    """Return a model's name for people and protocol cards, without its place on this machine."""
    place = Path(name)
    return place.name if place.is_absolute() else name


def identity(folder: Path) -> str:
    """Return the sha256 over names and contents of a model's weights, tokenizer and settings."""
    files = {path for pattern in _FILES for path in folder.rglob(pattern) if path.is_file()}
    named = {path.relative_to(folder).as_posix(): path for path in files}
    listed = [(name, path) for name, path in sorted(named.items()) if name.split("/")[0] not in _OTHER_BACKENDS]
    return artefacts.fingerprint([[name, artefacts.sha256_file(path)] for name, path in listed])


def prefixes(name: str, folder: Path, query: str, passage: str) -> tuple[str, str]:
    """Return the prefixes of queries and passages, resolving ``auto`` in ``query`` and ``passage``.

    The model's folder is asked first, then its family by name. Raises ``PipelineError`` if neither knows: without its
    instruction a model still finds something, but worse.
    """
    if AUTO not in (query, passage):
        return query, passage
    known = _own_prefixes(folder) or _family_prefixes(name)
    if known is None:
        raise PipelineError(
            f"neither the model's folder nor its name ({name}) gives the prefixes of queries and passages",
            where="params.yaml, index.dense",
            fix="set query_prefix and passage_prefix; '' means no prefix",
        )
    return known[0] if query == AUTO else query, known[1] if passage == AUTO else passage


def check_similarity(folder: Path, similarity: Literal["cosine", "dot"]) -> None:
    """Raise ``PipelineError`` if the model's folder names another similarity than ``similarity``.

    ``cosine`` there means nothing: the library writes it by default.
    """
    wanted = str(_config(folder).get("similarity_fn_name") or "cosine").removesuffix("_product")
    if wanted not in ("cosine", similarity):
        known = wanted == "dot"
        raise PipelineError(
            f"{_CONFIG} of the model {folder.name} names the similarity {wanted!r}, not {similarity}",
            where="params.yaml, index.dense.similarity",
            fix="set it to dot" if known else "this project compares by cosine and dot: another model",
        )


def _config(folder: Path) -> dict[str, Any]:
    """Return the library's own settings of a model; empty if it has none."""
    path = folder / _CONFIG
    config = artefacts.read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise PipelineError("not a JSON object", where=str(path), fix="fix the file, or remove it")
    return config


def _own_prefixes(folder: Path) -> tuple[str, str] | None:
    """Return the prompts of config_sentence_transformers.json, or None. Empty ones mean nothing: the library writes
    them by default."""
    prompts = _config(folder).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise PipelineError(
            "'prompts' is not an object of texts", where=str(folder / _CONFIG), fix="fix the file, or remove it"
        )
    query = prompts.get("query") or ""
    passage = next((prompts[key] for key in ("passage", "document", "corpus") if prompts.get(key)), "")
    return (query, passage) if query or passage else None


def _family_prefixes(name: str) -> tuple[str, str] | None:
    plain = name.lower().replace("_", "-")
    for pattern, query, passage in _FAMILIES:
        if re.search(rf"(?<![a-z0-9]){pattern}", plain):
            return query, passage
    return None


def chosen_device(device: Literal["auto", "cpu", "cuda"], where: str) -> Literal["cpu", "cuda"]:
    """Resolve ``auto``: the GPU if there is one."""
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise PipelineError("this machine has no CUDA device", where=where, fix="set it to auto or cpu")
    if device == AUTO:
        return "cuda" if there else "cpu"
    return "cuda" if device == "cuda" else "cpu"


@contextlib.contextmanager
def opening(name: str) -> Iterator[None]:
    """Turn any error about a model's files into one line, and silence transformers' own output about them."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a broken file may raise anything: KeyError, TypeError, SafetensorError, ...
        first = next(iter(str(error).strip().splitlines()), "")
        raise PipelineError(f"no model could be opened: {type(error).__name__}: {first}", where=name) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
