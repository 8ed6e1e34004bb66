"""Sounds of struck, bouncing, dragged and dripping things.

Impacts are modal synthesis: each material is a row of a table that gives its damped resonances and
the noise burst of the contact itself. A scrape is friction noise that follows the speed of the
dragged thing. Everything is a pure function of its arguments and of the random generator, and every
sound starts at the very sample of its event.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

SCRAPE = "scrape"

NYQUIST_MARGIN = 0.95  # resonances above this share of the Nyquist frequency would alias: left out
AUDIBLE_TIME_CONSTANTS = 6.9  # an exponential decay has fallen by 60 dB after that many
BAND_FILTER_ORDER = 2

SCRAPE_BAND_HZ = (1200.0, 5200.0)
SCRAPE_ATTACK_SEC = 0.004
SCRAPE_JUDDER_HZ = 45.0  # how often the dragged thing sticks and slips
SCRAPE_JUDDER_DEPTH = 0.35
SCRAPE_LEVEL = 0.6  # at the same peak a steady sound would be far louder than an impact


@dataclass(frozen=True)
class Hit:
    """One sounding event.

    Attributes:
        time_sec: when the contact happens and the sound starts.
        strength: linear loudness in (0, 1].
        length_sec: how long the contact lasts: 0 for an impact, the stroke for a scrape.
    """

    time_sec: float
    strength: float
    length_sec: float = 0.0


@dataclass(frozen=True)
class Timbre:
    """How one clip's instance of a material differs from the table.

    Attributes:
        pitch: factor on every frequency.
        brightness: factor on the contact noise and, to the power i, on resonance i.
    """

    pitch: float = 1.0
    brightness: float = 1.0


@dataclass(frozen=True)
class Material:
    """What an impact on one material sounds like.

    Attributes:
        modes: resonances, lowest first: (frequency in Hz, linear gain, time constant in seconds).
        noise_band_hz: lower and upper edge of the contact noise.
        noise_gain: peak of the contact noise, where the gain of the strongest resonance is about 1.
        noise_decay_sec: time constant of the contact noise.
        glide: relative change of all resonances over time: +1 ends an octave higher.
        glide_sec: time constant of that change.
    """

    modes: tuple[tuple[float, float, float], ...]
    noise_band_hz: tuple[float, float]
    noise_gain: float
    noise_decay_sec: float
    glide: float = 0.0
    glide_sec: float = 1.0


MATERIALS: dict[str, Material] = {
    "anvil": Material(
        modes=(
            (620.0, 0.5, 0.40),
            (1440.0, 1.0, 0.34),
            (2330.0, 0.8, 0.28),
            (3400.0, 0.6, 0.20),
            (4900.0, 0.4, 0.14),
        ),
        noise_band_hz=(2500.0, 7000.0),
        noise_gain=0.9,
        noise_decay_sec=0.008,
    ),
    "woodblock": Material(
        modes=((820.0, 1.0, 0.035), (2090.0, 0.4, 0.020), (3360.0, 0.15, 0.012)),
        noise_band_hz=(600.0, 3000.0),
        noise_gain=0.4,
        noise_decay_sec=0.004,
    ),
    "drum": Material(
        modes=(
            (105.0, 1.0, 0.20),
            (167.0, 0.6, 0.14),
            (225.0, 0.4, 0.10),
            (278.0, 0.25, 0.08),
            (307.0, 0.2, 0.07),
        ),
        noise_band_hz=(150.0, 1200.0),
        noise_gain=0.4,
        noise_decay_sec=0.025,
        glide=-0.12,
        glide_sec=0.05,
    ),
    "glass": Material(
        modes=((2350.0, 1.0, 0.22), (3810.0, 0.5, 0.16), (5430.0, 0.3, 0.10), (6930.0, 0.2, 0.08)),
        noise_band_hz=(4000.0, 7500.0),
        noise_gain=0.3,
        noise_decay_sec=0.003,
    ),
    "ball": Material(
        modes=((330.0, 1.0, 0.055), (620.0, 0.35, 0.030)),
        noise_band_hz=(200.0, 1500.0),
        noise_gain=0.3,
        noise_decay_sec=0.010,
        glide=-0.45,
        glide_sec=0.030,
    ),
    "drip": Material(
        modes=((760.0, 1.0, 0.060), (1240.0, 0.3, 0.035)),
        noise_band_hz=(3500.0, 7000.0),
        noise_gain=0.25,
        noise_decay_sec=0.012,
        glide=1.1,
        glide_sec=0.060,
    ),
    "clap": Material(
        modes=(),
        noise_band_hz=(750.0, 3000.0),
        noise_gain=1.0,
        noise_decay_sec=0.028,
    ),
}


def contact(
    kind: str, hit: Hit, timbre: Timbre, sampling_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The sound of one event, [n], with the hit's strength as its peak.

    Args:
      kind: a key of MATERIALS, or SCRAPE; anything else raises KeyError.
      hit: the event; the sound begins when it does.
      timbre: variation of the material.
      sampling_rate: samples per second.
      rng: source of the noise.
    """
    if kind == SCRAPE:
        return hit.strength * _scrape(hit.length_sec, timbre, sampling_rate, rng)
    return hit.strength * _impact(MATERIALS[kind], timbre, sampling_rate, rng)


