from collections.abc import Iterable

import librosa
import numpy as np
import pytest

from data.demo.painting import KINDS
from data.demo.scenes import make_scene
from vssflow_jax.evaluate.metrics import onsets
from vssflow_jax.evaluate.metrics.onsets import WINDOW_SEC, count_matches, detect_onsets, matched

SAMPLING_RATE = 16_000
DURATION_SEC = 3.0


def scenes(per_kind: int) -> list:
    return [
        make_scene(kind, np.random.default_rng((50, index, clip)), DURATION_SEC)
        for index, kind in enumerate(KINDS)
        for clip in range(per_kind)
    ]


def f1(pairs: Iterable[tuple[np.ndarray, np.ndarray]], window_sec: float = WINDOW_SEC) -> float:
    counts = [(count_matches(*pair, window_sec=window_sec), sum(map(len, pair))) for pair in pairs]
    matches, times = np.sum(counts, axis=0)
    return 2 * matches / times


def degraded(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a noisy log-mel with a floor, the inverse of its bands, and Griffin-Lim."""
    bank = librosa.filters.mel(sr=SAMPLING_RATE, n_fft=1024, n_mels=64)
    spectrum = librosa.stft(0.5 * sound / np.abs(sound).max(), n_fft=1024, hop_length=160)
    log_mel = np.maximum(np.log(bank @ np.abs(spectrum) + 1e-5), -7)
    log_mel += 0.3 * rng.standard_normal(log_mel.shape)
    magnitude = np.maximum(np.linalg.pinv(bank) @ np.exp(log_mel), 0)
    return librosa.griffinlim(magnitude, n_iter=8, hop_length=160, random_state=0)


def test_ground_truth_is_found_within_a_few_milliseconds():
    pairs = [
        (scene.event_times_sec, detect_onsets(scene.sound(SAMPLING_RATE), SAMPLING_RATE))
        for scene in scenes(per_kind=4)
    ]
    assert f1(pairs) >= 0.97
    assert f1(pairs, window_sec=0.03) >= 0.97


def test_degraded_sound_is_still_found_and_another_clips_times_are_not():
    rng = np.random.default_rng(0)
    clips = scenes(per_kind=2)
    references = [scene.event_times_sec for scene in clips]
    found = [
        detect_onsets(degraded(scene.sound(SAMPLING_RATE), rng), SAMPLING_RATE) for scene in clips
    ]
    assert f1(zip(references, found, strict=True)) >= 0.93
    shuffled = references[5:] + references[:5]
    assert f1(zip(shuffled, found, strict=True)) < 0.5


def test_loudness_does_not_matter():
    sound = make_scene("drum", np.random.default_rng(1), DURATION_SEC).sound(SAMPLING_RATE)
    np.testing.assert_array_equal(
        detect_onsets(sound, SAMPLING_RATE), detect_onsets(0.05 * sound, SAMPLING_RATE)
    )


@pytest.mark.parametrize("level", [0.0, 1e-5, 0.05])
def test_silence_and_steady_noise_have_no_onsets(level):
    rng = np.random.default_rng(0)
    noise = level * rng.standard_normal(3 * SAMPLING_RATE)
    assert len(detect_onsets(noise.astype(np.float32), SAMPLING_RATE)) == 0


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_very_short_sounds_do_not_fail(length):
    assert len(detect_onsets(np.ones(length, np.float32), SAMPLING_RATE)) <= 1


@pytest.mark.parametrize(
    ("reference", "estimated", "matches"),
    [
        ([0.5, 1.0], [0.55, 1.05], 2),
        ([0.5, 1.0], [0.55], 1),
        ([0.5], [0.45, 0.55], 1),
        ([0.5], [0.62], 0),
        ([], [], 0),
        ([0.5], [], 0),
        ([], [0.5], 0),
    ],
)
def test_matches_are_counted_once(reference: list, estimated: list, matches: int):
    assert count_matches(reference, estimated) == matches


@pytest.mark.parametrize(
    ("reference", "estimated", "expected"),
    [
        ([0.5, 1.0, 1.5], [1.05, 2.0], [False, True, False]),
        ([0.5, 0.58], [0.5, 0.42], [True, True]),  # the nearest to the first is left to the second
        ([0.5], [], [False]),
        ([], [0.5], []),
    ],
)
def test_which_are_matched(reference: list, estimated: list, expected: list):
    found = matched(reference, estimated)
    assert found.dtype == bool
    assert found.tolist() == expected


def test_the_window_may_be_wider():
    assert count_matches([0.5], [0.62], window_sec=0.15) == 1


@pytest.mark.parametrize("seed", range(8))
def test_peaks_are_those_of_librosa(seed: int) -> None:
    # As it is written, rather than as it is compiled: see `onsets._peaks`.
    picker = vars(librosa.util.utils)["__peak_pick"].gufunc_builder.py_func
    rise_db = np.random.default_rng(seed).gamma(0.3, 8.0, size=300).astype(np.float32)
    rise_db[seed * 20 : seed * 20 + 40] = 0
    context, gap = 10, 15
    expected = np.zeros(len(rise_db), bool)
    picker(rise_db, *[context] * 4, onsets.MIN_RISE_DB, gap, expected)
    assert expected.sum() > 5
    np.testing.assert_array_equal(onsets._peaks(rise_db), np.flatnonzero(expected))
