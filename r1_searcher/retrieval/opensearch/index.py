"""The index on the cluster: what it is, how it is loaded and checked.

A passage is sent as the words of our own tokenizer, joined by spaces, under an analyzer that splits at spaces. So
stemmer, stop words, title weight and every other choice of ``index`` hold on the cluster too, and its BM25 has our k1
and b. The passages' texts stay here: a result is a row of the index folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.files import passages as corpora
from r1_searcher.progress import Paced
from r1_searcher.retrieval.opensearch.client import SECTION, Cluster, reason
from r1_searcher.retrieval.opensearch.settings import OpenSearchSettings
from r1_searcher.retrieval.tokenizer import Tokenizer

_FORM = 1  # version of this code in the fingerprint: raise it if the same passages are found otherwise
_KEY = "r1_searcher"  # in the mapping's _meta
LOAD = "run `r1-searcher index load`"


def definition(meta: dict[str, Any]) -> dict[str, Any]:
    """Return settings and mapping of the index, as far as results depend on them."""
    chosen = meta["settings"]
    similarity = {"default": {"type": "BM25", "k1": chosen["k1"], "b": chosen["b"]}}
    words = {"type": "text", "analyzer": "whitespace", "index_options": "freqs"}
    return {
        "settings": {"index": {"similarity": similarity}},
        "mappings": {
            "dynamic": False,
            "_source": {"enabled": False},
            "properties": {"words": words, "row": {"type": "integer"}},
        },
    }


def search_identity(meta: dict[str, Any], flavour: str) -> str:
    """Return the fingerprint of a search: corpus, how texts become words, settings and mapping."""
    names = {name: meta[name] for name in ("corpus", "settings", "tokenizer", "num_passages")}
    return artefacts.fingerprint({**names, "definition": definition(meta), "flavour": flavour, "form": _FORM})


def check(cluster: Cluster, settings: OpenSearchSettings, meta: dict[str, Any]) -> None:
    """Raise ``PipelineError`` unless the cluster has the whole index of this corpus."""
    cluster.check()
    if not _exists(cluster, settings, meta):
        raise PipelineError(f"{cluster.url} has no index {settings.name!r}", where=f"{SECTION}.name", fix=LOAD)
    found, wanted = _count(cluster, settings), meta["num_passages"]
    if found != wanted:
        raise PipelineError(
            f"the index {settings.name!r} has {found:,} of {wanted:,} passages",
            where=f"{SECTION}.name",
            fix=LOAD,
        )


def load(
    cluster: Cluster, settings: OpenSearchSettings, meta: dict[str, Any], tokenizer: Tokenizer, corpus: Path
) -> int:
    """Send the passages of a corpus that the index lacks; return the number of all.

    A load that was killed continues after the passages that are there: a passage's id is its row, and one that is there
    is not written again. Raises ``PipelineError``.
    """
    cluster.check()
    place, total = f"/{settings.name}", int(meta["num_passages"])
    if not _exists(cluster, settings, meta):
        _create(cluster, settings, meta)
    cluster.asked("PUT", f"{place}/_settings", {"index": {"refresh_interval": "-1"}})
    found = _count(cluster, settings)
    # Rows of a request that was under way may be missing below the number of rows that are there.
    for start in (max(0, found - 2 * settings.passages_a_request), 0):
        if found != total:
            requests = _requests(corpus, meta, tokenizer, start, settings.passages_a_request)
            _send(cluster, settings, requests, start, total)
            found = _count(cluster, settings)
    if found != total:
        raise PipelineError(
            f"the index {settings.name!r} has {found:,} passages, not {total:,}", where=SECTION, fix=LOAD
        )
    ready = {"refresh_interval": None, "number_of_replicas": settings.replicas}
    cluster.asked("PUT", f"{place}/_settings", {"index": ready})
    return total


def _exists(cluster: Cluster, settings: OpenSearchSettings, meta: dict[str, Any]) -> bool:
    reply = cluster.asked("GET", f"/{settings.name}/_mapping")
    if reply.status == 404:
        return False
    try:
        [mapping] = reply.content.values()
        found = mapping["mappings"].get("_meta", {}).get(_KEY)
    except (AttributeError, KeyError, TypeError, ValueError):
        found = None
    wanted = search_identity(meta, settings.flavour)
    if found != wanted:
        is_of = "was made by something else" if found is None else f"is of another corpus or settings ({found:.12})"
        raise PipelineError(
            f"the index {settings.name!r} on {cluster.url} {is_of}, not {wanted[:12]}",
            where=f"{SECTION}.name",
            fix="choose another name, or delete that index",
        )
    return True


def _create(cluster: Cluster, settings: OpenSearchSettings, meta: dict[str, Any]) -> None:
    body = definition(meta)
    body["settings"]["index"] |= {"number_of_shards": settings.shards, "number_of_replicas": 0}
    body["mappings"]["_meta"] = {_KEY: search_identity(meta, settings.flavour)}
    cluster.asked("PUT", f"/{settings.name}", body)


def _count(cluster: Cluster, settings: OpenSearchSettings) -> int:
    cluster.asked("POST", f"/{settings.name}/_refresh")
    return int(cluster.asked("GET", f"/{settings.name}/_count").content["count"])


def _send(
    cluster: Cluster, settings: OpenSearchSettings, requests: Iterator[tuple[int, list[str]]], start: int, total: int
) -> None:
    with Paced("index, passages to the cluster", unit="passages", total=total) as paced:
        paced.add(start)
        for first, lines in requests:
            reply = cluster.asked("POST", f"/{settings.name}/_bulk", "".join(lines))
            if reply.status == 404:
                raise PipelineError(f"the index {settings.name!r} was deleted in the meantime", where=SECTION, fix=LOAD)
            if reply.content.get("errors"):
                _check_items(cluster, settings, reply.content["items"], first, lines)
            paced.add(len(lines))


def _check_items(cluster: Cluster, settings: OpenSearchSettings, items: Any, first: int, lines: list[str]) -> None:
    """Send what was refused for a while again; raise ``PipelineError`` for what is refused for good."""
    for number, item in enumerate(items):
        answer = item["create"]
        if answer["status"] < 300 or answer["status"] == 409:  # 409: it is there
            continue
        if answer["status"] in (429, 503):
            # One by one: the cluster said that it has too much to do.
            reply = cluster.asked("POST", f"/{settings.name}/_bulk", lines[number])
            answer = reply.content["items"][0]["create"]
            if answer["status"] < 300 or answer["status"] == 409:
                continue
        raise PipelineError(
            f"{cluster.url} refuses passage {first + number}: {reason(answer.get('error'))}",
            where=SECTION,
            fix=LOAD,
        )


def _requests(
    corpus: Path, meta: dict[str, Any], tokenizer: Tokenizer, start: int, size: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the first row and the lines of each request, from row ``start`` on."""
    weight, first, row = meta["settings"]["title_weight"], start, 0
    lines: list[str] = []
    for batch in corpora.batches(corpus, ["title", "text"]):
        if row + batch.num_rows <= start:
            row += batch.num_rows
            continue
        for title, text in zip(batch["title"].to_pylist(), batch["text"].to_pylist(), strict=True):
            if row >= start:
                words = " ".join([*tokenizer(title) * weight, *tokenizer(text)])
                lines.append(f'{{"create":{{"_id":"{row}"}}}}\n{json.dumps({"words": words, "row": row})}\n')
            row += 1
            if len(lines) == size:
                yield first, lines
                first, lines = row, []
    if lines:
        yield first, lines
