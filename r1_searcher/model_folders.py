"""Load a policy's tokenizer, model or configuration from its folder; whatever is wrong becomes a one-line error."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.weights import check_loaded, check_policy, weight_files

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")  # any one of them is a tokenizer
_HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")  # owner/name


def load_tokenizer(policy: Path | str) -> Any:
    """Return the policy's own tokenizer."""
    from transformers import AutoTokenizer

    check_place(policy)
    if Path(policy).is_dir():
        check_tokenizer(Path(policy))
    check_policy(policy, weights=False)
    with reading("tokenizer", policy):
        return AutoTokenizer.from_pretrained(policy, trust_remote_code=False)


def load_model(policy: Path | str, *, dtype: str, **more: Any) -> Any:
    """Load a causal language model in evaluation mode; ``more`` goes to transformers.

    Reads only the folder's safetensors: nothing is unpickled, and no code of the model's runs. Raises ``PipelineError``
    for weights that are missing, superfluous or of another shape: transformers would draw them at random or leave them
    out.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_place(policy)
    if (Path(policy) / "model.safetensors.index.json").is_file():
        weight_files(Path(policy))
    check_policy(policy)
    with reading("model", policy):
        model, report = AutoModelForCausalLM.from_pretrained(
            policy,
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **more,
        )
    check_loaded(model, report, where=str(policy))
    return model.eval()


def load_config(policy: Path | str) -> Any:
    """Return the configuration of a policy folder or hub model."""
    from transformers import AutoConfig

    check_place(policy)
    with reading("config.json", policy):
        return AutoConfig.from_pretrained(policy, trust_remote_code=False)


def check_place(policy: Path | str) -> None:
    """Raise ``PipelineError`` if ``policy`` is neither a model folder nor a hub name."""
    if not Path(policy).is_dir() and not _HUB_NAME.fullmatch(str(policy)):
        raise PipelineError("no such folder", where=str(policy), fix="give a model's folder, or a name on the hub")
    if Path(policy).is_dir() and not (Path(policy) / "config.json").exists():
        raise PipelineError("not a Hugging Face model folder: no config.json", where=str(policy))


def check_tokenizer(folder: Path) -> None:
    """Raise ``PipelineError`` if a model folder has no tokenizer."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise PipelineError("the model folder has no tokenizer", where=str(folder), fix="save the tokenizer beside it")


@contextlib.contextmanager
def reading(what: str, policy: Path | str) -> Iterator[None]:
    """Turn any error about files from outside into one line, and silence transformers' own output about them."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # a broken file may raise anything: KeyError, TypeError, SafetensorError, ...
        first_line = next(iter(str(error).strip().splitlines()), "")
        reason = f"{type(error).__name__}: {first_line}"
        raise PipelineError(f"no {what} could be opened: {reason}", where=str(policy), fix=_remedy(policy)) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _remedy(policy: Path | str) -> str | None:
    """Return what to do about what is no folder here, and could not be had from the hub."""
    if Path(policy).exists():
        return None
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "there is no such folder here, and HF_HUB_OFFLINE=1 forbids to ask the hub: set HF_HUB_OFFLINE=0"
    return "there is no such folder here; check the name on the hub, and HF_TOKEN if it is private"
