"""The frozen reference policy in a process of its own, for when it does not fit beside the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from r1_searcher.params import Update
from r1_searcher.update.model import load_model
from r1_searcher.update.packing import lay_out, token_offsets
from r1_searcher.update.policy import TokenPolicy, run_pass


class FrozenPolicy:
    """A policy that only scores tokens: ``Trainer.reference_logprobs`` without a trainer.

    Args:
        policy: Hugging Face folder.
        update: uses ``dtype``, ``layout`` and ``max_tokens_a_pass``.
        temperature: the sampling temperature, as for the trainer.
    """

    def __init__(self, policy: Path, update: Update, *, temperature: float) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._policy = TokenPolicy(load_model(policy, update, trained=False), temperature).to(self._device)
        self._max_tokens, self._layout = update.max_tokens_a_pass, update.layout

    @torch.no_grad()
    def logprobs(self, token_ids: Sequence[Sequence[int]], policy_mask: Sequence[Sequence[bool]]) -> list[list[float]]:
        """Return log-probabilities (P_b,) of the policy tokens of B trajectories; both inputs are (T_b,) per
        trajectory."""
        offsets = token_offsets(policy_mask)
        flat = torch.zeros(int(offsets[-1]), device=self._device)
        members = range(len(token_ids))
        for piece in lay_out(token_ids, policy_mask, members, max_tokens=self._max_tokens, layout=self._layout):
            logprobs, _ = run_pass(self._policy, piece, self._device)
            flat[torch.from_numpy(piece.slots).to(self._device)] = logprobs
        values = flat.cpu().tolist()
        return [values[offsets[b] : offsets[b + 1]] for b in members]
