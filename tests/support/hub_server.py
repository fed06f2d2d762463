"""A real HTTP server on loopback that speaks the part of the Hub's protocol that we use.

It stores what is pushed to it, by content, and can be told to misbehave. Paths and JSON
are those that huggingface_hub asks for and expects; large files go through Git LFS's
batch protocol with the "basic" transfer, as the client does where Xet is switched off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"


def blob_id(data: bytes) -> str:
    """What git calls a blob of this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """Commits by id, each a mapping of path to content; branches and tags by name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, ref: str, files: dict[str, bytes], parent: str | None = None) -> str:
        before = self.commits.get(self.refs.get(parent or ref, ""), {})
        oid = hashlib.sha1(f"{len(self.commits)} {ref} {sorted(files)}".encode()).hexdigest()
        self.commits[oid] = before | files
        self.refs[ref] = oid
        return oid

    def find(self, revision: str) -> str | None:
        oid = self.refs.get(revision, revision)
        return oid if oid in self.commits else None


class HubServer(ThreadingHTTPServer):
    """Start with ``with HubServer() as hub``; ``hub.url`` is the endpoint.

    Attributes:
        repos: by ``org/name``.
        requests: "METHOD path" of all requests, in order.
        cut_after: bytes of a large file's body after which the connection is cut, once.
        hold: bytes of a large file's body after which the server waits for `release`.
        wrong_bytes: serve large files with a byte changed.
        missing_bytes: how many bytes large files lack at their end, with headers that agree.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cut_after: int | None = None
        self.hold: int | None = None
        self.released = threading.Event()
        self.wrong_bytes = False
        self.missing_bytes = 0

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.shutdown()
        self.server_close()

    def release(self) -> None:
        """Let a held answer go, and hold no more."""
        self.hold = None
        self.released.set()

    def add(self, name: str, files: dict[str, bytes], **attributes: Any) -> str:
        """A repository with one commit on ``main``; returns the commit's id."""
        repo = self.repos.setdefault(name, Repo(**attributes))
        return repo.commit("main", files)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{method} {url.path}")
        for pattern, allowed, name in _ROUTES:
            match = re.fullmatch(pattern, url.path)
            if match and method in allowed:
                getattr(self, name)(**{key: unquote(v) for key, v in match.groupdict().items()})
                return
        self._json({"error": f"no route for {method} {url.path}"}, 404)

    def _json(self, value: object, status: int = 200, **headers: str) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, text in headers.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repo(self, name: str) -> Repo | None:
        """The repository, or None after the Hub's own kind of refusal was sent."""
        repo = self.server.repos.get(name)
        if repo is not None and repo.private and not self._authorized():
            self._json({"error": "Invalid username or password."}, 401)
            return None
        if repo is None:
            self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return None
        if repo.gated and not self._authorized():
            message = "Access to this model is restricted"
            self._json({"error": message}, 403, X_Error_Code="GatedRepo", X_Error_Message=message)
            return None
        return repo

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repo = self._repo(name)
        if repo is None:
            return None
        oid = repo.find(revision)
        if oid is None:
            self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return None
        return oid, repo.commits[oid]

    def info(self, name: str, revision: str = "main") -> None:
        found = self._commit(name, revision)
        if found:
            oid, files = found
            siblings = [{"rfilename": path} for path in files]
            self._json({"id": name, "sha": oid, "siblings": siblings, "private": False})

    def tree(self, name: str, revision: str) -> None:
        found = self._commit(name, revision)
        if found:
            self._json([_entry(path, data) for path, data in found[1].items()])

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._commit(name, revision)
        if not found:
            return
        oid, files = found
        if path not in files:
            self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            return
        data = files[path]
        large = _is_large(path)
        etag = hashlib.sha256(data).hexdigest() if large else blob_id(data)
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted:
            start = int(wanted[1])
            self.server.ranges.append(wanted[0])
        if large:
            data = data[: len(data) - self.server.missing_bytes]
        if large and self.server.wrong_bytes:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", oid)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut_after if large else None
        if cut is not None:
            self.server.cut_after = None
            self.wfile.write(data[start : start + cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        if large and self.server.hold is not None:
            self.wfile.write(data[start : start + self.server.hold])
            self.wfile.flush()
            self.server.released.wait()
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def create(self) -> None:
        if not self._authorized():
            self._json({"error": "Invalid username or password."}, 401)
            return
        wanted = json.loads(self.body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repos:
            url = f"{self.server.url}/{name}"
            self._json({"error": "You already created this model repo", "url": url}, 409)
            return
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        self.server.repos[name] = Repo(private=private)
        self.server.repos[name].commit("main", {".gitattributes": b""})
        self._json({"url": f"{self.server.url}/{name}", "name": name})

    def branch(self, name: str, branch: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if branch in repo.refs:
            self._json({"error": "Reference already exists"}, 409)
            return
        repo.refs[branch] = repo.refs["main"]
        self._json({})

    def preupload(self, name: str, revision: str) -> None:
        if self._commit(name, revision):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            self._json({"files": files})

    def lfs_batch(self, name: str) -> None:
        if self._repo(name):
            objects = [
                {
                    **wanted,
                    "actions": {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}},
                }
                for wanted in json.loads(self.body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._json({"error": "wrong content"}, 400)
            return
        self.server.objects[oid] = self.body
        self._json({})

    def commit(self, name: str, revision: str) -> None:
        if not self._authorized():
            self._json({"error": "Unauthorized"}, 401)
            return
        repo = self._repo(name)
        if repo is None:
            return
        files = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        pull = "create_pr" in self.query
        oid = repo.commit("refs/pr/1" if pull else revision, files, parent=revision)
        base = f"{self.server.url}/{name}"
        answer = {"commitUrl": f"{base}/commit/{oid}", "commitOid": oid, "success": True}
        if pull:
            answer["pullRequestUrl"] = f"{base}/discussions/1"
        self._json(answer)

    def whoami(self) -> None:
        self._json({"name": "org", "type": "user"}, 200 if self._authorized() else 401)

    def yaml(self) -> None:
        """The check of a model card's metadata."""
        self._json({"errors": [], "warnings": []})


_NAME = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = [
    (rf"/api/models/{_NAME}", ("GET",), "info"),
    (rf"/api/models/{_NAME}/revision/(?P<revision>[^/]+)", ("GET",), "info"),
    (rf"/api/models/{_NAME}/tree/(?P<revision>[^/]+)", ("GET",), "tree"),
    (rf"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", ("GET", "HEAD"), "resolve"),
    (r"/api/repos/create", ("POST",), "create"),
    (rf"/api/models/{_NAME}/branch/(?P<branch>[^/]+)", ("POST",), "branch"),
    (rf"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)", ("POST",), "preupload"),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", ("POST",), "lfs_batch"),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", ("PUT",), "lfs_put"),
    (rf"/api/models/{_NAME}/commit/(?P<revision>[^/]+)", ("POST",), "commit"),
    (r"/api/whoami-v2", ("GET",), "whoami"),
    (r"/api/validate-yaml", ("POST",), "yaml"),
]


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def _entry(path: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file",
        "path": path,
        "size": len(data),
        "oid": blob_id(data),
    }
    if _is_large(path):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry
