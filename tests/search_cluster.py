"""A stand-in for an OpenSearch or Elasticsearch cluster: the documented forms of the requests that are sent.

It indexes and ranks as Lucene does: BM25 with lengths rounded to a byte, documents visible after a refresh, ids created
once, ties by the sort. Faults can be ordered.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
_FREE = 24  # lengths below are exact


def _rounded(length: int) -> int:
    """Lucene's SmallFloat: a length as it comes out of its byte."""
    above = length - _FREE
    if above < 8:
        return length
    shift = above.bit_length() - 4
    return _FREE + ((above >> shift) << shift)


class SearchCluster:
    """The state: indexes by name, and what is to go wrong."""

    def __init__(self, flavour: str = "opensearch", major: int = 9, key: str = "") -> None:
        self.flavour, self.major, self.key = flavour, major, key
        self.indexes: dict[str, dict[str, Any]] = {}
        self.bulks: list[list[str]] = []  # ids of each request
        self.die_after = 10**9  # bulk requests
        self.busy_items = 0  # items that are refused with 429
        self.busy = 0  # requests that are refused with 503
        self.failed_shards = 0
        self.gone = False

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        name, action = [*path.strip("/").split("/"), ""][:2]
        if not name:
            return 200, {"version": self._version(), "tagline": "You Know, for Search"}
        if method == "PUT" and not action:
            return self._create(name, json.loads(body))
        if name not in self.indexes:
            return self.error(404, "index_not_found_exception", f"no such index [{name}]")
        known = {
            "GET _mapping": lambda index, _: {name: {"mappings": index["mappings"]}},
            "PUT _settings": lambda index, body: index["settings"]["index"].update(json.loads(body)["index"]) or {},
            "POST _refresh": lambda index, _: index["docs"].update(index["new"]) or index["new"].clear() or {},
            "GET _count": lambda index, _: {"count": len(index["docs"])},
            "POST _bulk": self._bulk,
            "POST _msearch": self._msearch,
        }
        return 200, known[f"{method} {action}"](self.indexes[name], body)

    def _create(self, name: str, body: dict[str, Any]) -> Answer:
        if name in self.indexes:
            return self.error(400, "resource_already_exists_exception", f"index [{name}] already exists")
        self.indexes[name] = {**body, "docs": {}, "new": {}}
        return 200, {"acknowledged": True, "index": name}

    def _msearch(self, index: dict[str, Any], body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.decode().splitlines()]
        assert all(head == {"search_type": "dfs_query_then_fetch"} for head in lines[::2])
        return {"took": 1, "responses": [self._search(index, asked) for asked in lines[1::2]]}

    def _version(self) -> dict[str, str]:
        if self.flavour == "opensearch":
            return {"distribution": "opensearch", "number": "3.2.0"}
        return {"number": f"{self.major}.1.0", "build_flavor": "default"}

    def error(self, status: int, kind: str, reason: str) -> Answer:
        cause = {"type": kind, "reason": reason}
        return status, {"error": {"root_cause": [cause], **cause}, "status": status}

    def _bulk(self, index: dict[str, Any], body: bytes) -> dict[str, Any]:
        lines = [json.loads(line) for line in body.decode().splitlines()]
        items = []
        self.bulks.append([line["create"]["_id"] for line in lines[::2]])
        for head, doc in zip(lines[::2], lines[1::2], strict=True):
            name = head["create"]["_id"]
            item: dict[str, Any] = {"_id": name, "status": 201}
            if self.busy_items:
                self.busy_items -= 1
                item = {"_id": name, "status": 429, "error": {"type": "rejected", "reason": "queue is full"}}
            elif name in index["docs"] or name in index["new"]:
                item = {"_id": name, "status": 409, "error": {"type": "version_conflict_engine_exception"}}
            elif not isinstance(doc["row"], int):
                item = {"_id": name, "status": 400, "error": {"type": "document_parsing_exception"}}
            else:
                index["new"][name] = doc
            items.append({"create": item})
        return {"took": 1, "errors": any(item["create"]["status"] >= 300 for item in items), "items": items}

    def _search(self, index: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        query = asked["query"]["match"]["words"].split(" ")
        if len(query) > 1024:
            refusal: dict[str, Any] = self.error(400, "too_many_nested_clauses", "maxClauseCount is set to 1024")[1]
            return refusal
        similarity = index["settings"]["index"]["similarity"]["default"]
        k1, b = similarity["k1"], similarity["b"]
        words = {doc["row"]: doc["words"].split() for doc in index["docs"].values()}
        number = len(words)
        average = sum(map(len, words.values())) / number
        scores: dict[int, float] = {}
        for term in query:
            counts = {row: count for row, text in words.items() if (count := Counter(text)[term])}
            idf = math.log(1 + (number - len(counts) + 0.5) / (len(counts) + 0.5))
            for row, count in counts.items():
                norm = k1 * (1 - b + b * _rounded(len(words[row])) / average)
                scores[row] = scores.get(row, 0.0) + idf * count / (count + norm)
        assert asked["sort"] == [{"_score": "desc"}, {"row": "asc"}] and asked["_source"] is False
        best = sorted(scores, key=lambda row: (-scores[row], row))[: asked["size"]]
        hits = [{"_id": str(row), "_score": None, "sort": [scores[row], row]} for row in best]
        shards = {"total": 2, "failed": self.failed_shards}
        return {"timed_out": False, "_shards": shards, "hits": {"hits": hits}, "status": 200}


@contextlib.contextmanager
def serving(cluster: SearchCluster) -> Iterator[str]:
    """Yield the address of the cluster."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            path = self.path.partition("?")[0]
            if cluster.gone or (path.endswith("_bulk") and len(cluster.bulks) >= cluster.die_after):
                self.close_connection = True
                self.connection.close()
                return
            self.reply(*self.status(path, body))

        def status(self, path: str, body: bytes) -> Answer:
            given = self.headers.get("Authorization", "")
            if cluster.key and given not in (f"ApiKey {cluster.key}", _basic(f"ann:{cluster.key}")):
                return cluster.error(401, "security_exception", "missing authentication credentials")
            compatible = f"compatible-with={cluster.major}"
            if cluster.flavour == "elasticsearch" and compatible not in self.headers.get("Accept", ""):
                return cluster.error(400, "media_type_header_exception", "Invalid media-type value")
            if cluster.busy:
                cluster.busy -= 1
                return cluster.error(503, "process_cluster_event_timeout_exception", "busy")
            return cluster.answer(self.command, path, body)

        def reply(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if cluster.flavour == "elasticsearch":
                self.send_header("X-Elastic-Product", "Elasticsearch")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = handle_request

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        cluster.gone = True  # for connections that are still open
        server.shutdown()
        server.server_close()
        thread.join()


def _basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
