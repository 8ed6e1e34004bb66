"""Sounds of one clip side by side: a player and a spectrogram each, on one axis of time."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from vssflow_jax.audio import mel
from vssflow_jax.html import page
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.object_cache import local

_FRAME_RATE = mel.SAMPLING_RATE / mel.HOP


@dataclasses.dataclass(frozen=True)
class Sound:
    """One sound of a clip.

    Attributes:
      name: name of the clip, shown above the player.
      media: data URI of a video or a sound.
      log_mel: natural log-mel [n, m], at the rate of `audio.mel`.
    """

    name: str
    media: str
    log_mel: np.ndarray


@dataclasses.dataclass(frozen=True)
class Panel:
    """A sound as the page shows it."""

    name: str
    tag: str  # of the player
    media: str  # data URI
    spectrogram: str  # data URI
    width_percent: float  # of the view, which is as wide as the longest of its sounds


@dataclasses.dataclass(frozen=True)
class ClipView:
    """Sounds of a clip as the page shows them."""

    panels: list[Panel]
    duration_sec: float
    time_ticks: list[page.Tick]
    frequency_ticks: list[page.Tick]
    event_percents: list[float]

    @classmethod
    def of(cls, sounds: Sequence[Sound], event_times_sec: Sequence[float] = ()) -> "ClipView":
        """The view of one sound or more; spectrograms share one scale of colour and of time."""
        num_frames = max(len(sound.log_mel) for sound in sounds)
        time_axis = page.Axis(0, num_frames / _FRAME_RATE)
        spectrograms = page.spectrograms(*(sound.log_mel for sound in sounds))
        return cls(
            panels=[
                Panel(
                    name=sound.name,
                    tag="video" if sound.media.startswith("data:video/") else "audio",
                    media=sound.media,
                    spectrogram=spectrogram,
                    width_percent=100 * len(sound.log_mel) / num_frames,
                )
                for sound, spectrogram in zip(sounds, spectrograms, strict=True)
            ],
            duration_sec=time_axis.high,
            time_ticks=time_axis.ticks(),
            frequency_ticks=page.frequency_ticks(sounds[0].log_mel.shape[1]),
            event_percents=time_axis.percent(np.asarray(event_times_sec, np.float64)).tolist(),
        )


def video(path: Path, clip_id: str) -> str:
    """The mp4 at `path` as a data URI; raises UserError when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, clip_id, error.strerror) from error
    return page.data_uri("video/mp4", content)


def read_wav(path: Path, clip_id: str) -> np.ndarray:
    """The sound at `path`, int16 [n] at 16 kHz; raises UserError when it cannot be read."""
    try:
        samples, sampling_rate = soundfile.read(local(path), dtype="int16")
    except soundfile.SoundFileError as error:
        raise _unreadable(path, clip_id, str(error)) from error
    if sampling_rate != mel.SAMPLING_RATE:
        raise _unreadable(path, clip_id, f"{sampling_rate} Hz instead of {mel.SAMPLING_RATE}")
    return samples


def _unreadable(path: Path, clip_id: str, reason: str | None) -> UserError:
    return UserError(
        f"the sound of clip {clip_id} cannot be read from {path} ({reason}); run the evaluation "
        "again"
    )
