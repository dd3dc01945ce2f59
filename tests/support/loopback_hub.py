"""A Hub in a box: enough of the Hub's HTTP interface that the real client creates, uploads, tags and downloads.

`Hub` keeps repositories in memory and answers requests; `wsgi` serves it without a socket, `serve` on a loopback port.
Large files go the way of LFS; given a folder they go the way of Xet, whose own client stores them there.
It misbehaves on demand: `hub.fail(...)` answers with an error, cuts the connection, flips a byte or truncates a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "loopbackloopbackloopback"
USER = "someone"


class CutError(Exception):
    """The connection is cut."""


@dataclass
class Answer:
    """What a request is answered with."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """A misbehaviour: for requests that match, so many times."""

    pattern: str
    how: int | str
    times: int


@dataclass
class Repo:
    """A repository: commits (sha, files by path), branches and tags."""

    name: str
    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    def tree(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Find a commit by branch, tag or sha."""
        sha = self.refs.get(revision, revision)
        return next(((known, files) for known, files in self.commits if known == sha), None)

    def commit(self, files: dict[str, bytes]) -> str:
        """Put a commit on main."""
        told = hashlib.sha1(str(len(self.commits)).encode())
        for path, content in sorted(files.items()):
            told.update(path.encode() + hashlib.sha256(content).digest())
        sha = told.hexdigest()
        self.commits.append((sha, files))
        self.refs["main"] = sha
        return sha