def _impact(
    material: Material, timbre: Timbre, sampling_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One impact at full strength, [n] with peak 1, as long as its slowest part stays audible."""
    slowest_sec = max([material.noise_decay_sec, *(decay for _, _, decay in material.modes)])
    num_samples = int(AUDIBLE_TIME_CONSTANTS * slowest_sec * sampling_rate)
    time_sec = np.arange(num_samples) / sampling_rate

    # Phase of a resonance of 1 Hz: the integral over time of 1 + glide * (1 - exp(-t / glide_sec)).
    settling = material.glide_sec * -np.expm1(-time_sec / material.glide_sec)
    turns_per_hz = time_sec + material.glide * (time_sec - settling)
    highest_ratio = 1 + max(material.glide, 0.0)

    noise = _band_noise(num_samples, material.noise_band_hz, timbre.pitch, sampling_rate, rng)
    noise *= np.exp(-time_sec / material.noise_decay_sec)
    sound = timbre.brightness * material.noise_gain * noise / np.abs(noise).max()
    for index, (frequency_hz, gain, decay_sec) in enumerate(material.modes):
        pitched_hz = frequency_hz * timbre.pitch
        if pitched_hz * highest_ratio > NYQUIST_MARGIN * sampling_rate / 2:
            continue
        envelope = gain * timbre.brightness**index * np.exp(-time_sec / decay_sec)
        sound += envelope * np.sin(2 * np.pi * pitched_hz * turns_per_hz)
    return sound / np.abs(sound).max()


def _scrape(
    length_sec: float, timbre: Timbre, sampling_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """One stroke of friction noise, [n] with peak 1, that fades as the dragged thing slows down."""
    num_samples = int(length_sec * sampling_rate)
    time_sec = np.arange(num_samples) / sampling_rate
    speed = 1 - time_sec / length_sec  # of a thing that starts with a jerk and is braked evenly
    attack = -np.expm1(-(time_sec + 1 / sampling_rate) / SCRAPE_ATTACK_SEC)

    judder_cutoff = signal.butter(1, SCRAPE_JUDDER_HZ, fs=sampling_rate, output="sos")
    judder = signal.sosfilt(judder_cutoff, rng.standard_normal(num_samples))
    judder = 1 + SCRAPE_JUDDER_DEPTH * judder / np.abs(judder).max()

    noise = _band_noise(num_samples, SCRAPE_BAND_HZ, timbre.pitch, sampling_rate, rng)
    sound = noise * speed * attack * judder
    return sound / np.abs(sound).max()


def _band_noise(
    num_samples: int,
    band_hz: tuple[float, float],
    pitch: float,
    sampling_rate: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """White noise [num_samples], causally limited to a band whose edges `pitch` multiplies."""
    ceiling_hz = NYQUIST_MARGIN * sampling_rate / 2
    low_hz, high_hz = (min(edge * pitch, ceiling_hz) for edge in band_hz)
    band = signal.butter(
        BAND_FILTER_ORDER, (low_hz, high_hz), btype="bandpass", fs=sampling_rate, output="sos"
    )
    return signal.sosfilt(band, rng.standard_normal(num_samples))
