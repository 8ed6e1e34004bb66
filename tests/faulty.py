"""A store that fails now and then, is slow, or takes nothing: a proxy before an emulator."""

import contextlib
import http.client
import itertools
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

from tests import buckets


class Faults:
    """What goes wrong.

    Attributes:
      every: every so many requests one is answered 503; 0: none.
      delay_sec: before each answer.
      denied: whether what would be written is refused, 403.
      failed: requests that were answered so.
    """

    def __init__(self, every: int = 0, delay_sec: float = 0.0, denied: bool = False):
        self.every, self.delay_sec, self.denied = every, delay_sec, denied
        self.failed = 0
        self._count = itertools.count(1)

    def status(self, method: str) -> int:
        """The answer to the next request; 0: that of the store itself."""
        time.sleep(self.delay_sec)
        status = 503 if self.every and next(self._count) % self.every == 0 else 0
        if self.denied and method not in ("GET", "HEAD"):
            status = 403
        self.failed += bool(status)
        return status


_ADDRESSES = {
    "gs": ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT"),
    "s3": ("AWS_ENDPOINT_URL",),
}


@contextlib.contextmanager
def before(scheme: str, faults: Faults) -> Iterator[dict[str, str]]:
    """A proxy before a store that is there; yields the variables that point clients to it."""
    variables = _ADDRESSES[scheme]
    store = urlparse(os.environ[variables[0]]).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self._body()
            if status := faults.status(self.command):
                self._send(status, [], b"")
                return
            connection = http.client.HTTPConnection(store, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
            if body or "content-length" in map(str.lower, headers):
                headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body or None, headers)
            found = connection.getresponse()
            self._send(found.status, found.getheaders(), found.read())
            connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            dropped = ("transfer-encoding", "connection", "content-length")
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                if name.lower() == "location":
                    value = value.replace(store, own)
                if name.lower() not in dropped:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", buckets.free_port()), Handler)
    server.daemon_threads = True
    own = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield dict.fromkeys(variables, f"http://{own}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
