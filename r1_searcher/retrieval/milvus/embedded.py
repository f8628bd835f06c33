"""Milvus Lite: a collection in a folder, searched in this process.

Milvus Lite locks its folder and writes into it, while an index is an output that several processes search at once.
So each process opens a folder of its own whose files are links to the index'.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.params import Hnsw
from r1_searcher.retrieval.extras import not_installed
from r1_searcher.retrieval.milvus import collection
from r1_searcher.retrieval.milvus.client import Milvus

FOLDER = "milvus.db"
_NAME = "passages"
_WHERE = "params.yaml, index.dense.kind"
_TIMEOUT = 86_400.0  # seconds: an index is built within one call
_LOCK, _LINKED = "LOCK", (".parquet", ".idx")  # files that are never written again


def check() -> None:
    """Raise ``PipelineError`` unless Milvus Lite is installed."""
    if importlib.util.find_spec("milvus_lite") is None or importlib.util.find_spec("pymilvus") is None:
        raise not_installed("milvus-lite", "milvus", where=_WHERE)


def build(shards: Sequence[Path], hnsw: Hnsw, folder: Path, dimension: int) -> int:
    """Write the shards' vectors as a collection into ``folder``, which ends in ``.db``; return their number."""
    milvus = _opened(folder)
    try:
        collection.create(milvus, _NAME, dimension)
        number = collection.fill(milvus, _NAME, shards)
        collection.index(milvus, _NAME, hnsw)
    finally:
        milvus.close()
        _release(folder)
    (folder / _LOCK).unlink(missing_ok=True)
    return number


def open_folder(folder: Path, ef_search: int) -> collection.CollectionVectors:
    """Open a folder of ``build`` for searches; any number of processes may. Raises ``PipelineError``."""
    view = Path(tempfile.mkdtemp(prefix="r1-searcher-milvus-")) / FOLDER
    try:
        _link(folder, view)
        opened = collection.CollectionVectors(_opened(view), _NAME, ef_search=ef_search, where=str(folder))
    except BaseException:
        _leave(view)
        raise
    weakref.finalize(opened, _leave, view)
    return opened


def _opened(folder: Path) -> Milvus:
    # Its server logs a traceback for each call that the client tries in vain.
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    return Milvus(str(folder), where=_WHERE, timeout=_TIMEOUT)


def _link(folder: Path, view: Path) -> None:
    for place, _, names in os.walk(folder.resolve()):
        target = view / Path(place).relative_to(folder.resolve())
        target.mkdir(parents=True)
        for name in names:
            if name.endswith(_LINKED):
                (target / name).symlink_to(Path(place, name))
            elif name != _LOCK:
                shutil.copyfile(Path(place, name), target / name)


def _leave(view: Path) -> None:
    _release(view)
    shutil.rmtree(view.parent, ignore_errors=True)


def _release(folder: Path) -> None:
    from milvus_lite import server_manager_instance

    server_manager_instance.release_server(str(folder))
