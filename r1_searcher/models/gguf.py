"""A GGUF file as the base policy: its (often quantised) weights become plain tensors in a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import reading

ENDING = ".gguf"


def open_gguf(source: str, dtype: str) -> tuple[Any, Any]:
    """Return model and tokenizer of a GGUF file, as transformers reads them.

    transformers marks the model as quantised and then refuses to save it, although its weights are plain; so they are
    moved into a model of the same configuration without that mark. Raises ``PipelineError``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = Path(source)
    if not file.is_file():
        raise PipelineError("no such file", where=source, fix="give the path of a GGUF file in base_model.source")
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise PipelineError(
            "a GGUF file needs the package gguf",
            where=source,
            fix=".venv/bin/pip install --no-deps -r requirements.lock",
        ) from None
    with reading("tokenizer", source):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    with reading("model", source):
        marked = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=getattr(torch, dtype), trust_remote_code=False
        )
    config = marked.config
    del config.quantization_config
    config._name_or_path = ""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.load_state_dict(marked.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = marked.generation_config
    return model, tokenizer
