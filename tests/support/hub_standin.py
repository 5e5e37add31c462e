"""A small server for the part of the Hub's HTTP API that publishing a dataset uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml


class HubStandIn:
    """A stand-in for the Hub with repositories in memory.

    Attributes:
        url: Address of the server.
        repositories: By name, {"private": bool, "files": {path: bytes}, "commits": [message], "tags": {name: commit}}.
        objects: Contents of uploaded large files, by SHA-256.
        fail_uploads: Number of uploads of large files still to fail.
    """

    token = "hf_of_the_tests"

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.fail_uploads = 0
        self.uploads = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _dispatch(self, method: str) -> None:
        body = self._body()
        if not self.path.startswith("/upload/") and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._answer({"error": "Invalid username or password."}, 401)
        for pattern, known, name in _ROUTES:
            if known == method and (found := re.fullmatch(pattern, self.path.partition("?")[0])):
                return getattr(self, name)(body, *found.groups())
        return self._answer({"error": f"{method} {self.path}: not supported by the stand-in"}, 404)

    def do_GET(self) -> None:
        self._dispatch("GET")

    def do_POST(self) -> None:
        self._dispatch("POST")

    def do_PUT(self) -> None:
        self._dispatch("PUT")

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        assert asked["type"] == "dataset"
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
        url = f"{self.hub.url}/datasets/{name}"
        if name in self.hub.repositories:
            return self._answer({"error": "You already created this dataset repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[name] = {"private": private, "files": {}, "commits": [], "tags": {}}
        return self._answer({"url": url, "id": name, "name": name})

    def validate_yaml(self, body: bytes) -> None:
        asked = json.loads(body)
        assert asked["repoType"] == "dataset"
        metadata = yaml.safe_load(asked["content"].split("---")[1])
        missing = [{"message": f"{key} is missing"} for key in ("license",) if key not in metadata]
        self._answer({"errors": missing, "warnings": []}, 400 if missing else 200)

    def preupload(self, body: bytes, name: str) -> None:
        files = json.loads(body)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith((".parquet", ".png")) else "regular",
             "shouldIgnore": False}
            for f in files
        ]  # fmt: skip
        self._answer({"files": modes, "commitOid": _oid(self.hub.repositories[name])})

    def batch(self, body: bytes, name: str) -> None:
        out = []
        for wanted in json.loads(body)["objects"]:
            out.append({"oid": wanted["oid"], "size": wanted["size"]})
            if wanted["oid"] not in self.hub.objects:
                out[-1]["actions"] = {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}
        self._answer({"transfer": "basic", "objects": out})

    def upload(self, body: bytes, oid: str) -> None:
        self.hub.uploads += 1
        if self.hub.fail_uploads:
            self.hub.fail_uploads -= 1
            return self._answer({"error": "try later"}, 400)
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        return self._answer({})

    def commit(self, body: bytes, name: str) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository["files"])
        for line in map(json.loads, body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "header":
                repository["commits"].append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        repository["files"] = files
        url = f"{self.hub.url}/datasets/{name}/commit/{_oid(repository)}"
        self._answer({"success": True, "commitOid": _oid(repository), "commitUrl": url, "hookOutput": ""})

    def tree(self, body: bytes, name: str) -> None:
        files = self.hub.repositories[name]["files"]
        self._answer([
            {"type": "file", "oid": "0" * 40, "size": len(content), "path": path} for path, content in files.items()
        ])  # fmt: skip

    def info(self, body: bytes, name: str) -> None:
        repository = self.hub.repositories[name]
        siblings = [{"rfilename": path} for path in repository["files"]]
        self._answer({"id": name, "sha": _oid(repository), "private": repository["private"], "siblings": siblings})

    def tag(self, body: bytes, name: str, revision: str) -> None:
        asked, tags = json.loads(body), self.hub.repositories[name]["tags"]
        if asked["tag"] in tags:
            return self._answer({"error": "Tag already exists"}, 409)
        tags[asked["tag"]] = revision
        return self._answer({})


def _oid(repository: dict[str, Any]) -> str:
    return hashlib.sha1(str(len(repository["commits"])).encode()).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (r"/api/repos/create", "POST", "create"),
    (r"/api/validate-yaml", "POST", "validate_yaml"),
    (rf"/api/datasets/{_NAME}/preupload/main", "POST", "preupload"),
    (rf"/datasets/{_NAME}\.git/info/lfs/objects/batch", "POST", "batch"),
    (r"/upload/(\w+)", "PUT", "upload"),
    (rf"/api/datasets/{_NAME}/commit/main", "POST", "commit"),
    (rf"/api/datasets/{_NAME}/tree/main", "GET", "tree"),
    (rf"/api/datasets/{_NAME}(?:/revision/main)?", "GET", "info"),
    (rf"/api/datasets/{_NAME}/tag/(\w+)", "POST", "tag"),
)
