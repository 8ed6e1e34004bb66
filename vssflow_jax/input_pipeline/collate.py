"""Clips at the latent rate, cut to a window and stacked."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vssflow_jax.clip import ClipSpec, to_float
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.input_pipeline.prefetch import Example
from vssflow_jax.input_pipeline.streams import STREAMS, Stream


def to_latent_rate(features: ClipFeatures, spec: ClipSpec) -> Example:
    """Bring every condition of a clip to the latent frames (REFERENCE section 3).

    Args:
      features: features of one clip; a stream without frames is absent and becomes zeros.
      spec: geometry of the window.

    Returns:
      each stream [t, i], a voice [i], of the dtype they come in; phonemes int32 [t]; frames int32
      [], those that are the clip's own; waveform [samples].
    """
    batch = conditions([features], spec) | waveforms([features], spec)
    return {name: value[0] for name, value in batch.items()}


def conditions(clips: Sequence[ClipFeatures], spec: ClipSpec) -> Example:
    """See `to_latent_rate`: all but the waveforms of several clips, stacked."""
    t = spec.latent_frames
    own = [round(clip.duration_sec * spec.latent_rate) for clip in clips]
    streams = {
        name: _at_latent_rate(STREAMS[name], [clip.streams[name] for clip in clips], t)
        for name in clips[0].streams
    }
    return {
        **streams,
        "phonemes": stacked([clip.phonemes for clip in clips], t).astype(np.int32, copy=False),
        "frames": np.clip(own, 1, t).astype(np.int32),
    }


def _at_latent_rate(stream: Stream, arrays: Sequence[np.ndarray], length: int) -> np.ndarray:
    return stacked(arrays, length, stream.stretch) if stream.rate else np.stack(arrays)


def waveforms(clips: Sequence[ClipFeatures], spec: ClipSpec) -> Example:
    """See `to_latent_rate`: the waveforms of several clips, stacked."""
    stacked = np.empty((len(clips), spec.num_samples), np.float32)
    for row, clip in zip(stacked, clips, strict=True):
        kept = clip.sound[: len(row)]
        to_float(kept, out=row[: len(kept)])
        row[len(kept) :] = 0
    return {"waveform": stacked}


def stacked(
    streams: Sequence[np.ndarray],
    length: int,
    indices: Callable[[int, int], np.ndarray] | None = None,
) -> np.ndarray:
    """Streams [n, ...] brought to one length and stacked by one copy of each, [b, length, ...].

    They are cut or padded with zeros, or, with `indices`, stretched if there is anything of them.
    """
    stacked = np.empty((len(streams), length, *streams[0].shape[1:]), streams[0].dtype)
    for row, frames in zip(stacked, streams, strict=True):
        if indices and len(frames):
            # As bytes: frames may lie anywhere in a record, and would be copied to an even place.
            np.take(
                np.ascontiguousarray(frames).view(np.uint8),
                indices(len(frames), length),
                axis=0,
                out=row.view(np.uint8),
                mode="clip",
            )
        else:
            kept = frames[:length]
            row[: len(kept)] = kept
            row[len(kept) :] = 0
    return stacked


def cut(features: ClipFeatures, spec: ClipSpec) -> ClipFeatures:
    """The clip without those of its frames that cover more than a shorter window."""
    streams = {
        name: frames[: STREAMS[name].frames(spec)] if STREAMS[name].stretch else frames
        for name, frames in features.streams.items()
    }
    return dataclasses.replace(features, streams=streams)


def without_video(features: ClipFeatures) -> ClipFeatures:
    """The clip as a TTS example: the text and the voice, nothing to see."""
    streams = {
        name: frames[:0] if STREAMS[name].pictured else frames
        for name, frames in features.streams.items()
    }
    return dataclasses.replace(features, streams=streams)
