"""Words by a Hugging Face tokenizer: the file tokenizer.json of a local folder, copied into the index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from r1_searcher.errors import PipelineError

TOKENIZER_FILE = "tokenizer.json"
_WORD_STARTS = "▁Ġ"  # SentencePiece's and byte-level BPE's mark of a space


def locate(chosen: str) -> Path:
    """Return the tokenizer.json of ``index.tokenizer``: a folder with one, or the file. Raises ``PipelineError``."""
    path = Path(chosen)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file():
        raise PipelineError(f"no {TOKENIZER_FILE} here", where=chosen, fix="check index.tokenizer in params.yaml")
    return file


def open_tokenizer(file: Path) -> Callable[[Iterable[str]], list[str]]:
    """Return a function from words to tokens: each word is read after a space, so that a word has the same tokens
    wherever it stands. Raises ``PipelineError`` for a file that is not a tokenizer."""
    import tokenizers

    try:
        opened = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise PipelineError(
            f"not a tokenizer: {error}", where=str(file), fix="check index.tokenizer in params.yaml"
        ) from None
    opened.no_padding()
    opened.no_truncation()

    def tokens(words: Iterable[str]) -> list[str]:
        text = "".join(f" {word}" for word in words)
        found: list[str] = opened.encode(text, add_special_tokens=False).tokens
        return [token for token in found if token.strip(_WORD_STARTS)]

    return tokens
