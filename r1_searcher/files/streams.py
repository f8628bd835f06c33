"""Files as byte streams, plain or compressed (.gz, .bz2, .zst), and the kind of a file by its name."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pyarrow as pa

from r1_searcher.errors import PipelineError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".bz2", ".zst")
_BLOCK = 1 << 18  # bytes per read
OnBytes = Callable[[int], None]  # called with the number of bytes of the file, as on disk, that were read


def kind(path: Path) -> str:
    """Return the suffix that names a file's kind, without compression: ``.jsonl`` for ``a.jsonl.gz``."""
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


@contextlib.contextmanager
def opened(path: Path, on_bytes: OnBytes | None = None) -> Iterator[IO[bytes]]:
    """Open a file's content as a stream; the name decides on compression, and concatenated streams are read as one.

    Raises ``PipelineError`` inside the block at a truncated or damaged place of a compressed file.
    """
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(io.BufferedReader(_Watched(path, on_bytes), _BLOCK))
            match path.suffix:
                case ".gz":
                    stream: object = stack.enter_context(gzip.GzipFile(fileobj=raw))
                case ".bz2":
                    stream = stack.enter_context(bz2.BZ2File(raw))
                case ".zst":
                    unpacked = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
                    stream = io.BufferedReader(unpacked)
                case _:
                    stream = raw
            yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise PipelineError("is a folder, not a file", where=str(path)) from None
    except (EOFError, zlib.error, tarfile.TarError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:  # an error of the disk or network, not of the file
            raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> PipelineError:
    reason = " ".join(str(error).split())
    return PipelineError(f"cut off or damaged: {reason}", where=str(path), fix="fetch the file again")


class _Watched(io.RawIOBase):
    """A file that reports how much of it was read."""

    def __init__(self, path: Path, on_bytes: OnBytes | None) -> None:
        self._file = io.FileIO(path, "rb")
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        number = self._file.readinto(buffer)
        if number and self._on_bytes is not None:
            self._on_bytes(number)
        return number

    def close(self) -> None:
        self._file.close()
        super().close()
