"""A stand-in for the Hugging Face hub on the loopback: `python server.py FOLDER` prints its address and serves.

FOLDER/datasets/OWNER/NAME and FOLDER/models/OWNER/NAME are repositories; the file `.commit` in each names its one
commit, which is also `main`.
"""

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = re.compile(rf"/api/(?P<kind>datasets|models)/{_NAME}(/(?P<verb>revision|tree|paths-info)/(?P<rest>.+))?")
_FILE = re.compile(rf"/((?P<kind>datasets)/)?{_NAME}/resolve/(?P<rest>.+)")


class Missing(Exception):
    """What is not there, in the hub's words."""


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        form = self.rfile.read(length).decode()
        path = unquote(urlsplit(self.path).path)
        try:
            if path == "/":
                self._send(b"", {})
            elif match := _FILE.fullmatch(path):
                self._send_file(*self._at(match["kind"] or "models", match["name"], match["rest"]))
            elif match := _API.fullmatch(path):
                self._send_facts(match, form)
            else:
                raise Missing("RepoNotFound")
        except Missing as missing:
            self._send(b'{"error": "not found"}', {"X-Error-Code": str(missing)}, 404)

    do_HEAD = do_POST = do_GET

    def _at(self, kind: str, name: str, rest: str) -> tuple[Path, str, str]:
        """The repository's folder, its commit, and the path after the revision in `rest`."""
        repository = self.folder / kind / name
        if not repository.is_dir():
            raise Missing("RepoNotFound")
        commit = (repository / ".commit").read_text()
        revision, _, path = rest.partition("/")
        if revision not in ("main", commit):
            raise Missing("RevisionNotFound")
        return repository, commit, path

    def _send_file(self, repository: Path, commit: str, path: str) -> None:
        file = repository / path
        if not file.is_file():
            raise Missing("EntryNotFound")
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
        if part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            self._send(content[int(part[1]) : int(part[2]) + 1], headers, 206)
        else:
            self._send(content, headers)

    def _send_facts(self, match: re.Match[str], form: str) -> None:
        repository, commit, path = self._at(match["kind"], match["name"], match["rest"] or "main")
        facts: Any
        if match["verb"] == "tree":
            if not (repository / path).is_dir():
                raise Missing("EntryNotFound")
            found = (
                (repository / path).rglob("*")
                if "recursive=true" in self.path.lower()
                else (repository / path).iterdir()
            )
            facts = [_entry(repository, each) for each in sorted(found) if each.name != ".commit"]
        elif match["verb"] == "paths-info":
            wanted = parse_qs(form).get("paths") or json.loads(form or "{}").get("paths", [])
            facts = [_entry(repository, repository / each) for each in wanted if (repository / each).exists()]
        else:
            files = [each.relative_to(repository).as_posix() for each in repository.rglob("*") if each.is_file()]
            siblings = [{"rfilename": name} for name in sorted(files) if name != ".commit"]
            facts = {"_id": "0", "id": match["name"], "sha": commit, "private": False, "tags": [], "siblings": siblings}
        self._send(json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def _entry(repository: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(repository).as_posix()
    oid = hashlib.sha1(name.encode()).hexdigest()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": oid, "size": 0}
    return {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
