"""Attention of one new token per row over a cache: torch's kernel against token_attention.py, one thread.

    python benchmarks/token_attention.py

"ragged": rows with different numbers of cached tokens, behind a mask; transformers then calls torch with a key and a
value per query head.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.rollout.token_attention import attend

SIZES = {"smollm2-135m, 32 rows": (32, 9, 3, 64, 440), "qwen2.5-0.5b, 32 rows": (32, 14, 2, 64, 440)}
ROUNDS, CALLS = 5, 20


def cpu_ms(call: Callable[[], object]) -> float:
    """Return the best of some rounds, in CPU milliseconds per call."""
    call()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, (time.process_time() - began) / CALLS)
    return 1000 * best


def usual(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Call torch as transformers does."""
    if mask is None:
        return scaled_dot_product_attention(query, key, value, enable_gqa=True)
    copies = query.shape[1] // key.shape[1]
    return scaled_dot_product_attention(query, repeat_kv(key, copies), repeat_kv(value, copies), attn_mask=mask)


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| model | dtype | rows | torch's kernel, ms a layer | ours, ms a layer |\n|---|---|---|---|---|")
    for name, (rows, heads, groups, dim, tokens) in SIZES.items():
        ragged = (torch.arange(tokens) < torch.linspace(tokens / 2, tokens, rows).round()[:, None])[:, None, None]
        for dtype in (torch.float32, torch.bfloat16):
            query = torch.randn(rows, heads, 1, dim).to(dtype)
            room = torch.randn(2, rows, groups, tokens + 64, dim).to(dtype)[:, :, :, :tokens]
            module = nn.Module()
            module.num_key_value_groups = heads // groups  # type: ignore[assignment]
            for mask in (None, ragged):
                torchs = cpu_ms(functools.partial(usual, query, room[0], room[1], mask))
                ours = cpu_ms(functools.partial(attend, module, query, room[0], room[1], mask))
                kind, held = "equal" if mask is None else "ragged", str(dtype).removeprefix("torch.")
                print(f"| {name} | {held} | {kind} | {torchs:.1f} | {ours:.1f} |")


if __name__ == "__main__":
    main()
