"""Texts of a trajectory's tokens, by the tokenizer of its policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from r1_searcher.browsing.folders import walk

_FILE = "tokenizer.json"
_MOST_TRIED = 8
_INCOMPLETE = "\ufffd"
_Decode = Callable[[Sequence[int]], str]


@dataclass
class Tokenizers:
    """The tokenizers in the folders that are browsed. ``chosen``: the one that the user names."""

    roots: Sequence[Path]
    chosen: Path | None = None
    _opened: dict[Path, _Decode | None] = field(default_factory=dict)

    def spelling(self, file: Path, token_ids: Sequence[int], text: str) -> tuple[Path, _Decode] | None:
        """Return the tokenizer by which ``token_ids`` spell exactly ``text``, the nearest to ``file`` first; None if
        there is none."""
        for path in [self.chosen] if self.chosen else self._nearest(file)[:_MOST_TRIED]:
            decode = self._open(path)
            if decode is not None and decode(token_ids) == text:
                return path, decode
        return None

    def _nearest(self, file: Path) -> list[Path]:
        """Return all tokenizers, that of the segment's own policy first."""
        parts = file.resolve().parts

        def distance(path: Path) -> tuple[int, str]:
            own = path.resolve().parts
            shared = next((n for n, (a, b) in enumerate(zip(parts, own, strict=False)) if a != b), 0)
            return (-shared, str(path))

        return sorted(self._found(), key=distance)

    def _found(self) -> list[Path]:
        return [folder / _FILE for root in self.roots for folder, names in walk(root) if _FILE in names]

    def _open(self, path: Path) -> _Decode | None:
        if path not in self._opened:
            from tokenizers import Tokenizer

            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception:  # its errors are plain exceptions; such a file spells nothing
                self._opened[path] = None
            else:
                self._opened[path] = lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)
        return self._opened[path]


def pieces(decode: _Decode, token_ids: Sequence[int]) -> list[str]:
    """Return the text of each token; joined they are the text of all. A token that ends within a character is empty,
    and the one that completes it has the character."""
    out: list[str] = []
    start = read = 0  # text before ``start`` cannot change any more; that of start to read is written
    for end in range(1, len(token_ids) + 1):
        before, now = decode(token_ids[start:read]), decode(token_ids[start:end])
        if now.endswith(_INCOMPLETE) and end < len(token_ids) and end - read < 8:
            out.append("")
            continue
        out.append(now[len(before) :])
        start, read = read, end
    return out
