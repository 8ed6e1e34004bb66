"""What is wrong in a dataset: damaged files, and records that training would not survive."""

import math
from collections.abc import Iterable, Iterator, Mapping

from data.inspection.stored import Damage, Found, Stored
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import NUM_IDS
from vssflow_jax.input_pipeline.dataset import all_finite
from vssflow_jax.input_pipeline.records import DURATION, SCHEMA_VERSION, Values, dtypes
from vssflow_jax.input_pipeline.streams import STREAMS

# Frames that an extractor may be short of: Synchformer's window has 16 of them, 25 a second.
_SLACK_SEC = 16 / 25


def verify(stored: Stored) -> Iterator[Damage]:
    """Read every record of every shard, then all bytes; what is wrong, in this order."""
    named = set()
    for damage in _records(stored):
        named.add(damage.shard)
        yield damage
    made = stored.sha256()
    for shard, found in stored.checksums():
        name = shard.path.name
        if name not in named and found != made.get(name, found):
            yield Damage(name, None, "not the bytes that were made, though all records can be read")


def _records(stored: Stored) -> Iterator[Damage]:
    for item in stored.read():
        if isinstance(item, Damage):
            yield item
        elif wrong := problems(item, stored.spec, stored.widths):
            reasons = f"{item.values['clip_id']}: {'; '.join(wrong)}"
            yield Damage(item.shard.path.name, item.index, reasons)


def problems(found: Found, spec: ClipSpec, widths: Mapping[str, int]) -> list[str]:
    """Everything that is wrong with the values of one record."""
    values, task = found.values, found.shard.task
    wrong = []
    if values["schema_version"] != SCHEMA_VERSION:
        wrong.append(f"schema {values['schema_version']} among {SCHEMA_VERSION}")
    if values["task"] != task:
        wrong.append(f"task {values['task']} among {task}")
    for name, dtype in dtypes(widths).items():
        if dtype.kind == "f" and not all_finite(values[name]):
            wrong.append(f"{name} holds NaN or infinity")
    ids = values["phonemes"]
    if len(ids) and (ids.min() < 1 or ids.max() >= NUM_IDS):
        wrong.append(f"phoneme ids from {ids.min()} to {ids.max()}, not from 1 to {NUM_IDS - 1}")
    for name, width in widths.items():
        if STREAMS[name].rate is None and len(values[name]) not in (0, width):
            wrong.append(f"{name} is {len(values[name])} wide, not {width}")
    return [*wrong, *_wrong_lengths(values, spec, widths)]


def _wrong_lengths(values: Values, spec: ClipSpec, streams: Iterable[str]) -> Iterator[str]:
    """Of the streams, held against the duration."""
    duration_sec, window_sec = values[DURATION], spec.duration_sec
    frame_sec = 1 / spec.latent_rate
    if not (math.isfinite(duration_sec) and 0 < duration_sec <= window_sec + frame_sec):
        yield f"lasts {duration_sec:g} s, the window {window_sec:g} s"
        return
    audio_sec = len(values["audio"]) / spec.sampling_rate
    if abs(audio_sec - duration_sec) > frame_sec:
        yield f"{audio_sec:.2f} s of audio, but it lasts {duration_sec:.2f} s"
    for name in streams:
        rate = STREAMS[name].rate
        seconds = len(values[name]) / rate(spec) if rate else 0
        if seconds and not duration_sec - _SLACK_SEC <= seconds <= window_sec + _SLACK_SEC:
            yield f"{name} covers {seconds:.2f} s, but it lasts {duration_sec:.2f} s"
    frames, ids = values["phoneme_frames"], values["phonemes"]
    expected = spec.phoneme_frames(duration_sec)
    if len(frames) and (len(frames) != len(ids) or frames.sum() != expected):
        yield (
            f"{len(frames)} phonemes last {frames.sum()} frames, but there are {len(ids)} and "
            f"{expected} frames"
        )
    if len(values["posterior"]) not in (0, spec.latent_frames):
        yield f"{len(values['posterior'])} latent frames, not {spec.latent_frames}"
