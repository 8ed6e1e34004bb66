"""Sounds and pictures as the networks behind metrics are given them."""

import functools
import math
from pathlib import Path

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from vssflow_jax import media
from vssflow_jax.features import resize
from vssflow_jax.media import View
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.object_cache import local
from vssflow_jax.utils.optional import check

SAMPLING_RATE = 16_000  # of what most networks hear
_ROUNDING = 1e-6


def read_sound(
    path: str | Path,
    rate: int = SAMPLING_RATE,
    max_sec: float = 0,
    *,
    centre: bool = False,
    first_channel: bool = False,
) -> NDArray[np.float32]:
    """A sound of one channel, resampled.

    Args:
      path: a file of any kind that libsndfile or FFmpeg reads.
      rate: samples a second that are wanted.
      max_sec: it is cut to it; 0 leaves it as long as it is.
      centre: whether the mean of the whole is taken off, before anything else, as av-benchmark does
        before it gives sounds to networks.
      first_channel: whether the first channel is taken, in place of the mix of all; of what FFmpeg
        alone reads it is the mix, which of more than two channels is FFmpeg's.

    Returns:
      Waveform [n], full scale 1.

    Raises:
      UserError: the file cannot be read, or holds numbers that are not finite.
    """
    try:
        samples, own = soundfile.read(local(as_path(path)), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        own = media.audio_rate(path)
        waveform = media.read_audio(path, own)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); replace the file") from error
    else:
        waveform = samples[:, 0] if first_channel else media.mono(samples)
    if not np.isfinite(waveform).all():
        raise UserError(f"{path}: holds NaN or infinity; replace the file")
    if centre and len(waveform):
        waveform = waveform - waveform.mean()
    if own != rate:
        waveform = librosa.resample(waveform, orig_sr=own, target_sr=rate, res_type="soxr_vhq")
    return waveform[: int(max_sec * rate)] if max_sec else waveform


def rate_of(path: str | Path) -> int:
    """Samples a second that a sound has, in a file of any kind that `read_sound` reads.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        return int(soundfile.info(local(as_path(path))).samplerate)
    except soundfile.LibsndfileError:
        return media.audio_rate(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); replace the file") from error


def read_pictures(
    path: str | Path, rate: float, side: int, max_sec: float = 0, *, whole: bool = False
) -> NDArray[np.uint8]:
    """Pictures of a video at even times, from its first on, their shorter sides `side` long.

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
    count = max(math.ceil(seconds * rate - _ROUNDING), 1)  # those at k / rate before the end
    kept = [shrink(pictures) for _, pictures in media.blocks(track, {View(rate): count})]
    return np.concatenate(kept)


def check_pictures() -> None:
    """Checks that the packages that read pictures are installed.

    Raises:
      MissingPackage: one of them is not.
    """
    check("av", "demo")
    check("PIL", "demo")
