"""Attention by tokens equals torch's own, whatever the heads and the mask; and a model that prefills rows of different
lengths into one cache gives the same as for each row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from r1_searcher.rollout import token_attention
from r1_searcher.rollout.cache import Reading, RowCache


@pytest.mark.parametrize("lengths", [None, (13, 1, 7)], ids=["equal", "ragged"])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_query_is_as_torch_does_it(
    heads: int, groups: int, dtype: torch.dtype, lengths: tuple[int, ...] | None
) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, heads, 1, 8).to(dtype)
    room = torch.randn(2, 3, groups, 20, 8).to(dtype)
    key, value = room[0][:, :, :13], room[1][:, :, :13]  # views of a larger cache
    mask = None if lengths is None else (torch.arange(13) < torch.tensor(lengths)[:, None])[:, None, None]
    module = nn.Module()
    module.num_key_value_groups = heads // groups  # type: ignore[assignment]
    found, _ = token_attention.attend(module, query, key, value, mask)
    exact = nn.functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), attn_mask=mask, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6 if dtype == torch.float32 else 2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("by_tokens", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_rows_read_in_any_pieces_are_as_read_alone(seed: int, by_tokens: bool) -> None:
    torch.manual_seed(seed)
    chosen = np.random.default_rng(seed)
    config = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 40, (3, 150))
    ids[1, :9] = ids[0, :9]  # two rows that begin alike
    with torch.inference_mode():
        whole = model(input_ids=ids).logits
        if by_tokens:
            token_attention.use(model)
        else:  # torch's kernel, with the rows' own mask
            AttentionInterface.register("sdpa_of_rows", sdpa_attention_forward)
            AttentionMaskInterface.register("sdpa_of_rows", token_attention.mask)
            model.set_attn_implementation("sdpa_of_rows")
        # which of ``ids`` are in the cache, and how many tokens
        cache, rows, read = RowCache(2, 3), [0, 1, 2], [0, 0, 0]

        def check(places: list[int], number: int, reading: Reading) -> None:
            cache.read(reading)
            found = model(
                input_ids=torch.stack([ids[rows[place], read[place] : read[place] + number] for place in places]),
                position_ids=reading.places,
                past_key_values=cache,
                use_cache=True,
            ).logits
            for place, logits in zip(places, found, strict=True):
                expected = whole[rows[place], read[place] : read[place] + number]
                torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

        if seed % 2:
            check([0], 9, Reading(0, 9, only=[0, 1]))
            read[:2] = 9, 9
        while max(read) < 140:
            number = int(chosen.integers(1, 4))
            if chosen.random() < 0.3:
                place = int(chosen.integers(len(rows)))
                number *= 3
                check([place], number, Reading(read[place], read[place] + number, only=[place]))
                read[place] += number
            else:
                check(list(range(len(rows))), number, Reading.together(read, number, ids.device))
                read = [one + number for one in read]
            if len(rows) > 1 and max(read) > (70 if len(rows) == 3 else 110):  # a row leaves, then another
                kept = [place for place in range(len(rows)) if place != seed % len(rows)]
                cache.keep_rows(torch.tensor(kept))
                rows, read = [rows[place] for place in kept], [read[place] for place in kept]
        assert len(rows) == 1
