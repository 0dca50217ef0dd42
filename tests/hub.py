"""A small Hugging Face hub on loopback, for HF_ENDPOINT: what huggingface_hub, transformers and datasets ask of one.

    with Hub() as hub:
        commit = hub.push("org/model", {"config.json": b"{}"})
        subprocess.run(command, env={**os.environ, **hub.variables(home)})

Repositories live in RAM; every push is a commit of all files (hub_uploads.py has the requests that make one). Large
files are redirected to another path, as the real hub does for LFS. Refusals carry the headers by which huggingface_hub
tells them apart.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.hub_uploads import LFS_BYTES, Refusal, Uploads

Kind = Literal["models", "datasets"]
TOKEN = "hf_" + "loopbackOfTheTests"
"""A token that may read and write everything."""


@dataclass(slots=True, kw_only=True)
class Repository:
    """A model or a data set, with its history."""

    name: str
    kind: Kind
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> path -> content."""
    refs: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""

    def commit(self, revision: str) -> str | None:
        """The commit that a branch, a tag or (the beginning of) a commit names."""
        begins = [commit for commit in self.commits if len(revision) > 6 and commit.startswith(revision)]
        return self.refs.get(revision) or (begins[0] if begins else None)


class Hub:
    """The server, and what lies on it."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.renamed: dict[str, str] = {}
        """Old id -> id; requests for the old one are redirected."""
        self.down: int | None = None
        """Status that every request gets, such as 429 or 503."""
        self.stopped = False
        self.withheld: set[str] = set()
        """Names of files that nobody may read."""
        self.denied = False
        """Whether the token's owner has not accepted the terms of gated repositories."""
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and token of every request."""
        self.uploads = Uploads(self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more, also to those who are connected."""
        self.stopped = True
        self._server.shutdown()
        self._server.server_close()

    def push(
        self,
        name: str,
        files: Mapping[str, bytes] | Path,
        *,
        kind: Kind = "models",
        to: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Make a commit of these files, and let the branch `to` name it; returns the commit."""
        repository = self.repositories.setdefault(
            (kind, name), Repository(name=name, kind=kind, private=private, gated=gated)
        )
        if isinstance(files, Path):
            files = {
                file.relative_to(files).as_posix(): file.read_bytes() for file in files.rglob("*") if file.is_file()
            }
        digest = hashlib.sha1(f"{name}{len(repository.commits)}".encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        commit = digest.hexdigest()
        repository.commits[commit] = dict(files)
        repository.refs[to] = commit
        return commit

    def variables(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """The environment of a process that uses this hub, with caches in `home`."""
        off = dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"), "1")
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": token or "", **off}

    @contextmanager
    def here(self, home: Path, *, token: str | None = None) -> Iterator[None]:
        """Within it, this very process uses the hub: its libraries read the variables when they are imported."""
        import datasets
        import datasets.config
        import transformers.dynamic_module_utils as modules
        import transformers.utils.hub as of_transformers
        from huggingface_hub import HfFileSystem, constants

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables(home, token=token).items():
                patch.setenv(name, value)
            patch.setattr(constants, "ENDPOINT", self.url)
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            )
            patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
            patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
            patch.setattr(of_transformers, "_hf_api", None)
            patch.setattr(modules, "HF_MODULES_CACHE", str(home / "modules"))
            patch.setattr(datasets.config, "HF_ENDPOINT", self.url)
            patch.setattr(
                datasets.config, "HUB_DATASETS_URL", self.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
            )
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
            patch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
            HfFileSystem.clear_instance_cache()
            yield
            HfFileSystem.clear_instance_cache()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.hub.stopped:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append((self.command, path, token))
        try:
            if self.hub.down is not None:
                raise Refusal(self.hub.down, message="Too busy")
            if token not in (None, TOKEN):
                raise Refusal(401, message="Invalid credentials in Authorization header")
            if (written := self.hub.uploads.answer(self.command, path, body, token)) is not None:
                self._send(200, json.dumps(written).encode(), {"Content-Type": "application/json"})
                return
            form = parse_qs(f"{urlsplit(self.path).query}&{body.decode()}")
            # A slash within a part is quoted: refs/pr/1 is a revision.
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            self._route(parts, path, token=token, form=form)
        except Refusal as refusal:
            self._send(refusal.status, b"{}", {"Content-Type": "application/json", **refusal.headers})

    def _route(self, parts: list[str], path: str, *, token: str | None, form: Mapping[str, list[str]]) -> None:
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        kind: Kind = "models"
        if parts[0] in ("models", "datasets"):
            kind = "datasets" if parts[0] == "datasets" else "models"
            parts = parts[1:]
        if parts[0] == "cdn":
            self._send_content(self._blob(parts[1]), {})
            return
        if parts[0] in self.hub.renamed:
            raise Refusal(307, Location=path.replace(parts[0], self.hub.renamed[parts[0]], 1))
        # An id has an owner, or is one of the old ones without.
        name = parts[0] if (kind, parts[0]) in self.hub.repositories else "/".join(parts[:2])
        rest = parts[name.count("/") + 1 :]
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and token is None):
            # Without a token, the hub does not say whether there is one.
            raise Refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        revision = rest[1] if len(rest) > 1 else "main"
        commit = repository.commit(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if not api:
            self._resolve(repository, commit, "/".join(rest[2:]), token=token)
            return
        match rest[:1]:
            case [] | ["revision"]:
                found: Any = self._info(repository, commit)
            case ["tree"]:
                found = _tree(repository.commits[commit], "/".join(rest[2:]))
                if form.get("recursive", ["False"]) not in (["True"], ["true"]):
                    depth = len(rest) - 2
                    found = [entry for entry in found if entry["path"].count("/") == depth]
            case ["paths-info"]:
                entries = _tree(repository.commits[commit], "")
                found = [entry for entry in entries if entry["path"] in form.get("paths", [])]
            case _:
                raise Refusal(404)
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _info(self, repository: Repository, commit: str) -> dict[str, Any]:
        return {
            "id": repository.name,
            "sha": commit,
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "tags": [],
            "siblings": [{"rfilename": path} for path in repository.commits[commit]],
        }

    def _resolve(self, repository: Repository, commit: str, path: str, *, token: str | None) -> None:
        if repository.gated and (token is None or self.hub.denied):
            raise Refusal(401 if token is None else 403, "GatedRepo", f"Access to {repository.name} is restricted")
        if path in self.hub.withheld:
            raise Refusal(403, message="Access denied")
        content = repository.commits[commit].get(path)
        if content is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit})
        etag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if len(content) >= LFS_BYTES:
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            # Another host name: within one, huggingface_hub follows a redirect before it reads these headers.
            content_url = self.hub.url.replace("127.0.0.1", "localhost")
            raise Refusal(302, Location=f"{content_url}/cdn/{etag}", **headers, **linked)
        self._send_content(content, headers)

    def _blob(self, etag: str) -> bytes:
        contents = (
            content
            for repository in self.hub.repositories.values()
            for files in repository.commits.values()
            for content in files.values()
        )
        return next(content for content in contents if hashlib.sha256(content).hexdigest() == etag)

    def _send_content(self, content: bytes, headers: Mapping[str, str]) -> None:
        """A file, or the part of it that is asked for."""
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, content, {"Accept-Ranges": "bytes", **headers})
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last) + 1 if last else len(content), len(content))
        place = {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        self._send(206, content[begin:end], {**place, **headers})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree(files: Mapping[str, bytes], folder: str) -> list[dict[str, Any]]:
    """All files below a folder, and the folders between."""
    below = {path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")}
    if folder and not below:
        raise Refusal(404, "EntryNotFound", "Entry not found")
    folders = {parent.as_posix() for path in below for parent in Path(path).parents} - {".", folder}
    return [
        *({"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()} for path in folders),
        *(
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in below.items()
        ),
    ]
