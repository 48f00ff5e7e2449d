"""A small loopback stand-in for the Hugging Face Hub, for tests of the real client: gated, slow or broken on request."""

import hashlib
import json
import re
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub:
    """Serves root/{datasets,models}/<org>/<name>/<path>. `requests` lists (method, path, range) of what was asked.

    `gated`: repositories that answer 401 without a token, 403 with one. `drop`: path -> how many times its transfer
    breaks off in the middle. `shorten`: path -> bytes that it lacks although the listing counts them. `first`: replies
    (status, headers, body, bytes of it that it sends) to descriptions before the true ones. `tokens`: those it takes,
    where not all. `fine_grained`: repositories that want a right that the token lacks.
    """

    def __init__(self, root: Path):
        self.root = root
        self.gated: set[str] = set()
        self.drop: dict[str, int] = {}
        self.shorten: dict[str, int] = {}
        self.first: list[tuple[int, dict[str, str], bytes, int | None]] = []
        self.file_first: list[tuple[int, dict[str, str], bytes, int | None]] = []
        self.tokens: set[str] | None = None
        self.fine_grained: set[str] = set()
        self.commits: dict[str, str] = {}
        # Checksums that the listing states in place of the true ones.
        self.lfs: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""

    def files_sent(self) -> list[str]:
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]

    def listing(self, kind: str, name: str) -> list[dict]:
        folder = self.root / kind / name
        listed = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            listed.append({"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size})
            if path.suffix == ".safetensors":
                digest = self.lfs.get(path.name) or hashlib.sha256(path.read_bytes()).hexdigest()
                listed[-1]["lfs"] = {"sha256": digest, "size": path.stat().st_size, "pointerSize": 135}
        return listed


@contextmanager
def serve(root: Path):
    hub = Hub(root)
    handler = type("Bound", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if match := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)/revision/([^/]+)", path):
            kind, name, revision = match.groups()
            wanted = None
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, wanted = "datasets" if match[1] else "models", match[2], match[3], match[4]
        else:
            return self._reply(404, {"error": "no such route"})
        if not (self.hub.root / kind / name).is_dir():
            return self._reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        sent = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if sent and self.hub.tokens is not None and sent not in self.hub.tokens:
            return self._reply(
                401,
                {"error": "Invalid credentials"},
                {"X-Error-Message": "Invalid credentials in Authorization header"},
            )
        if queue := self.hub.first if wanted is None else self.hub.file_first:
            return self._odd(*queue.pop(0))
        commit = self.hub.commits.get(name, revision)
        if wanted is None:
            described = {
                "id": name,
                "sha": commit,
                "private": False,
                "gated": name in self.hub.gated,
                "tags": [],
                "downloads": 0,
            }
            return self._reply(200, described | {"likes": 0, "siblings": self.hub.listing(kind, name)})
        if name in self.hub.fine_grained and sent:
            said = "Please enable access to public gated repositories in your fine-grained token settings to view this repository."
            return self._reply(403, {"error": said}, {"X-Error-Message": said})
        if name in self.hub.gated:
            status = 403 if self.headers.get("Authorization") else 401
            return self._reply(status, {"error": f"Access to {name} is restricted."}, {"X-Error-Code": "GatedRepo"})
        content = (self.hub.root / kind / name / wanted).read_bytes()
        content = content[: len(content) - self.hub.shorten.get(wanted, 0)]
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")) else 0
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            if self.hub.drop.get(wanted, 0):
                self.hub.drop[wanted] -= 1
                self.wfile.write(content[start : start + (len(content) - start) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(content[start:])

    def _odd(self, status: int, headers: dict[str, str], body: bytes, sent: int | None):
        self.send_response(status)
        for name, text in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True

    def _reply(self, status: int, value: dict, headers: dict[str, str] | None = None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass
