"""Write a policy folder as one GGUF file, which llama.cpp and Ollama read.

Only what is known to be read back exactly is written: Qwen2 and Llama models with plain rotary embeddings, and
byte-level BPE tokenizers whose splitting rule llama.cpp has. Everything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import atomic, read_json

# llama.cpp's names of the rules that split a text before BPE, and their regular expressions.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": (
        "qwen2"
    ),
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": (  # noqa: E501
        "llama-bpe"
    ),
}
_ARCHITECTURES = ("llama", "qwen2")
GGUF_KINDS = ("F32", "F16", "BF16", "Q8_0")  # of matrices; vectors are always float32


def write_gguf(policy: Path, file: Path, *, kind: str = "F16", name: str = "policy") -> None:
    """Write the policy in ``policy`` to ``file``, whole. ``kind``: one of ``GGUF_KINDS``.

    Raises ``PipelineError`` for a model or tokenizer that the file could not say exactly, and without package gguf.
    """
    try:
        import gguf
    except ImportError:
        raise PipelineError(
            "a GGUF file needs the package gguf", where=str(file), fix="pip install 'r1-searcher-pipeline[gguf]'"
        ) from None
    config = read_json(policy / "config.json")
    _check(config, policy)
    tokenizer = _tokenizer(policy)
    with atomic(file) as partial:
        writer = gguf.GGUFWriter(str(partial), config["model_type"], use_temp_file=True)
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}" if kind != "F32" else "ALL_F32"])
        _add_shape(writer, config)
        _add_tokenizer(writer, tokenizer, config, policy)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config["model_type"].upper()], config["num_hidden_layers"])
        for theirs, tensor in _tensors(policy, config):
            ours = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if ours is None:
                raise PipelineError(f"GGUF has no name for the tensor {theirs}", where=str(policy))
            stored = gguf.GGMLQuantizationType["F32" if tensor.ndim == 1 else kind]
            writer.add_tensor(ours, gguf.quants.quantize(tensor, stored), raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _check(config: Mapping[str, Any], policy: Path) -> None:
    where, kind = str(policy / "config.json"), config.get("model_type")
    if kind not in _ARCHITECTURES:
        raise PipelineError(
            f"a model of type {kind!r} is not written as GGUF", where=where, fix=f"known: {', '.join(_ARCHITECTURES)}"
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise PipelineError(f"rotary embeddings of type {rope['rope_type']!r} are not written as GGUF", where=where)
    for option in ("use_sliding_window", "attention_bias", "mlp_bias"):
        if config.get(option):
            raise PipelineError(f"a model with {option} is not written as GGUF", where=where)


def _add_shape(writer: Any, config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    writer.add_rope_dimension_count(width)
    if width * heads != config["hidden_size"]:
        writer.add_key_length(width)
        writer.add_value_length(width)
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(policy: Path) -> dict[str, Any]:
    """Return tokenizer.json, with ``pre``: llama.cpp's name of its splitting rule."""
    file = policy / "tokenizer.json"
    if not file.is_file():
        raise PipelineError("no such file: a GGUF file needs the policy's tokenizer", where=str(file))
    tokenizer: dict[str, Any] = read_json(file)
    split = tokenizer.get("pre_tokenizer") or {}
    parts = split.get("pretokenizers", [split])
    patterns = [part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"]
    kinds = [part.get("type") for part in parts]
    pre = "gpt-2" if kinds == ["ByteLevel"] and parts[0].get("use_regex") else _SPLITS.get("".join(patterns))
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits") and parts[1].get("use_regex"):
        pre = "smollm"
    if tokenizer["model"].get("type") != "BPE" or pre is None:
        raise PipelineError(
            "llama.cpp has no rule that splits text like this tokenizer",
            where=str(file),
            fix="known: GPT-2's, SmolLM's, Qwen2's and Llama 3's",
        )
    return tokenizer | {"pre": pre}


def _add_tokenizer(writer: Any, tokenizer: Mapping[str, Any], config: Mapping[str, Any], policy: Path) -> None:
    import gguf

    kinds = gguf.TokenType
    texts: dict[int, tuple[str, int]] = {
        number: (text, kinds.NORMAL) for text, number in tokenizer["model"]["vocab"].items()
    }
    for token in tokenizer["added_tokens"]:
        texts[token["id"]] = (token["content"], kinds.CONTROL if token["special"] else kinds.USER_DEFINED)
    whole = [texts.get(number, (f"[PAD{number}]", kinds.UNUSED)) for number in range(config["vocab_size"])]
    merges = [one if isinstance(one, str) else " ".join(one) for one in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer["pre"])
    writer.add_token_list([text for text, _ in whole])
    writer.add_token_types([kind for _, kind in whole])
    writer.add_token_merges(merges)
    ends = config.get("eos_token_id")
    end = ends[0] if isinstance(ends, list) else ends
    if end is not None:
        writer.add_eos_token_id(end)
    for value, add in (("bos_token_id", writer.add_bos_token_id), ("pad_token_id", writer.add_pad_token_id)):
        if config.get(value) is not None:
            add(config[value])
    writer.add_add_bos_token(_adds_bos(policy))
    template = policy / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def _adds_bos(policy: Path) -> bool:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(policy / "tokenizer.json"))
    plain, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    return len(whole) > len(plain)


def _tensors(policy: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and float32 arrays; the same matrix twice (tied embeddings) comes once."""
    import torch
    from safetensors import safe_open

    heads = config["num_attention_heads"]
    rows = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    for file in sorted(policy.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # no dictionary
                if name == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                tensor = opened.get_tensor(name).to(torch.float32)
                layer = name.split(".")[-2]
                if config["model_type"] == "llama" and layer in rows:
                    tensor = _interleaved(tensor, rows[layer])
                yield name, tensor.numpy()


def _interleaved(tensor: Any, heads: int) -> Any:
    """Reorder a Llama projection's rows: in GGUF the two halves of a rotary pair are neighbours."""
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
