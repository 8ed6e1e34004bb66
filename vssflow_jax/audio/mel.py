"""The log-mel front end (REFERENCE section 2), in JAX, so that it runs inside a jitted step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SAMPLING_RATE = 16_000
WINDOW = 1024
HOP = 160
BANDS = 64
MAX_HERTZ = 8_000.0
PEAK = 0.5
MIN_MAGNITUDE = 1e-5
ABSENT_FRAME = -11.0
REFLECT = (WINDOW - HOP) // 2
_PEAK_EPSILON = 1e-8
# Slaney's scale (Auditory Toolbox, 1998): 15 mels up to 1 kHz, then 27 for each factor of 6.4.
_LINEAR_HERTZ, _LINEAR_MELS = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


@functools.cache
def filterbank() -> np.ndarray:
    """Slaney's mel bank [BANDS, WINDOW // 2 + 1]: triangles over hertz, each of area 1.

    It is librosa's default to the bit, which rounds triangles before their areas.
    """
    corners = _hertz(np.linspace(0.0, _LINEAR_MELS + _log_mels(MAX_HERTZ), BANDS + 2))
    low, middle, high = (corners[i : i + BANDS, None] for i in range(3))
    hertz = np.fft.rfftfreq(WINDOW, 1 / SAMPLING_RATE)
    triangles = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle))
    return (np.float32(triangles.clip(0)) * (2 / (high - low))).astype(np.float32)


def _log_mels(hertz: float) -> float:
    """Mels from where the scale is a logarithm to a frequency above it."""
    return np.log(hertz / _LINEAR_HERTZ) / _LOG_STEP


def _hertz(mels: np.ndarray) -> np.ndarray:
    logarithmic = _LINEAR_HERTZ * np.exp(_LOG_STEP * (mels - _LINEAR_MELS))
    return np.where(mels < _LINEAR_MELS, mels * _LINEAR_HERTZ / _LINEAR_MELS, logarithmic)


@functools.cache
def window() -> np.ndarray:
    """Periodic Hann window [WINDOW], float32."""
    return (0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, WINDOW + 1)[:-1])).astype(np.float32)


def normalise(waveform: jax.Array) -> jax.Array:
    """Take away the mean and bring the peak to 0.5; silence stays silence. [b, n] -> [b, n]."""
    centred = waveform - jnp.mean(waveform, axis=-1, keepdims=True)
    peak = jnp.max(jnp.abs(centred), axis=-1, keepdims=True)
    return centred / (peak + _PEAK_EPSILON) * PEAK


def padded(waveform: jax.Array) -> jax.Array:
    """Normalised, and reflected at both ends by what centres the frames. [b, n] -> [b, n + 864]."""
    return jnp.pad(normalise(waveform), ((0, 0), (REFLECT, REFLECT)), mode="reflect")


def log_mel(waveform: jax.Array, num_frames: int) -> jax.Array:
    """Natural log of the mel magnitudes of normalised sound.

    Args:
      waveform: float32 [b, samples] at 16 kHz, any level.
      num_frames: frames wanted, 100 per second; surplus ones are cut, missing ones are -11.

    Returns:
      float32 [b, num_frames, BANDS].
    """
    sound = padded(waveform)
    available = 1 + (sound.shape[-1] - WINDOW) // HOP
    starts = np.arange(min(available, num_frames)) * HOP
    frames = sound[:, starts[:, None] + np.arange(WINDOW)]  # [b, n, window]
    magnitude = jnp.abs(jnp.fft.rfft(frames * window()))  # [b, n, bins]
    bands = jnp.matmul(magnitude, filterbank().T, precision=jax.lax.Precision.HIGHEST)
    log_bands = jnp.log(jnp.maximum(bands, MIN_MAGNITUDE))  # [b, n, m]
    missing = num_frames - log_bands.shape[1]
    return jnp.pad(log_bands, ((0, 0), (0, missing), (0, 0)), constant_values=ABSENT_FRAME)
