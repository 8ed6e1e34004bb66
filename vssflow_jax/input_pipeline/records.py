"""What a record holds, and how it lies in bytes (`docs/data.md`).

A record is a `tf.train.Example` whose arrays are byte strings: TFDS reads it like any other, and
here it is decoded without a look at single values and without a copy. An array that a clip does not
have is empty.

Letters: t latent frames, c latent channels, p phonemes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.input_pipeline.streams import STREAMS

SCHEMA_VERSION = "2.0.0"

Values = Mapping[str, Any]

TEXTS = ("schema_version", "clip_id", "task", "transcript", "voice", "video", "caption")
_MAY_LACK = ("caption",)  # texts that earlier records do without, and sources that know of none
DURATION = "duration_sec"
_ARRAYS = {  # beside the streams
    "audio": "<i2",
    "posterior": "<f4",
    "phonemes": "<i4",
    "phoneme_frames": "<i4",
    "event_times_sec": "<f4",
}
# Rates of a `ClipSpec` by their names in a dataset, where these are others.
_RATES = {"visual_rate": "clip_rate", "sync_rate": "synch_rate"}
_POSTERIOR_WIDTH = 2 * LATENT_CHANNELS
_FLOAT32 = np.dtype("<f4")
_DURATION_DIGITS = 5

# How protocol buffers lie in bytes: a varint holds seven bits a byte, the last byte below 128; a
# tag is a varint of the field's number and, in its three low bits, the kind of what follows.
_VARINT_BITS = 7
_VARINT_MORE = 1 << _VARINT_BITS
_VARINT_BYTES = 5  # reach 4 GB
_KIND_BITS = 0b111
_SIZED = 2  # the kind of what is preceded by its size: texts, bytes, messages, packed numbers


def on_disk(name: str) -> str:
    """The name in a dataset of a stream, or of a rate."""
    return (name in STREAMS and STREAMS[name].on_disk) or _RATES.get(name, name)


def in_code(name: str) -> str:
    """The name here of what a dataset calls so."""
    return next((here for here in (*STREAMS, *_RATES) if on_disk(here) == name), name)


def metadata_in_code(metadata: Values) -> dict[str, Any]:
    """The metadata of a dataset with the names here of the window's rates and of the streams."""
    parts = {part: metadata[part].items() for part in ("clip", "widths")}
    named = {part: {in_code(name): x for name, x in items} for part, items in parts.items()}
    return {**metadata, **named}


def dtypes(streams: Iterable[str]) -> dict[str, np.dtype]:
    """The arrays of a record, those of the streams of its dataset last."""
    of_streams = {name: STREAMS[name].dtype for name in streams}
    return {name: np.dtype(dtype) for name, dtype in {**_ARRAYS, **of_streams}.items()}


def features(streams: Iterable[str]) -> tfds.features.FeaturesDict:
    """The record as TFDS knows it."""
    texts = {on_disk(name): tfds.features.Text() for name in (*TEXTS, *dtypes(streams))}
    return tfds.features.FeaturesDict({**texts, DURATION: np.float32})


def encode(values: Values, streams: Iterable[str]) -> bytes:
    """The record of `TEXTS`, `DURATION` and any of the arrays; the same bytes each time."""
    example = tf_example_pb2.Example()
    feature = example.features.feature
    for name in TEXTS:
        text = values.get(name, "") if name in _MAY_LACK else values[name]
        feature[name].bytes_list.value.append(text.encode())
    feature[DURATION].float_list.value.append(values[DURATION])
    for name, dtype in dtypes(streams).items():
        array = np.ascontiguousarray(values.get(name, ()), dtype)
        feature[on_disk(name)].bytes_list.value.append(array.tobytes())
    return example.SerializeToString(deterministic=True)


def decode(record: bytes, widths: Mapping[str, int]) -> dict[str, Any]:
    """The values of a record: texts, the duration, and read-only arrays of its own bytes.

    Args:
      record: as `encode` makes it.
      widths: channels of each stream that is asked for.

    Raises:
      ValueError, KeyError: it is no such record.
    """
    found = _places(record)
    texts = [name for name in TEXTS if name in found or name not in _MAY_LACK]
    values: dict[str, Any] = dict.fromkeys(_MAY_LACK, "")
    values |= {name: record[found[name]].decode() for name in texts}
    # 1.8 as float32 is a little less: the number of frames in it must not be.
    duration_sec = np.frombuffer(record[found[DURATION]], _FLOAT32).item()
    values[DURATION] = round(duration_sec, _DURATION_DIGITS)
    shapes = {name: (-1, width) for name, width in widths.items() if STREAMS[name].rate}
    shapes["posterior"] = (-1, _POSTERIOR_WIDTH)
    for name, dtype in dtypes(widths).items():
        place = found[on_disk(name)]
        count, rest = divmod(place.stop - place.start, dtype.itemsize)
        if rest:
            raise ValueError(f"{name} is cut short")
        array = np.frombuffer(record, dtype, count, place.start)
        values[name] = array.reshape(shapes.get(name, (-1,)))
    return values


def _places(record: bytes) -> dict[str, slice]:
    """Where the bytes of each feature of a `tf.train.Example` lie.

    The Example has one field, its features; these have one for each feature, of a name and a value;
    the value has one, a list; and the list has one, here.

    Raises:
      ValueError: it is no such Example.
    """
    places = {}
    try:
        start, stop = _contents(record, 0, len(record))
        while start < stop:
            feature, end = _contents(record, start, stop)
            name, name_end = _contents(record, feature, end)
            inner = name_end
            for _ in range(3):  # the value, its list, and what the list has
                inner, inner_end = _contents(record, inner, end)
            places[record[name:name_end].decode()] = slice(inner, inner_end)
            start = end
    except IndexError as error:
        raise ValueError("it ends too early") from error
    return places


def _contents(message: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the contents of the field that begins at `start` lie; it ends at `stop` or before."""
    size, first = message[start + 1], start + 2  # numbers of fields are small: a tag is one byte
    if size >= _VARINT_MORE:
        size, first = _varint(message, start + 1)
    if message[start] & _KIND_BITS != _SIZED or first + size > stop:
        raise ValueError(f"no field at byte {start}")
    return first, first + size


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """The number that lies at `start`, and where it ends."""
    value = shift = 0
    for end in range(start + 1, min(start + _VARINT_BYTES, len(message)) + 1):
        byte = message[end - 1]
        if byte < _VARINT_MORE:
            return value | byte << shift, end
        value |= (byte - _VARINT_MORE) << shift
        shift += _VARINT_BITS
    raise ValueError(f"no number at byte {start}")
