"""Remember which ids occurred, in a few bytes per id.

Plain decimal numbers, such as Wikipedia's page ids, take one bit each in a table of at most 16 MB. Of other ids, 64
bits of a hash are kept: 11 to 22 bytes per id (half as much again while the table grows); a Python set of strings takes
about 120. Two such ids collide with a probability of n² / 2⁶⁵: 2e-5 for 29M.
"""

from __future__ import annotations

import hashlib
from array import array

_NUMBERS = 1 << 27  # smaller ids have a bit of their own; Wikipedia's reach 8 · 10⁷
_DIGITS = 9
_PAGE_BITS = 16  # numbers that share a block of the table, which is made on first use


class SeenIds:
    """A set of strings that only grows."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._hashed = self._numbers = 0
        self._blocks: dict[int, bytearray] = {}

    def __len__(self) -> int:
        return self._hashed + self._numbers

    @property
    def nbytes(self) -> int:
        """Memory of the tables, in bytes."""
        return len(self._slots) * self._slots.itemsize + len(self._blocks) * (1 << _PAGE_BITS >> 3)

    def add(self, identity: str) -> bool:
        """Add ``identity``; return whether it is new."""
        number = _number(identity)
        if number is not None:
            return self._mark(number)
        digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if not self._put(int.from_bytes(digest, "little") or 1):  # 0 marks a free slot
            return False
        self._hashed += 1
        if 4 * self._hashed > 3 * len(self._slots):
            self._grow()
        return True

    def _mark(self, number: int) -> bool:
        block = self._blocks.get(number >> _PAGE_BITS)
        if block is None:
            block = self._blocks[number >> _PAGE_BITS] = bytearray(1 << _PAGE_BITS >> 3)
        place, bit = (number & ((1 << _PAGE_BITS) - 1)) >> 3, 1 << (number & 7)
        if block[place] & bit:
            return False
        block[place] |= bit
        self._numbers += 1
        return True

    def _put(self, key: int) -> bool:
        slots, mask = self._slots, len(self._slots) - 1
        place = key & mask
        while slots[place]:
            if slots[place] == key:
                return False
            place = (place + 1) & mask
        slots[place] = key
        return True

    def _grow(self) -> None:
        old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
        for key in old:
            if key:
                self._put(key)


def _number(identity: str) -> int | None:
    """Return the number that ``identity`` is in Python's notation if it is small, else None; "007" is another id than
    "7"."""
    if len(identity) > _DIGITS or not (identity.isascii() and identity.isdecimal()):
        return None
    number = int(identity)
    return number if number < _NUMBERS and (identity[0] != "0" or identity == "0") else None
