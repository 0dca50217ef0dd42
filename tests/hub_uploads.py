"""What a hub on loopback answers to those who write: repositories, large files, commits. The rest is in hub.py.

As the real hub does: large and binary files are uploaded first, by their hash, and a commit then names them; nothing of
a commit is seen before all of it.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from tests.hub import Hub, Repository

LFS_SUFFIXES = (".parquet", ".safetensors", ".png")
LFS_BYTES = 10_000
"""Files from this size on, and those of such a suffix, are uploaded before the commit."""
MADE_AT_FIRST = {".gitattributes": b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"}


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than 200."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": message, **headers}
        self.status, self.headers = status, {name: value for name, value in named.items() if value}


class Uploads:
    """Answers to those who write to a hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self.blobs: dict[str, bytes] = {}
        """Large files by hash, committed or not."""
        self.lost_after: int | None = None
        """How many large files may come before the connection breaks."""
        self.may_write = True
        """Whether the token may write to anything."""
        self.room = 10**9
        """Bytes that all large files may take together."""
        self._one_at_a_time = threading.Lock()

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> Any:
        """What is answered as JSON; None if this is not a request of somebody who writes.

        Files come in parallel, and each is answered by a thread of its own: one at a time looks at what is there and
        adds to it.
        """
        with self._one_at_a_time:
            return self._answer(method, path, body, token)

    def _answer(self, method: str, path: str, body: bytes, token: str | None) -> Any:
        match method, path.strip("/").split("/"):
            case "PUT", ["lfs", oid]:
                return self._store(oid, body)
            case "POST", ["lfs-verify"]:
                return {}
            case "POST", ["api", "validate-yaml"]:
                return _checked_card(json.loads(body)["content"])
            case "POST", ["api", "repos", "create"]:
                return self._create(json.loads(body), token)
            case "POST", ["api", kind, owner, name, "preupload", _]:
                return self._modes(self._writable(kind, f"{owner}/{name}", token), json.loads(body)["files"])
            case "POST", [kind, owner, name, "info", "lfs", "objects", "batch"]:
                self._writable(kind, f"{owner}/{name.removesuffix('.git')}", token)
                return {"objects": [self._asked(each) for each in json.loads(body)["objects"]]}
            case "POST", ["api", kind, owner, name, "commit", _]:
                return self._commit(self._writable(kind, f"{owner}/{name}", token), body)
            case _:
                return None

    def _writable(self, kind: str, name: str, token: str | None) -> "Repository":
        found = next((each for key, each in self._hub.repositories.items() if key == (kind, name)), None)
        if token is None or found is None:
            raise Refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if not self.may_write:
            raise Refusal(403, message=f"You don't have the rights to write to {name}")
        return found

    def _create(self, asked: Mapping[str, Any], token: str | None) -> dict[str, str]:
        kind = "datasets" if asked["type"] == "dataset" else "models"
        name = f"{asked['organization']}/{asked['name']}"
        if token is None:
            raise Refusal(401, message="Invalid username or password.")
        if not self.may_write:
            raise Refusal(403, message=f"You don't have the rights to create a {asked['type']} under {name}")
        if (kind, name) in self._hub.repositories:
            raise Refusal(409, message="You already created this repo")
        self._hub.push(name, MADE_AT_FIRST, kind=kind, private=asked.get("visibility") == "private")
        return {"url": f"{self._hub.url}/{kind}/{name}"}

    def _modes(self, repository: "Repository", asked: list[dict[str, Any]]) -> dict[str, Any]:
        held = repository.commits[repository.refs["main"]]
        found: list[dict[str, Any]] = []
        for file in asked:
            is_large = file["size"] >= LFS_BYTES or file["path"].endswith(LFS_SUFFIXES)
            answer = {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            if (content := held.get(file["path"])) is not None:
                git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                answer["oid"] = hashlib.sha256(content).hexdigest() if is_large else git
            found.append(answer)
        return {"files": found}

    def _asked(self, large: Mapping[str, Any]) -> dict[str, Any]:
        if large["oid"] in self.blobs:
            return dict(large)
        if sum(map(len, self.blobs.values())) + large["size"] > self.room:
            raise Refusal(403, message="Private repository storage limit reached, please upgrade your plan")
        places = {"upload": f"{self._hub.url}/lfs/{large['oid']}", "verify": f"{self._hub.url}/lfs-verify"}
        return {**large, "actions": {name: {"href": href} for name, href in places.items()}}

    def _store(self, oid: str, content: bytes) -> dict[str, str]:
        if self.lost_after is not None and len(self.blobs) >= self.lost_after:
            raise Refusal(400, message="the connection broke")
        assert hashlib.sha256(content).hexdigest() == oid
        self.blobs[oid] = content
        return {}

    def _commit(self, repository: "Repository", body: bytes) -> dict[str, str]:
        head = repository.refs["main"]
        files = dict(repository.commits[head])
        for line in map(json.loads, body.splitlines()):
            match line["key"], line["value"]:
                case "header", {"parentCommit": parent} if parent != head:
                    raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
                case "file", value:
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile", value:
                    files[value["path"]] = self.blobs[value["oid"]]
                case "deletedFile", value:
                    del files[value["path"]]
                case _:
                    pass
        commit = self._hub.push(repository.name, files, kind=repository.kind)
        return {
            "commitUrl": f"{self._hub.url}/{repository.kind}/{repository.name}/commit/{commit}",
            "commitOid": commit,
        }


def _checked_card(content: str) -> dict[str, Any]:
    head = yaml.safe_load(content.split("---\n")[1])
    names = [config["config_name"] for config in head.get("configs", [])]
    if len(set(names)) != len(names):
        raise Refusal(400, message="configs of the same name")
    return {"errors": [], "warnings": []}
