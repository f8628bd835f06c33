"""Attention of one new token a row over a cache: torch's kernel against stages/rollout/token_attention.py, one thread.

python benchmarks/token_attention.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from stages.rollout.token_attention import attend

SIZES = {"smollm2-135m, 32 rows": (32, 9, 3, 64, 440), "qwen2.5-0.5b, 32 rows": (32, 14, 2, 64, 440)}
ROUNDS, CALLS = 5, 20


def cpu_ms(call: Callable[[], object]) -> float:
    """The best of some rounds, in milliseconds of CPU a call."""
    call()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, (time.process_time() - began) / CALLS)
    return 1000 * best


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print("| model | dtype | torch's kernel, ms a layer | by columns, ms a layer |\n|---|---|---|---|")
    for name, (rows, heads, groups, dim, columns) in SIZES.items():
        for dtype in (torch.float32, torch.bfloat16):
            query = torch.randn(rows, heads, 1, dim).to(dtype)
            room = torch.randn(2, rows, groups, columns + 64, dim).to(dtype)[:, :, :, :columns]
            usual = cpu_ms(lambda q=query, r=room: scaled_dot_product_attention(q, r[0], r[1], enable_gqa=True))
            ours = cpu_ms(lambda q=query, r=room: attend(nn.Module(), q, r[0], r[1], None))
            print(f"| {name} | {str(dtype).removeprefix('torch.')} | {usual:.1f} | {ours:.1f} |")


if __name__ == "__main__":
    main()