class Hub:
    """The server's state and its answers.

    Attributes:
        repos: Repositories by "owner/name".
        log: "METHOD path" of every request, in order.
        seen: Every Authorization header that came.
    """

    def __init__(self, xet: Path | None = None) -> None:
        self.xet = xet
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.log: list[str] = []
        self.seen: list[str] = []
        self.faults: list[Fault] = []
        self.hooks: list[Callable[[str], None]] = []
        self.lock = threading.RLock()
        self.base = "https://huggingface.co"

    def fail(self, pattern: str, how: int | str, times: int = 1) -> None:
        """Misbehave on requests whose "METHOD path" matches: a status, "cut", "flip" or "truncate"."""
        self.faults.append(Fault(pattern, how, times))

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer one request."""
        line = f"{method} {urlsplit(target).path}"
        with self.lock:
            self.log.append(line)
            self.seen.append(headers.get("authorization", ""))
        for hook in list(self.hooks):
            hook(line)
        fault = self._fault(line)
        if fault == "cut":
            raise CutError
        if isinstance(fault, int):
            return _error(fault, {}, f"fault {fault}")
        with self.lock:
            found = self._route(method, target, headers, body)
        if fault == "flip" and found.body:
            found.body = found.body[:-1] + bytes([found.body[-1] ^ 1])
        if fault == "truncate":
            found.body = found.body[: len(found.body) // 2]
            found.headers["Content-Length"] = str(len(found.body))
        return found

    def _fault(self, line: str) -> int | str | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault.how
        return None

    def _route(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        path = urlsplit(target).path
        for pattern, allowed, job in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in allowed:
                user = headers.get("authorization") == f"Bearer {TOKEN}"
                parts = [unquote(part) for part in match.groups()]
                return job(self, Request(method, target, headers, body, user), *parts)
        return _error(404, {}, f"no {method} {path}")

    def whoami(self, request: Request) -> Answer:
        """Say who asks."""
        if not request.known:
            return _error(401, {}, "Invalid username or password.")
        return _json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self, request: Request) -> Answer:
        """Make a repository."""
        if not request.known:
            return _error(401, {}, "Unauthorized")
        told = request.json()
        owner = told.get("organization") or USER
        if owner != USER:
            return _error(403, {}, f"You don't have the rights to create a model under the namespace {owner}")
        name = f"{owner}/{told['name']}"
        url = f"{self.base}/{name}"
        if name in self.repos:
            return _json({"error": "You already created this model repo", "url": url}, 409)
        private = bool(told.get("private")) or told.get("visibility") == "private"
        repo = self.repos[name] = Repo(name, private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return _json({"url": url, "name": name, "id": name})

    def validate(self, request: Request) -> Answer:
        """Check a card's metadata."""
        content = request.json()["content"]
        if re.search(r"^license:\s*$", content, flags=re.MULTILINE):
            return _json({"errors": [{"message": '"license" must be a string'}], "warnings": []}, 400)
        return _json({"errors": [], "warnings": []})

    def preupload(self, request: Request, name: str, revision: str) -> Answer:
        """Tell which files go the way of large files."""
        repo = self._writable(request, name)
        if isinstance(repo, Answer):
            return repo
        files = []
        for told in request.json()["files"]:
            large = told["path"].endswith((".safetensors", ".png", ".bin"))
            row = {"path": told["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            files.append(row)
        return _json({"files": files})

    def batch(self, request: Request, name: str) -> Answer:
        """Say where large files are to be put."""
        repo = self._writable(request, name)
        if isinstance(repo, Answer):
            return repo
        objects = []
        for told in request.json()["objects"]:
            row = {"oid": told["oid"], "size": told["size"]}
            if told["oid"] not in self.blobs:
                row["actions"] = {
                    "upload": {"href": f"{self.base}/lfs/put/{told['oid']}", "header": {}},
                    "verify": {"href": f"{self.base}/lfs/verify", "header": {}},
                }
            objects.append(row)
        return _json({"transfer": "basic", "objects": objects})

    def put(self, request: Request, oid: str) -> Answer:
        """Take a large file."""
        if hashlib.sha256(request.body).hexdigest() != oid:
            return _error(400, {}, "sha256 mismatch")
        self.blobs[oid] = request.body
        return Answer()

    def verify(self, request: Request) -> Answer:
        """Confirm a large file."""
        told = request.json()
        return Answer() if len(self.blobs.get(told["oid"], b"")) == told["size"] else _error(404, {}, "no such object")

    def commit(self, request: Request, name: str, revision: str) -> Answer:
        """Take a commit: whole or not at all."""
        repo = self._writable(request, name)
        if isinstance(repo, Answer):
            return repo
        head, files = repo.tree(revision) or ("", {})
        files = dict(files)
        for line in request.body.decode().splitlines():
            told = json.loads(line)
            key, value = told["key"], told["value"]
            if key == "header" and value.get("parentCommit") not in (None, head):
                return _error(412, {}, "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if self.xet is not None and value["oid"] not in self.blobs:
                    self._take_from_xet(value["oid"], value["size"])
                if value["oid"] not in self.blobs:
                    return _error(400, {}, f"no object {value['oid']}")
                files[value["path"]] = self.blobs[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"], None)
        sha = repo.commit(files)
        return _json({"success": True, "commitOid": sha, "commitUrl": f"{self.base}/{name}/commit/{sha}"})

    def info(self, request: Request, name: str, revision: str = "main") -> Answer:
        """Describe a repository at a revision."""
        repo, found = self._readable(request, name, revision)
        if found is None:
            return (
                repo if isinstance(repo, Answer) else _error(404, {"X-Error-Code": "RevisionNotFound"}, "no revision")
            )
        sha, files = found
        assert isinstance(repo, Repo)
        siblings = [{"rfilename": path} for path in sorted(files)]
        return _json(
            {"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []}
        )

    def listing(self, request: Request) -> Answer:
        """List an owner's repositories."""
        author = parse_qs(urlsplit(request.target).query).get("author", [""])[0]
        rows = [
            {"id": name, "modelId": name, "sha": repo.refs["main"], "private": repo.private, "tags": [], "siblings": []}
            for name, repo in self.repos.items()
            if name.startswith(f"{author}/") and (request.known or not repo.private)
        ]
        return _json(rows)

    def tree(self, request: Request, name: str, revision: str) -> Answer:
        """List a revision's files."""
        repo, found = self._readable(request, name, revision)
        if found is None:
            return (
                repo if isinstance(repo, Answer) else _error(404, {"X-Error-Code": "RevisionNotFound"}, "no revision")
            )
        return _json([{"type": "file", "path": path, **_blob(content)} for path, content in sorted(found[1].items())])

    def paths_info(self, request: Request, name: str, revision: str) -> Answer:
        """List some of a revision's files."""
        repo, found = self._readable(request, name, revision)
        if found is None:
            return (
                repo if isinstance(repo, Answer) else _error(404, {"X-Error-Code": "RevisionNotFound"}, "no revision")
            )
        if "json" in request.headers.get("content-type", ""):
            wanted = request.json().get("paths", [])
        else:
            wanted = parse_qs(request.body.decode()).get("paths", [])
        return _json([{"type": "file", "path": p, **_blob(found[1][p])} for p in wanted if p in found[1]])

    def tag(self, request: Request, name: str, revision: str) -> Answer:
        """Tag a revision."""
        repo = self._writable(request, name)
        if isinstance(repo, Answer):
            return repo
        tag = request.json()["tag"]
        if tag in repo.refs:
            return _error(409, {}, f"Tag reference exists already: {tag}")
        found = repo.tree(revision)
        if found is None:
            return _error(404, {"X-Error-Code": "RevisionNotFound"}, "no revision")
        repo.refs[tag] = found[0]
        return Answer(201)

    def refs(self, request: Request, name: str) -> Answer:
        """List branches and tags."""
        repo, _ = self._readable(request, name, "main")
        if isinstance(repo, Answer):
            return repo
        rows = [
            {"name": n, "ref": f"refs/tags/{n}", "targetCommit": sha} for n, sha in repo.refs.items() if n != "main"
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.refs["main"]}
        return _json({"branches": [main], "tags": rows, "converts": []})

    def resolve(self, request: Request, name: str, revision: str, path: str) -> Answer:
        """Give a file, or its headers."""
        repo, found = self._readable(request, name, revision)
        if found is None:
            return (
                repo if isinstance(repo, Answer) else _error(404, {"X-Error-Code": "RevisionNotFound"}, "no revision")
            )
        sha, files = found
        if path not in files:
            return _error(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}, "no such file")
        content = files[path]
        told = _blob(content)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{told["oid"]}"', "Content-Type": "application/octet-stream"}
        if "lfs" in told:
            headers |= {"ETag": f'"{told["lfs"]["oid"]}"', "X-Linked-Etag": f'"{told["lfs"]["oid"]}"'}
            headers["X-Linked-Size"] = str(len(content))
            if self.xet is not None and request.method == "HEAD":
                headers["X-Xet-Hash"] = xet_hashes(self.xet)[told["lfs"]["oid"]]
                headers["Link"] = f'<{self.base}/api/models/{name}/xet-read-token/{sha}>; rel="xet-auth"'
        status, start = 200, 0
        if match := re.match(r"bytes=(\d+)-", request.headers.get("range", "")):
            status, start = 206, int(match.group(1))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if request.method == "HEAD":
            return Answer(200, b"", {**headers, "Content-Length": str(len(content))})
        return Answer(status, content[start:], headers)

    def xet_token(self, request: Request, name: str, kind: str, revision: str) -> Answer:
        """Say where Xet's client finds its store."""
        found = self._writable(request, name) if kind == "write" else self._readable(request, name, revision)[0]
        if isinstance(found, Answer):
            return found
        if self.xet is None:
            return _error(404, {}, "no Xet here")
        told = {"casUrl": f"local://{self.xet}", "accessToken": "xet", "exp": 2_000_000_000}
        headers = {"X-Xet-Cas-Url": told["casUrl"], "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": "2000000000"}
        return Answer(200, json.dumps(told).encode(), {"Content-Type": "application/json", **headers})

    def _take_from_xet(self, oid: str, size: int) -> None:
        """Get a file that Xet's client has stored, by its sha256."""
        import hf_xet

        assert self.xet is not None
        found = xet_hashes(self.xet).get(oid)
        if found is None:
            return
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "file"
            with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{self.xet}") as group:
                group.start_download_file(hf_xet.XetFileInfo(found, size), str(file))
            content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == oid:
            self.blobs[oid] = content

    def _writable(self, request: Request, name: str) -> Repo | Answer:
        if not request.known:
            return _error(401, {}, "Unauthorized")
        if name not in self.repos:
            return _error(404, {"X-Error-Code": "RepoNotFound"}, "Repository not found")
        return self.repos[name]

    def _readable(
        self, request: Request, name: str, revision: str
    ) -> tuple[Repo | Answer, tuple[str, dict[str, bytes]] | None]:
        repo = self.repos.get(name)
        if repo is None or (repo.private and not request.known):
            return _error(
                401 if not request.known else 404, {"X-Error-Code": "RepoNotFound"}, "Repository not found"
            ), None
        return repo, repo.tree(revision)


@dataclass
class Request:
    """One request, its sender known or not."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    known: bool

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body or b"{}")


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, set[str], Callable[..., Answer]]] = [
    (r"/api/whoami-v2", {"GET"}, Hub.whoami),
    (r"/api/repos/create", {"POST"}, Hub.create),
    (r"/api/validate-yaml", {"POST"}, Hub.validate),
    (rf"/api/models/{_ID}/preupload/([^/]+)", {"POST"}, Hub.preupload),
    (rf"/{_ID}\.git/info/lfs/objects/batch", {"POST"}, Hub.batch),
    (r"/lfs/put/(\w+)", {"PUT"}, Hub.put),
    (r"/lfs/verify", {"POST"}, Hub.verify),
    (rf"/api/models/{_ID}/commit/([^/]+)", {"POST"}, Hub.commit),
    (rf"/api/models/{_ID}/revision/([^/]+)", {"GET"}, Hub.info),
    (rf"/api/models/{_ID}/tree/([^/]+)", {"GET"}, Hub.tree),
    (rf"/api/models/{_ID}/paths-info/([^/]+)", {"POST"}, Hub.paths_info),
    (rf"/api/models/{_ID}/tag/([^/]+)", {"POST"}, Hub.tag),
    (rf"/api/models/{_ID}/xet-(read|write)-token/([^/]+)", {"GET"}, Hub.xet_token),
    (rf"/api/models/{_ID}/refs", {"GET"}, Hub.refs),
    (rf"/api/models/{_ID}", {"GET"}, Hub.info),
    (r"/api/models", {"GET"}, Hub.listing),
    (rf"/{_ID}/resolve/([^/]+)/(.+)", {"GET", "HEAD"}, Hub.resolve),
]


def _blob(content: bytes) -> dict[str, Any]:
    """Describe a file as git and the large-file store do."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    told: dict[str, Any] = {"oid": oid, "size": len(content)}
    if len(content) > 10_000_000 or b"\0" in content[:512]:
        told["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return told


def xet_hashes(store: Path) -> dict[str, str]:
    """Read from the shards of Xet's store which file has which sha256: sha256 to Xet's own hash, both hex.

    A shard is a row of records of 48 bytes. A file's are its hash, flags and number of segments; the segments; as many
    checks of them (flag 31); its sha256 (flag 30). Hashes are four little-endian words of 64 bits.
    """
    found: dict[str, str] = {}
    for shard in (store / "xet" / "xorbs" / "shards").glob("*.mdb"):
        data, at = shard.read_bytes(), 48
        while data[at : at + 32] != b"\xff" * 32:
            flags, segments = struct.unpack_from("<II", data, at + 32)
            end = at + 48 * (1 + segments * (2 if flags >> 31 else 1))
            if flags >> 30 & 1:
                found[_words(data, end)] = _words(data, at)
                end += 48
            at = end
    return found


def _words(data: bytes, at: int) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, at))


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _error(status: int, headers: dict[str, str], words: str) -> Answer:
    found = _json({"error": words}, status)
    return Answer(status, found.body, {**found.headers, "X-Error-Message": words, **headers})


def wsgi(hub: Hub) -> Callable[..., Iterator[bytes]]:
    """Serve a Hub to a client in the same process, without a socket."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
        headers |= {"content-type": environ.get("CONTENT_TYPE", "")}
        target = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
        found = hub.answer(environ["REQUEST_METHOD"], target, headers, environ["wsgi.input"].read())
        lengths = {"Content-Length": str(len(found.body))}
        start_response(f"{found.status} .", list({**lengths, **found.headers}.items()))
        return iter([found.body])

    return app


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """Serve a Hub on a loopback port, for clients in other processes; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(headers.get("content-length", 0)))
            try:
                found = hub.answer(self.command, self.path, headers, body)
            except CutError:
                self.close_connection = True
                return
            self.send_response(found.status)
            for key, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _do  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub.base
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
