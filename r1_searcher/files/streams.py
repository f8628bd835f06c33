"""Open files as byte streams, plain or compressed (gzip, bzip2, Zstandard, xz, zip), and detect their kind.

Compression is detected from the first bytes, whatever the name; the kind from the name, else from the first bytes.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

import pyarrow as pa

from r1_searcher.errors import PipelineError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".bz2", ".zst", ".xz", ".zip")
_MAGIC = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xfd7zXZ\x00": ".xz",
    b"PK\x03\x04": ".zip",
    b"PK\x05\x06": ".zip",  # an empty archive
}
_SYNONYMS = {".ndjson": ".jsonl", ".jl": ".jsonl", ".tab": ".tsv", ".pq": ".parquet"}
KINDS = (".jsonl", ".json", ".tsv", ".csv", ".parquet")
_OTHERS = {  # kinds that are not read → what they are, and what to do
    ".arrow": ("an Arrow table", "write it as Parquet: datasets.load_from_disk(FOLDER).to_parquet(FILE)"),
    ".feather": ("an Arrow table", "write it as Parquet: pandas.read_feather(FILE).to_parquet(NEW)"),
    ".pkl": ("a pickle, which can run code", "write it as JSON lines or Parquet"),
    ".tar": ("an archive", "unpack it"),
    ".xlsx": ("a spreadsheet", "save it as CSV"),
}
_OTHERS |= {".pickle": _OTHERS[".pkl"], ".tgz": _OTHERS[".tar"]}
_BLOCK = 1 << 18  # bytes per read
_PEEKED = 1 << 16  # bytes of content that suffice to detect its kind
OnBytes = Callable[[int], None]  # called with the number of bytes read of the file on disk


def kind(path: Path) -> str:
    """Return the suffix of the content, in lower case and without compression: ``.jsonl`` for ``A.JSONL.gz``."""
    name = PurePosixPath(path.name.lower())
    found = PurePosixPath(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix
    return _SYNONYMS.get(found, found)


def content_kind(path: Path) -> str:
    """Return a file's kind, one of ``KINDS``, from its name, else from its first bytes.

    Raises ``PipelineError`` for a file that cannot be opened or is of no known kind.
    """
    known = kind(path)
    if known in KINDS:
        return known
    if known in _OTHERS and path.is_file():
        what, fix = _OTHERS[known]
        raise PipelineError(what, where=str(path), fix=fix)
    with opened(path) as stream:
        start = stream.read(_PEEKED)
    found = _sniffed(start, cut=len(start) == _PEEKED)
    if found is None:
        raise PipelineError(
            f"neither its name ({known or 'no ending'}) nor its first bytes tell what kind of file it is",
            where=str(path),
            fix=f"a name that ends in one of {', '.join(KINDS)}",
        )
    return found


def _sniffed(start: bytes, *, cut: bool) -> str | None:
    """Return ``.json`` if the text is one array or one object over several lines, else ``.jsonl``."""
    if start.startswith(b"PAR1"):
        return ".parquet"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return ".json"
    first, _, rest = text.partition(b"\n")
    if text.startswith(b"{"):
        return ".jsonl" if first.rstrip().endswith(b"}") or (not rest and cut) else ".json"
    if b"\t" in first:
        return ".tsv"
    return ".csv" if b"," in first else None


@contextlib.contextmanager
def opened(path: Path, on_bytes: OnBytes | None = None) -> Iterator[IO[bytes]]:
    """Open a file's content as a stream; concatenated compressed streams are one, a zip holds one file.

    Raises ``PipelineError``, inside the block, for a truncated or damaged compressed file, for UTF-16 text and for a
    Git LFS pointer.
    """
    try:
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(io.BufferedReader(_Watched(path, on_bytes), _BLOCK))
            start = raw.peek(256)[:256]
            match _compression(path, start):
                case ".gz":
                    stream: object = stack.enter_context(gzip.GzipFile(fileobj=raw))
                case ".bz2":
                    stream = stack.enter_context(bz2.BZ2File(raw))
                case ".xz":
                    stream = stack.enter_context(lzma.LZMAFile(raw))
                case ".zst":
                    unpacked = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
                    stream = io.BufferedReader(unpacked)
                case ".zip":
                    archive = stack.enter_context(zipfile.ZipFile(raw))
                    stream = stack.enter_context(archive.open(_member(archive, path)))
                case _:
                    _check_text(path, start)
                    stream = raw
            yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise PipelineError("no such file", where=str(path)) from None
    except IsADirectoryError:
        raise PipelineError("is a folder, not a file", where=str(path)) from None
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None
    except NotImplementedError as error:  # zipfile's error for unknown compression methods
        raise PipelineError(f"a zip that cannot be unpacked: {error}", where=str(path), fix="unpack it") from None
    except OSError as error:
        if error.errno is not None:  # an error of the disk or network, not of the file
            raise
        raise _damaged(path, error) from None


def _compression(path: Path, start: bytes) -> str:
    """Return the compression by the first bytes; if only the name indicates one, believe it: the content is then
    damaged."""
    found = next((ending for magic, ending in _MAGIC.items() if start.startswith(magic)), "")
    named = path.suffix.lower()
    return found or (named if named in COMPRESSIONS else "")


def _member(archive: zipfile.ZipFile, path: Path) -> str:
    names = [one.filename for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX")]
    if len(names) != 1:
        raise PipelineError(
            f"a zip with {len(names)} files in it, and only one can be meant", where=str(path), fix="unpack it"
        )
    return names[0]


def _check_text(path: Path, start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PipelineError("UTF-16 text", where=str(path), fix="convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise PipelineError("a pointer of Git LFS, not the file itself", where=str(path), fix="git lfs pull")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise PipelineError("a page of a website, not the file itself", where=str(path), fix="fetch the file again")


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

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        number = self._file.readinto(buffer)
        if number and self._on_bytes is not None:
            self._on_bytes(number)
        return number

    def close(self) -> None:
        self._file.close()
        super().close()
