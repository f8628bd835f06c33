"""Lay trajectories out into passes: the rectangles that go through the model at once.

Two layouts with equal loss (a property test checks it):

- ``padded``: trajectories sorted by length, one per row, padded on the right. Causal attention never looks right, so no
  attention mask is needed, and attention costs the square of one trajectory, not of a row. This is the faster one on a
  CPU: at 60-190 tokens per trajectory, sorting leaves below 15 % padding.
- ``packed``: trajectories end to end in one row, with positions that restart at each; attention is block-diagonal
  (``attention``), and nothing is padded.

A trajectory is cut before its last policy token: what follows predicts nothing that is trained on. Hidden states are
gathered at the positions that predict a policy token before the output head, so that no other position has logits or
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from r1_searcher.types.arrays import Ints

Layout = Literal["padded", "packed"]

FILL = 0  # any token id: nothing that is trained on attends to it


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of R rows by T columns that predicts N policy tokens."""

    input_ids: Ints  # (R, T)
    position_ids: Ints | None  # (R, T); None: 0..T-1 in every row
    predict: Ints  # (N,) positions in the flattened (R * T) whose hidden state predicts a policy token
    targets: Ints  # (N,) the policy tokens
    slots: Ints  # (N,) positions among all policy tokens of the batch, trajectory by trajectory
    lengths: tuple[int, ...] | None = None  # packed: lengths of the row's trajectories in order; their sum is T
    counted: bool = True  # False: run only to keep ranks in step, without any weight

    @property
    def num_tokens(self) -> int:
        """Number of positions computed, including padding."""
        return int(self.input_ids.size)


def lay_out(
    token_ids: Sequence[Sequence[int]],
    policy_mask: Sequence[Sequence[bool]],
    members: Sequence[int],
    *,
    max_tokens: int,
    layout: Layout,
) -> list[Pass]:
    """Lay out passes of at most ``max_tokens`` positions (a longer trajectory gets a pass of its own).

    ``members`` are the trajectories to lay out; ``slots`` refer to the whole batch. Raises ``ValueError`` if a
    trajectory has no policy token or begins with one, which nothing predicts.
    """
    offsets = token_offsets(policy_mask)
    pieces = [_piece(token_ids[b], policy_mask[b], int(offsets[b]), b) for b in members]
    pieces.sort(key=lambda piece: -len(piece.inputs))  # stable: equal lengths keep the order of `members`
    rows = _padded_groups(pieces, max_tokens) if layout == "padded" else _packed_groups(pieces, max_tokens)
    return [_pad(group) if layout == "padded" else _pack(group) for group in rows]


def token_offsets(policy_mask: Sequence[Sequence[bool]]) -> Ints:
    """Return where each trajectory's policy tokens begin among all of the batch: (B + 1,), the last is the total."""
    return np.concatenate([[0], np.cumsum([int(np.count_nonzero(mask)) for mask in policy_mask])]).astype(np.int64)


@dataclass(frozen=True)
class _Piece:
    inputs: Ints  # (T,) tokens up to the one before the last policy token
    predict: Ints  # (P,) positions in `inputs` that predict a policy token
    targets: Ints  # (P,)
    slots: Ints  # (P,)


def _piece(token_ids: Sequence[int], policy_mask: Sequence[bool], offset: int, trajectory: int) -> _Piece:
    ids, mask = np.asarray(token_ids, dtype=np.int64), np.asarray(policy_mask, dtype=bool)
    if ids.shape != mask.shape:
        raise ValueError(f"trajectory {trajectory}: {len(ids)} tokens, {len(mask)} entries in the policy mask")
    where = np.flatnonzero(mask)
    if not len(where) or where[0] == 0:
        raise ValueError(f"trajectory {trajectory} has no policy token, or begins with one")
    slots = np.arange(offset, offset + len(where), dtype=np.int64)
    return _Piece(ids[: where[-1]], where - 1, ids[where], slots)


def _padded_groups(pieces: list[_Piece], max_tokens: int) -> list[list[_Piece]]:
    """Group pieces, longest first, into rectangles within ``max_tokens``."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        if groups and (len(groups[-1]) + 1) * len(groups[-1][0].inputs) <= max_tokens:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _packed_groups(pieces: list[_Piece], max_tokens: int) -> list[list[_Piece]]:
    """Group pieces by first fit, longest first."""
    groups: list[list[_Piece]] = []
    room: list[int] = []
    for piece in pieces:
        size = len(piece.inputs)
        fit = next((row for row, left in enumerate(room) if left >= size), None)
        if fit is None:
            groups.append([piece])
            room.append(max_tokens - size)
        else:
            groups[fit].append(piece)
            room[fit] -= size
    return groups


def _pad(group: list[_Piece]) -> Pass:
    width = max(len(piece.inputs) for piece in group)
    ids = np.full((len(group), width), FILL, dtype=np.int64)
    for row, piece in enumerate(group):
        ids[row, : len(piece.inputs)] = piece.inputs
    starts = [row * width for row in range(len(group))]
    return _joined(group, ids, None, starts)


def _pack(group: list[_Piece]) -> Pass:
    lengths = [len(piece.inputs) for piece in group]
    ids = np.concatenate([piece.inputs for piece in group])[None]
    positions = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])[None]
    starts = [int(start) for start in np.cumsum([0, *lengths[:-1]])]
    return _joined(group, ids, positions, starts, tuple(lengths))


def _joined(
    group: list[_Piece], ids: Ints, positions: Ints | None, starts: list[int], lengths: tuple[int, ...] | None = None
) -> Pass:
    return Pass(
        input_ids=ids,
        position_ids=positions,
        predict=np.concatenate([piece.predict + start for piece, start in zip(group, starts, strict=True)]),
        targets=np.concatenate([piece.targets for piece in group]),
        slots=np.concatenate([piece.slots for piece in group]),
        lengths=lengths,
    )
