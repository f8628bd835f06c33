"""A GGUF file becomes an ordinary policy folder: the same weights, the same tokens, no trace of quantisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from tiny_policy import tokenizer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from r1_searcher.errors import PipelineError
from r1_searcher.model_folders import load_model
from r1_searcher.models.imported import import_model

HEADS, KV_HEADS = 4, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return queries and keys with the halves of each head interleaved, as llama.cpp's rotary embedding requires."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(file: Path, *, quantised: bool = False) -> tuple[LlamaForCausalLM, Any]:
    """Write a Llama of one layer with the tests' tokenizer, in llama.cpp's format."""
    names = tokenizer(True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        eos_token_id=names.eos_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(names))
    spec = json.loads(names.backend_tokenizer.to_str())
    added = {entry["id"] for entry in spec["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(names.convert_ids_to_tokens(list(range(len(names)))))
    writer.add_token_types([3 if number in added else 1 for number in range(len(names))])
    writer.add_token_merges([" ".join(pair) for pair in spec["model"]["merges"]])
    writer.add_eos_token_id(names.eos_token_id)
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        stem = name.removesuffix(".weight").removeprefix("model.")
        if stem in ("embed_tokens", "norm"):
            stem = {"embed_tokens": "token_embd", "norm": "output_norm"}[stem]
        else:
            part = stem.removeprefix("layers.0.")
            heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(part)
            weight = weight if heads is None else turned(weight, heads)
            stem = f"blk.0.{NAMES[part]}"
        if quantised and weight.ndim == 2:
            from gguf.quants import quantize

            packed = quantize(weight, GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"{stem}.weight", packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{stem}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, names


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-5), (True, 2e-2)])
def test_a_gguf_file_is_imported_as_plain_weights(quantised: bool, tolerance: float, tmp_path: Path) -> None:
    model, names = write_gguf(tmp_path / "tiny.gguf", quantised=quantised)
    folder = tmp_path / "base_model"
    import_model(str(tmp_path / "tiny.gguf"), folder, "float32")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    ours = load_model(folder, dtype="float32")
    text = "Ada Kolm <|begin_of_query|> é"
    ids = names.encode(text, add_special_tokens=False)
    assert AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False) == ids
    with torch.inference_mode():
        theirs, found = (one(torch.tensor([ids])).logits for one in (model, ours))
    torch.testing.assert_close(found, theirs, rtol=0, atol=tolerance)
    assert json.loads((folder / "manifest.json").read_text())["source"] == str(tmp_path / "tiny.gguf")


def test_what_can_be_wrong_with_a_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nowhere\.gguf: no such file"):
        import_model(str(tmp_path / "nowhere.gguf"), tmp_path / "out", "float32")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF no more")
    with pytest.raises(PipelineError, match=r"broken\.gguf: no (tokenizer|model) could be opened"):
        import_model(str(tmp_path / "broken.gguf"), tmp_path / "out", "float32")
    assert not (tmp_path / "out").exists()
