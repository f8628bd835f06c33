"""A collection of vectors: one per passage, its row as the primary key, under an HNSW index by inner product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1_searcher.errors import PipelineError
from r1_searcher.net.retries import TryAgain
from r1_searcher.params import Hnsw
from r1_searcher.progress import Paced
from r1_searcher.retrieval.milvus.client import Milvus
from r1_searcher.types.protocols import RetrieverError

ROW, VECTOR = "row", "vector"
_BYTES_A_REQUEST = 4 << 20  # of vectors; Milvus takes 64 MB, gRPC's default is 4 MB for answers
_QUERIES_A_REQUEST = 256
ROWS_AGAIN = 16_384  # more rows than one request has
_MOST = 16_384  # Milvus' limit on results per query


def create(milvus: Milvus, name: str, dimension: int) -> None:
    """Create an empty collection without an index, which is built when all vectors are there."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ROW, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
    milvus.asked("create_collection", name, schema=schema, consistency_level="Strong")


def count(milvus: Milvus, name: str) -> int:
    """Return the number of vectors, those just written included. The collection must be loaded."""
    found = milvus.asked("query", name, filter="", output_fields=["count(*)"])
    return int(found[0]["count(*)"])


def fill(milvus: Milvus, name: str, shards: Sequence[Path], *, start: int = 0, resend: bool = False) -> int:
    """Send the vectors of the shards (N, D) from row ``start`` on; return the number of all rows.

    ``resend``: rows may be there already, from a load that was killed; each is then replaced by itself.
    """
    arrays = [np.load(shard, mmap_mode="r") for shard in shards]
    total = sum(len(array) for array in arrays)
    with Paced("index, vectors to Milvus", unit="passages", total=total) as paced:
        paced.add(start)
        for first, rows in _blocks(arrays, start):
            data = [{ROW: first + number, VECTOR: vector} for number, vector in enumerate(rows)]
            milvus.asked("upsert" if resend else "insert", name, data)
            paced.add(len(data))
    return total


def _blocks(arrays: Sequence[np.ndarray], start: int) -> Iterator[tuple[int, np.ndarray]]:
    size = max(1, _BYTES_A_REQUEST // (arrays[0].shape[1] * 4))
    before = 0
    for array in arrays:
        for first in range(max(0, start - before), len(array), size):
            yield before + first, np.ascontiguousarray(array[first : first + size], dtype=np.float32)
        before += len(array)


def index(milvus: Milvus, name: str, hnsw: Hnsw) -> None:
    """Build the index over all vectors and load the collection."""
    from pymilvus import MilvusClient

    milvus.asked("flush", name)
    wanted = MilvusClient.prepare_index_params()
    # As one object: Milvus Lite ignores the parameters that stand by themselves.
    graph = {"M": hnsw.links, "efConstruction": hnsw.ef_construction}
    wanted.add_index(VECTOR, index_type="HNSW", metric_type="IP", params={"params": graph})
    if not milvus.asked("list_indexes", name):
        milvus.asked("create_index", name, wanted)
    milvus.asked("load_collection", name)


class CollectionVectors:
    """The vectors of a loaded collection, searched as a faiss index is."""

    def __init__(self, milvus: Milvus, name: str, *, ef_search: int, where: str) -> None:
        """Raises ``PipelineError`` if the collection is not of this form."""
        self._milvus, self._name, self._ef = milvus, name, ef_search
        fields = {field["name"]: field for field in milvus.asked("describe_collection", name)["fields"]}
        if set(fields) != {ROW, VECTOR}:
            raise PipelineError(f"the collection {name} was made by something else", where=where)
        self.dimension = int(fields[VECTOR]["params"]["dim"])
        milvus.asked("load_collection", name)
        self.count = count(milvus, name)

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
        """Return at most ``k`` (row, inner product) for each of ``queries`` (Q, D), best first, ties by row."""
        limit = min(k, self.count, _MOST)
        how: dict[str, Any] = {"metric_type": "IP", "params": {"ef": max(self._ef, limit)}}
        # Nothing is written any more: a server need not wait for its newest writes, a third of a second per search.
        fixed: dict[str, Any] = {"anns_field": VECTOR, "output_fields": [ROW], "consistency_level": "Eventually"}
        found: list[list[tuple[int, float]]] = []
        for first in range(0, len(queries), _QUERIES_A_REQUEST):
            part = list(queries[first : first + _QUERIES_A_REQUEST])
            try:
                answers = self._milvus.call("search", self._name, part, limit=limit, search_params=how, **fixed)
            except TryAgain as error:
                raise RetrieverError(f"Milvus: {error}") from None
            found += [[(int(hit[ROW]), float(hit["distance"])) for hit in hits] for hits in answers]
        return [sorted(one, key=lambda entry: (-entry[1], entry[0])) for one in found]
