"""Files as streams of bytes, plain or compressed (.gz, .bz2, .zst), and what kind of file a name tells of."""

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
_BLOCK = 1 << 18  # bytes a read
OnBytes = Callable[[int], None]  # told how many bytes of the file, as it lies on disk, were read


def kind(path: Path) -> str:
    """The ending that tells what a file holds, compression left out: ``a.jsonl.gz`` is ``.jsonl``."""
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


@contextlib.contextmanager
def opened(path: Path, on_bytes: OnBytes | None = None) -> Iterator[IO[bytes]]:
    """The content of a file as a stream; compression follows from the name, several streams end to end are one.

    A compressed file that is cut off or damaged is a ``PipelineError`` where it is met, inside the block.
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
        if error.errno is not None:  # the disk's or the network's, not the file's
            raise
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> PipelineError:
    reason = " ".join(str(error).split())
    return PipelineError(f"cut off or damaged: {reason}", where=str(path), fix="fetch the file again")


class _Watched(io.RawIOBase):
    """A file that tells how much of it was read."""

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
