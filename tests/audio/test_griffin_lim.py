"""The vocoder without weights: what comes out sounds like, and when, what went in."""

import numpy as np
import pytest

from vssflow_jax.audio import mel
from vssflow_jax.audio.griffin_lim import ITERATIONS, griffin_lim

RATE, HOP = mel.SAMPLING_RATE, mel.HOP
FRAMES = 100
EDGE = 5

PITCHES_HERTZ = (120, 150, 200, 250, 300)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    return np.asarray(mel.log_mel(np.asarray(waveform, np.float32)[None], FRAMES))[0]


def tone(pitch_hertz: float) -> np.ndarray:
    """One second of a harmonic tone that swells and fades."""
    seconds = np.arange(FRAMES * HOP) / RATE
    partials = range(1, int(6000 / pitch_hertz))
    sound = sum(np.sin(2 * np.pi * k * pitch_hertz * seconds + k) / k for k in partials)
    return sound * np.hanning(len(seconds))


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean difference in nepers, over what is at most 60 dB below the loudest."""
    heard = wanted > wanted.max() - 60 / 8.686
    heard[:EDGE] = heard[-EDGE:] = False
    return float(np.abs(found - wanted)[heard].mean())


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    return log_mel(tone(200))


def test_a_tone_comes_back(wanted: np.ndarray):
    found = log_mel(griffin_lim(wanted))
    # Measured: 0.47. A tone a third higher is 1.9 away.
    assert distance(found, wanted) < 0.7
    assert distance(log_mel(tone(250)), wanted) > 1


def test_iterations_bring_tones_nearer():
    # Of one tone they need not: what iterations bring is not monotone, with any momentum.
    tones = [log_mel(tone(pitch_hertz)) for pitch_hertz in PITCHES_HERTZ]
    once, often = (
        np.mean([distance(log_mel(griffin_lim(wanted, n)), wanted) for wanted in tones])
        for n in (1, ITERATIONS)
    )
    assert often < 0.98 * once  # measured: 0.94


@pytest.mark.parametrize("pitch_hertz", PITCHES_HERTZ)
def test_the_pitch_is_heard(pitch_hertz: float):
    waveform = griffin_lim(log_mel(tone(pitch_hertz)))
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(FRAMES * HOP)))
    # One second: bins are Hz. The low partials lie in bands narrower than the pitch.
    lowest, highest = int(0.6 * pitch_hertz), int(1.4 * pitch_hertz)
    strongest = lowest + spectrum[lowest:highest].argmax()
    assert abs(strongest - pitch_hertz) <= 25


def test_shape_and_range(wanted: np.ndarray):
    waveform = griffin_lim(wanted)
    assert waveform.shape == (FRAMES * HOP,)
    assert waveform.dtype == np.float32
    assert 0.1 < np.abs(waveform).max() <= 1
    assert np.abs(griffin_lim(wanted + 5)).max() <= 1


def test_equal_input_gives_equal_bytes(wanted: np.ndarray):
    assert griffin_lim(wanted).tobytes() == griffin_lim(wanted).tobytes()


def test_silence_stays_silent():
    silence = np.full((FRAMES, mel.BANDS), np.log(mel.MIN_MAGNITUDE))
    assert np.abs(griffin_lim(silence)).max() < 1e-3


@pytest.mark.parametrize("at", [3000, 8000, 8037, 12_345])
def test_a_click_comes_back_when_it_was(at: int):
    click = 1e-3 * np.random.default_rng(0).normal(size=FRAMES * HOP)
    click[at] = 1
    found = np.abs(griffin_lim(log_mel(click))).argmax()
    # Measured: within 1 ms. Half a hop, by which the two framings differ, would be 5 ms.
    assert abs(found - at) < 0.003 * RATE
