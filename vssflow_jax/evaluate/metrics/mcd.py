"""Mel-cepstral distortion (MCD) of two voices, as pymcd 0.2 computes it.

pymcd is the tool of the dubbing papers. Its figures compare with no other MCD: it squares WORLD's
power spectrum, floors it, and counts the energy (c0). WORLD is pyworld's; SPTK's mel-cepstrum,
which has a closed form for pymcd's settings, and FastDTW are written out here, since their Python
packages come without wheels.
"""

import functools
from typing import NamedTuple

import librosa
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require

SAMPLING_RATE = 22_050  # what sounds are resampled to, in Hz
FFT_SIZE = 512
FRAME_PERIOD_MS = 5.0
ORDER = 13  # of the mel-cepstrum: c0 to c13
WARPING = 0.65  # of the frequencies, towards mel
SQUARED_POWER_FLOOR = 1e-8
DB = 10 * np.sqrt(2) / np.log(10)

_RADIUS = 1  # of FastDTW: coarse cells around the coarse path that the fine one may visit
# Ties between equally long ways go to the first of these, as in the package fastdtw.
_STEPS = np.array([[1, 0], [0, 1], [1, 1]])


class Mcd(NamedTuple):
    """Mel-cepstral distortions of a clip, in dB.

    Attributes:
      plain: frame by frame, the shorter sound filled up with silence.
      dtw: along the path that warps the one in time to the other.
      dtw_sl: that, times the ratio of the longer to the shorter duration.
    """

    plain: float
    dtw: float
    dtw_sl: float


def mel_cepstral_distortion(
    reference: NDArray[np.floating], generated: NDArray[np.floating], sampling_rate: int
) -> Mcd:
    """MCD, MCD-DTW and MCD-DTW-SL of a clip.

    They depend on loudness, through the floor.

    Args:
      reference: waveform [n], full scale 1.
      generated: waveform [m], full scale 1.
      sampling_rate: sampling rate of both, in Hz.

    Raises:
      UserError: a waveform is shorter than the analysis window (23 ms) or not finite; pyworld is
        not installed.
    """
    sounds = [_prepared(waveform, sampling_rate) for waveform in (reference, generated)]
    samples = max(map(len, sounds))
    a, b = (mel_cepstrum(sound) for sound in sounds)
    whole_a, whole_b = (
        cepstrum
        if len(sound) == samples
        else mel_cepstrum(np.pad(sound, (0, samples - len(sound))))
        for sound, cepstrum in zip(sounds, (a, b), strict=True)
    )
    dtw = distortion(a, b, warping_path(a[:, 1:], b[:, 1:]))
    frames = sorted((len(a), len(b)))
    return Mcd(
        plain=distortion(whole_a, whole_b, diagonal(len(whole_a))),
        dtw=dtw,
        dtw_sl=dtw * frames[1] / frames[0],
    )


def mel_cepstrum(waveform: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mel-cepstrum [t, 14] of a waveform [n] at `SAMPLING_RATE`, a frame every 5 ms.

    Raises:
      UserError: pyworld is not installed.
    """
    return cepstrum_of_power(world_analysis(waveform)[1])


def world_analysis(
    waveform: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """WORLD's pitch [t] in Hz, 0 where unvoiced, and power envelope [t, 257] of a waveform [n].

    Raises:
      UserError: pyworld is not installed.
    """
    pyworld = require("pyworld", "metrics")
    samples = waveform.astype(np.float64)
    rough_f0, times_sec = pyworld.dio(samples, SAMPLING_RATE, frame_period=FRAME_PERIOD_MS)
    f0 = pyworld.stonemask(samples, rough_f0, times_sec, SAMPLING_RATE)
    return f0, pyworld.cheaptrick(samples, f0, times_sec, SAMPLING_RATE, fft_size=FFT_SIZE)


def cepstrum_of_power(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mel-cepstrum [t, 14] of a power envelope [t, 257].

    `pysptk.mcep` with maxiter 0, etype 1, eps 1e-8, min_det 0 and itype 3, which squares the power.
    """
    cepstrum = np.fft.irfft(np.log(power**2 + SQUARED_POWER_FLOOR), n=FFT_SIZE)
    one_sided = cepstrum[:, : FFT_SIZE // 2 + 1]
    one_sided[:, [0, -1]] /= 2
    return one_sided @ _frequency_transform()


@functools.cache
def _frequency_transform() -> NDArray[np.float64]:
    """The matrix [257, 14] that warps a cepstrum.

    Row k holds the powers of z^-1 in ((w + z^-1) / (1 + w z^-1))^k, w the warping.
    """
    allpass = np.array([WARPING, *(1 - WARPING**2) * (-WARPING) ** np.arange(ORDER)])
    rows = [np.eye(ORDER + 1)[0]]
    for _ in range(FFT_SIZE // 2):
        rows.append(np.convolve(rows[-1], allpass)[: ORDER + 1])
    return np.array(rows)


def distortion(a: NDArray[np.float64], b: NDArray[np.float64], path: NDArray[np.integer]) -> float:
    """Mean distance of mel-cepstra [t, k] and [u, k] along a path [l, 2], in dB."""
    return float(DB * np.mean(np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1)))


def diagonal(frames: int) -> NDArray[np.intp]:
    """The path [t, 2] that takes frame by frame."""
    return np.stack([np.arange(frames)] * 2, axis=1)


def warping_path(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.intp]:
    """FastDTW (Salvador and Chan, 2007) with radius 1 and Euclidean distance.

    The path is found at half the time resolution, in turn found at half of that, and refined
    nearby. It may miss the shortest one; so do published figures.

    Args:
      a: [t, k].
      b: [u, k].

    Returns:
      Indices into both [l, 2], from (0, 0) to (t - 1, u - 1).
    """
    if min(len(a), len(b)) < _RADIUS + 2:
        return exact_warping_path(a, b, np.ones((len(a), len(b)), bool))
    coarse = np.zeros(((len(a) + 1) // 2, (len(b) + 1) // 2), bool)
    coarse[tuple(warping_path(_halved(a), _halved(b)).T)] = True
    near = scipy.ndimage.binary_dilation(coarse, np.ones((2 * _RADIUS + 1, 2 * _RADIUS + 1)))
    return exact_warping_path(a, b, near.repeat(2, 0).repeat(2, 1)[: len(a), : len(b)])


def exact_warping_path(
    a: NDArray[np.float64], b: NDArray[np.float64], allowed: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """The shortest path [l, 2] through the allowed cells [t, u]; as `warping_path`."""
    cost = np.where(allowed, cdist(a, b), np.inf)
    _, path = librosa.sequence.dtw(C=cost, step_sizes_sigma=_STEPS)
    return path[::-1]


def _halved(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of each two frames; a last one that is left over is dropped."""
    even = len(frames) // 2 * 2
    return (frames[0:even:2] + frames[1:even:2]) / 2


def _prepared(waveform: NDArray[np.floating], sampling_rate: int) -> NDArray[np.float32]:
    """At `SAMPLING_RATE`, in the precision in which pymcd loads a file."""
    window_sec = FFT_SIZE / SAMPLING_RATE
    if waveform.ndim != 1 or len(waveform) < window_sec * sampling_rate:
        raise UserError(
            f"MCD: a waveform of shape {waveform.shape} at {sampling_rate} Hz, expected one "
            f"channel of at least {1000 * window_sec:.0f} ms"
        )
    if not np.isfinite(waveform).all():
        raise UserError("MCD: a waveform holds a value that is not finite")
    return librosa.resample(
        waveform.astype(np.float32), orig_sr=sampling_rate, target_sr=SAMPLING_RATE
    )
