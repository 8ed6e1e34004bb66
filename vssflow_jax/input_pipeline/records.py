"""What a record holds, and how it lies in bytes (`docs/data.md`).

A record is a `tf.train.Example` whose arrays are byte strings: TFDS reads it like any other, and
here it is decoded without a look at single values. An array that a clip does not have is empty.

Letters: t latent frames, c latent channels, p phonemes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from vssflow_jax.clip import LATENT_CHANNELS

SCHEMA_VERSION = "2.0.0"

Values = Mapping[str, Any]

TEXTS = ("schema_version", "clip_id", "task", "transcript", "voice", "video")
DURATION = "duration_sec"
STREAMS = ("clip", "synch", "lips", "speaker")  # whose widths are the dataset's
DTYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "audio": "<i2",
        "posterior": "<f4",
        "phonemes": "<i4",
        "phoneme_frames": "<i4",
        "event_times_sec": "<f4",
        "clip": "<f2",
        "synch": "<f2",
        "lips": "<f2",
        "speaker": "<f4",
    }.items()
}
_POSTERIOR_WIDTH = 2 * LATENT_CHANNELS
_DURATION_DIGITS = 5


def features() -> tfds.features.FeaturesDict:
    """The record as TFDS knows it."""
    texts = {name: tfds.features.Text() for name in (*TEXTS, *DTYPES)}
    return tfds.features.FeaturesDict({**texts, DURATION: np.float32})


def encode(values: Values) -> bytes:
    """The record of all `TEXTS`, `DURATION` and any of `DTYPES`; the same bytes each time."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    for name in TEXTS:
        feature[name].bytes_list.value.append(values[name].encode())
    feature[DURATION].float_list.value.append(values[DURATION])
    for name, dtype in DTYPES.items():
        array = np.ascontiguousarray(values.get(name, ()), dtype)
        feature[name].bytes_list.value.append(array.tobytes())
    return example.SerializeToString(deterministic=True)


def decode(record: bytes, widths: Mapping[str, int]) -> dict[str, Any]:
    """The values of a record: texts, the duration, and read-only arrays.

    Args:
      record: as `encode` makes it.
      widths: width of each of `STREAMS`.

    Raises:
      ValueError, KeyError: it is no such record.
    """
    try:
        feature = tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError("it is no tf.train.Example") from error
    found = {name: _only(feature, name, "bytes_list") for name in (*TEXTS, *DTYPES)}
    values: dict[str, Any] = {name: found[name].decode() for name in TEXTS}
    # 1.8 as float32 is a little less: the number of frames in it must not be.
    values[DURATION] = round(_only(feature, DURATION, "float_list"), _DURATION_DIGITS)
    shapes = {name: (-1, width) for name, width in widths.items()} | {
        "speaker": (-1,),
        "posterior": (-1, _POSTERIOR_WIDTH),
    }
    for name, dtype in DTYPES.items():
        values[name] = np.frombuffer(found[name], dtype).reshape(shapes.get(name, (-1,)))
    return values


def _only(feature: Any, name: str, kind: str) -> Any:
    """The one value of a feature whose list is of a kind."""
    if name not in feature:
        raise KeyError(name)
    values = getattr(feature[name], kind).value
    if len(values) != 1:
        raise ValueError(f"{name} has {len(values)} values of {kind}, not one")
    return values[0]
