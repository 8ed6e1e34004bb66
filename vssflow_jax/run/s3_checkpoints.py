"""Lets orbax write checkpoints into buckets of S3, which it does not by itself (orbax#359).

Three functions of orbax 0.12 decide where tensorstore reads and writes. They know `gs://`; here
they come to know `s3://` too, and do for all else what they did. A test says when orbax has changed
under this file.
"""

import functools
import os
from typing import Any
from urllib.parse import urlparse

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

_SCHEME = "s3://"
_REGION = "us-east-1"  # of a store that speaks like S3, where none is named


@functools.cache
def enable() -> None:
    """Teach orbax `s3://`, once a process."""
    of_gcs, normalised, is_gcs = (
        gcs_utils.get_kvstore_for_gcs,
        tensorstore_utils._normalize_path,
        tensorstore_utils._use_gcs_driver,
    )

    def kvstore(path: str) -> dict[str, Any]:
        return spec(path) if path.startswith(_SCHEME) else of_gcs(path)

    def normalise(path: str) -> str:
        found = normalised(path)
        return found.replace("s3:/", _SCHEME, 1) if path.startswith(_SCHEME) else found

    def is_bucket(directory: str) -> bool:
        return directory.startswith(_SCHEME) or is_gcs(directory)

    gcs_utils.get_kvstore_for_gcs = kvstore
    tensorstore_utils._normalize_path = normalise
    tensorstore_utils._use_gcs_driver = is_bucket


def spec(url: str) -> dict[str, Any]:
    """What tensorstore calls a path of S3; it knows none of AWS's variables but credentials."""
    parsed = urlparse(url)
    found: dict[str, Any] = {
        "driver": "s3",
        "bucket": parsed.netloc,
        "path": parsed.path.lstrip("/"),
    }
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        found["endpoint"] = endpoint
        region = region or _REGION
    if region:  # Else tensorstore asks Amazon where the bucket is.
        found["aws_region"] = region
    if "AWS_ACCESS_KEY_ID" in os.environ:
        # Those of files and machines are found without being asked for, with a warning for each.
        found["aws_credentials"] = {"type": "environment"}
    return found
