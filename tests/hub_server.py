"""A real HTTP server with the part of a hub's API that an upload and a download of a repository use."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

TOKEN = "hf_the_right_token"
COMMIT = "c" * 40
_LARGE = 100_000  # bytes; larger files go through LFS


class Hub:
    """Repositories by "models/owner/name", each with its files and whether it is private."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.blobs: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.app = FastAPI()
        self.url = ""
        self._routes()

    def _routes(self) -> None:
        app = self.app

        @app.middleware("http")
        async def token(request: Request, call_next: Any) -> Response:
            if request.method == "POST" and request.headers.get("authorization") != f"Bearer {TOKEN}":
                return JSONResponse({"error": "Invalid username or password."}, 401)
            answer: Response = await call_next(request)
            return answer

        @app.post("/api/validate-yaml")
        async def validate(request: Request) -> Any:
            assert (await request.json())["content"].startswith("---\n")
            return {"warnings": [], "errors": []}

        @app.post("/api/repos/create")
        async def create(request: Request) -> Any:
            asked = await request.json()
            kind, name = asked.get("type", "model"), f"{asked.get('organization') or 'me'}/{asked['name']}"
            place = f"{kind}s/{name}"
            if place in self.files:
                return JSONResponse({"error": "You already created this repo", "url": f"{self.url}/{name}"}, 409)
            self.files[place], self.private[place] = {}, asked.get("private") or asked.get("visibility") == "private"
            prefix = "datasets/" if kind == "dataset" else ""
            return {"url": f"{self.url}/{prefix}{name}", "name": name, "id": "1"}

        @app.post("/api/{kind}/{owner}/{name}/preupload/{revision}")
        async def modes(request: Request) -> Any:
            asked = await request.json()
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["size"] > _LARGE else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for one in asked["files"]
            ]
            return {"files": files}

        @app.post("/{path:path}.git/info/lfs/objects/batch")
        async def batch(request: Request) -> Any:
            asked = await request.json()
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{self.url}/blobs/{one['oid']}", "header": {}}},
                }
                for one in asked["objects"]
            ]
            return {"transfer": "basic", "objects": objects}

        @app.put("/blobs/{oid}")
        async def store(oid: str, request: Request) -> Response:
            body = await request.body()
            assert hashlib.sha256(body).hexdigest() == oid
            self.blobs[oid] = body
            return Response()

        @app.post("/api/{kind}/{owner}/{name}/commit/{revision}")
        async def commit(kind: str, owner: str, name: str, request: Request) -> Any:
            place = self.files[f"{kind}/{owner}/{name}"]
            for line in (await request.body()).decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header":
                    self.commits.append(value["summary"])
                elif entry["key"] == "file":
                    place[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    place[value["path"]] = self.blobs[value["oid"]]
            return {"commitUrl": f"{self.url}/{owner}/{name}/commit/{COMMIT}", "commitOid": COMMIT}

        @app.get("/api/{kind}/{owner}/{name}/revision/{revision}")
        @app.get("/api/{kind}/{owner}/{name}")
        async def info(kind: str, owner: str, name: str) -> Any:
            files = self.files.get(f"{kind}/{owner}/{name}")
            if files is None:
                return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}

        @app.get("/api/{kind}/{owner}/{name}/tree/{revision}")
        async def tree(kind: str, owner: str, name: str) -> Any:
            files = self.files[f"{kind}/{owner}/{name}"]
            return [
                {"type": "file", "path": path, "size": len(body), "oid": hashlib.sha256(body).hexdigest()}
                for path, body in files.items()
            ]

        @app.api_route("/{owner}/{name}/resolve/{revision}/{path}", methods=["GET", "HEAD"])
        async def resolve(owner: str, name: str, path: str) -> Response:
            body = self.files[f"models/{owner}/{name}"].get(path)
            if body is None:
                return JSONResponse({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            etag = hashlib.sha256(body).hexdigest()
            return Response(body, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """Serve a hub on a free port."""
    served = Hub()
    server = uvicorn.Server(uvicorn.Config(served.app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    served.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
