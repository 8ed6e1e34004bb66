"""Mel-cepstral distortion: its steps by hand, and what it makes of delays and of levels."""

import sys

import numpy as np
import pytest

from vssflow_jax.evaluate.metrics import mcd
from vssflow_jax.utils.errors import UserError

SAMPLING_RATE = 16_000


def voice(duration_sec: float, formant_hz: float = 700.0) -> np.ndarray:
    """A buzz at 160 Hz whose formant moves, float32 [n]."""
    time = np.arange(int(duration_sec * SAMPLING_RATE)) / SAMPLING_RATE
    moving = formant_hz * (1 + 0.4 * np.sin(2 * np.pi * 1.5 * time))
    harmonics = 160 * np.arange(1, 40)[:, None]
    weights = np.exp(-(((harmonics - moving) / 400) ** 2)) + 0.01
    waves = weights * np.sin(2 * np.pi * harmonics * time)
    return (0.1 * waves.sum(0)).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return voice(0.6)


def test_a_sound_is_at_distance_zero_from_itself(reference):
    assert mcd.mel_cepstral_distortion(reference, reference, SAMPLING_RATE) == (0, 0, 0)


def test_warping_forgives_a_delay_and_the_length_counts_only_if_asked(reference):
    late = np.concatenate([reference[:1], np.zeros(1_600, np.float32), reference])
    score = mcd.mel_cepstral_distortion(reference, late, SAMPLING_RATE)
    assert score.dtw < 0.5 * score.plain
    frames = [int(200 * len(sound) / SAMPLING_RATE) + 1 for sound in (reference, late)]
    assert score.dtw_sl == pytest.approx(score.dtw * frames[1] / frames[0])
    turned = mcd.mel_cepstral_distortion(late, reference, SAMPLING_RATE)
    assert turned.plain == pytest.approx(score.plain)


def test_another_vowel_is_further_away_than_a_little_noise(reference):
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
    near = mcd.mel_cepstral_distortion(reference, reference + noise, SAMPLING_RATE)
    far = mcd.mel_cepstral_distortion(reference, voice(0.6, 1_500.0), SAMPLING_RATE)
    assert all(a < 0.5 * b for a, b in zip(near, far, strict=True))


def test_the_cepstrum_of_a_flat_envelope_is_its_level():
    cepstrum = mcd.cepstrum_of_power(np.full((1, 257), 3.0))
    expected = np.eye(14)[0] * np.log(9 + mcd.SQUARED_POWER_FLOOR) / 2
    assert cepstrum[0] == pytest.approx(expected, abs=1e-12)


def test_a_warped_cepstrum_is_that_of_the_warped_frequencies():
    """An envelope that is smooth in warped frequency comes back in its few coefficients."""
    omega = np.linspace(0, np.pi, 257)
    warped = omega + 2 * np.arctan2(mcd.WARPING * np.sin(omega), 1 - mcd.WARPING * np.cos(omega))
    power = np.exp(1.0 + 0.5 * np.cos(warped) - 0.25 * np.cos(3 * warped))
    expected = np.zeros(14)
    expected[[0, 1, 3]] = 1.0, 0.5, -0.25
    found = mcd.cepstrum_of_power(power[None])[0]
    assert found == pytest.approx(expected, abs=1e-6)


def test_distortion_by_hand():
    a, b = np.zeros((2, 14)), np.zeros((3, 14))
    b[2, :2] = 3, 4
    path = np.array([[0, 0], [1, 1], [1, 2]])
    assert mcd.distortion(a, b, path) == pytest.approx(10 * np.sqrt(2) / np.log(10) * 5 / 3)


@pytest.mark.parametrize("lengths", [(1, 1), (2, 9), (9, 2), (7, 8), (33, 50), (64, 41)])
def test_paths_go_from_start_to_end_by_single_steps(lengths):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((length, 3)).cumsum(0) for length in lengths)
    path = mcd.warping_path(a, b)
    assert (path[0].tolist(), path[-1].tolist()) == ([0, 0], [n - 1 for n in lengths])
    assert {tuple(step) for step in np.diff(path, axis=0)} <= {(0, 1), (1, 0), (1, 1)}


def test_the_path_finds_a_stretch():
    slow = np.repeat(np.arange(40.0), 3)[:, None]
    path = mcd.warping_path(slow, np.arange(40.0)[:, None])
    np.testing.assert_array_equal(slow[path[:, 0], 0], path[:, 1])


def test_the_path_stays_near_the_coarse_one_even_if_a_shorter_one_lies_elsewhere():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 60, 2))
    approximate = mcd.warping_path(a, b)
    exact = mcd.exact_warping_path(a, b, np.ones((60, 60), bool))
    assert path_length(a, b, approximate) > path_length(a, b, exact)


def path_length(a: np.ndarray, b: np.ndarray, path: np.ndarray) -> float:
    return np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1).sum()


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(300), "at least 23 ms"),
        (np.zeros((2, 16_000)), "expected one channel"),
        (np.full(16_000, np.nan), "not finite"),
    ],
)
def test_what_has_no_distortion_is_refused(reference, waveform, message):
    for pair in ((reference, waveform), (waveform, reference)):
        with pytest.raises(UserError, match=f"^MCD: .*{message}"):
            mcd.mel_cepstral_distortion(*pair, SAMPLING_RATE)


def test_digital_silence_has_a_distortion(reference):
    score = mcd.mel_cepstral_distortion(reference, np.zeros(8_000, np.float32), SAMPLING_RATE)
    assert np.isfinite(score).all()
    assert score.dtw > 1


def test_a_missing_package_names_its_extra(monkeypatch, reference):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[metrics\]'"):
        mcd.mel_cepstrum(reference)
