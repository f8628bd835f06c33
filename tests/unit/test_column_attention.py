"""Attention by columns is attention: the same as torch's own, whatever the heads; several columns are its own call."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from stages.rollout import column_attention
from stages.rollout.columns import ColumnCache


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_query_is_as_torch_does_it(heads: int, groups: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, heads, 1, 8).to(dtype)
    room = torch.randn(2, 3, groups, 20, 8).to(dtype)
    key, value = room[0][:, :, :13], room[1][:, :, :13]  # views of a larger cache
    found, _ = column_attention.attend(nn.Module(), query, key, value, None)
    exact = nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6 if dtype == torch.float32 else 2e-2)


def test_a_model_generates_the_same_whether_read_at_once_or_by_columns() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    plain = LlamaForCausalLM(config).eval()
    by_columns = copy.deepcopy(plain)
    column_attention.use(by_columns)
    ids = torch.randint(0, 40, (3, 11))
    with torch.inference_mode():
        whole = plain(input_ids=ids).logits
        cache = ColumnCache(2)
        pieces = [ids[:, :4], ids[:, 4:5], ids[:, 5:8], *ids[:, 8:].split(1, dim=1)]  # several columns, also later on
        read = [by_columns(input_ids=piece, past_key_values=cache, use_cache=True).logits for piece in pieces]
    torch.testing.assert_close(torch.cat(read, dim=1), whole, rtol=0, atol=1e-5)
