"""Sounds and pictures as the networks behind metrics are given them."""

import functools
from pathlib import Path

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from vssflow_jax import media
from vssflow_jax.features import resize
from vssflow_jax.media import View
from vssflow_jax.utils.errors import UserError

SAMPLING_RATE = 16_000  # of what most networks hear


def read_sound(
    path: str | Path, rate: int = SAMPLING_RATE, max_sec: float = 0
) -> NDArray[np.float32]:
    """A sound, mixed to one channel and resampled.

    Args:
      path: a file of any kind that libsndfile or FFmpeg reads.
      rate: samples a second that are wanted.
      max_sec: it is cut to it; 0 leaves it as long as it is.

    Returns:
      Waveform [n], full scale 1.

    Raises:
      UserError: the file cannot be read, or holds numbers that are not finite.
    """
    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        waveform = media.read_audio(path, rate)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); replace the file") from error
    else:
        waveform = samples.mean(axis=1, dtype=np.float32)
        if own != rate:
            waveform = librosa.resample(waveform, orig_sr=own, target_sr=rate, res_type="soxr_vhq")
    if not np.isfinite(waveform).all():
        raise UserError(f"{path}: holds NaN or infinity; replace the file")
    return waveform[: int(max_sec * rate)] if max_sec else waveform


def centred(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less its mean, as av-benchmark gives sounds to networks; it may be empty."""
    return waveform - waveform.mean() if len(waveform) else waveform


def read_pictures(
    path: str | Path, rate: float, side: int, max_sec: float = 0, *, whole: bool = False
) -> NDArray[np.uint8]:
    """Pictures of a video whose shorter sides are made `side` long, from its first to its last.

    Args:
      path: a video.
      rate: pictures a second.
      side: pixels.
      max_sec: pictures of so long are taken; 0 takes all.
      whole: whether the longer side stays, or the middle square is taken.

    Returns:
      [n, h, w, 3].

    Raises:
      UserError: the video cannot be read.
    """
    track = media.read_track(path)
    seconds = min(float(track.duration), max_sec or float("inf"))
    shrink = functools.partial(resize.fill, side=side, whole=whole)
    count = max(round(seconds * rate), 1)
    kept = [shrink(pictures) for _, pictures in media.blocks(track, {View(rate): count})]
    return np.concatenate(kept)
