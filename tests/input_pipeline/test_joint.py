"""Sound and speech put together at feature level, on arrays small enough to check by eye."""

import dataclasses

import numpy as np
import pytest

from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.collate import without_video
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.input_pipeline.joint import combine, draw_gain, draw_start

# One second in every stream's own rate: 10 semantic, 24 motion, 25 lip frames, 50 samples.
SPEC = ClipSpec(duration_sec=10.0, sampling_rate=50)
RATES = {"visual": 10, "sync": 24, "lips": 25}


def features(
    duration_sec: float, value: float, *, spoken: bool, padded_to_sec: float | None = None
) -> ClipFeatures:
    """A clip whose streams hold one value for its duration, then zeros up to `padded_to_sec`."""

    def stream(rate: float, width: int) -> np.ndarray:
        frames = np.zeros((round((padded_to_sec or duration_sec) * rate), width), np.float32)
        frames[: round(duration_sec * rate)] = value
        return frames

    return ClipFeatures(
        streams={
            "visual": stream(10, 2),
            "sync": stream(24, 3),
            "lips": stream(25, 4) if spoken else np.zeros((0, 4), np.float32),
            "speaker": np.full(5, value if spoken else 0, np.float32),
        },
        phonemes=np.full(round(25 * duration_sec) if spoken else 0, int(value), np.int32),
        sound=stream(50, 1)[:, 0],
        duration_sec=duration_sec,
    )


SOUND = features(10.0, 1.0, spoken=False)
SPEECH = features(2.0, 4.0, spoken=True)


def test_add_sums_inside_the_speech_and_leaves_the_rest():
    mixed = combine(SOUND, SPEECH, mode="add", start_sec=3.0, gain=0.5, spec=SPEC)
    assert mixed.streams["visual"].shape == (100, 2)
    np.testing.assert_array_equal(mixed.streams["visual"][:, 0], [1] * 30 + [5] * 20 + [1] * 50)
    np.testing.assert_array_equal(mixed.streams["sync"][:, 2], [1] * 72 + [5] * 48 + [1] * 120)
    # Only the waveform of the sound is turned down, and only under the speech.
    np.testing.assert_array_equal(mixed.waveform, [1] * 150 + [4.5] * 100 + [1] * 250)
    assert mixed.duration_sec == 10.0


def test_insert_of_speech_without_picture_leaves_none_of_the_sound_s_after_its_start():
    speech = without_video(SPEECH)
    mixed = combine(SOUND, speech, mode="insert", start_sec=2.0, gain=0.5, spec=SPEC)
    assert (mixed.streams["visual"][:20] == 1).all()
    assert (mixed.streams["sync"][:48] == 1).all()
    assert not mixed.streams["visual"][20:].any()
    assert not mixed.streams["sync"][48:].any()
    added = combine(SOUND, speech, mode="add", start_sec=2.0, gain=0.5, spec=SPEC)
    np.testing.assert_array_equal(added.streams["visual"], SOUND.streams["visual"])


def test_insert_replaces_inside_the_speech_and_ignores_the_gain():
    mixed = combine(SOUND, SPEECH, mode="insert", start_sec=3.0, gain=0.5, spec=SPEC)
    np.testing.assert_array_equal(mixed.streams["visual"][:, 1], [1] * 30 + [4] * 20 + [1] * 50)
    np.testing.assert_array_equal(mixed.streams["sync"][:, 0], [1] * 72 + [4] * 48 + [1] * 120)
    np.testing.assert_array_equal(mixed.waveform, [1] * 150 + [4] * 100 + [1] * 250)


@pytest.mark.parametrize("mode", ["add", "insert"])
def test_lips_and_phonemes_wait_for_the_speech(mode):
    mixed = combine(SOUND, SPEECH, mode=mode, start_sec=3.0, gain=0.5, spec=SPEC)
    np.testing.assert_array_equal(mixed.phonemes, [0] * 75 + [4] * 50)
    assert mixed.phonemes.dtype == np.int32
    np.testing.assert_array_equal(mixed.streams["lips"], [[0] * 4] * 75 + [[4] * 4] * 50)
    np.testing.assert_array_equal(mixed.streams["speaker"], SPEECH.streams["speaker"])


def test_starts_are_rounded_down_in_each_stream():
    # 0.99 s is 9.9 semantic, 23.76 motion, 24.75 lip frames and 49.5 samples.
    mixed = combine(SOUND, SPEECH, mode="insert", start_sec=0.99, gain=0.5, spec=SPEC)
    assert np.flatnonzero(mixed.streams["visual"][:, 0] == 4)[0] == 9
    assert np.flatnonzero(mixed.streams["sync"][:, 0] == 4)[0] == 23
    assert np.flatnonzero(mixed.streams["lips"][:, 0])[0] == 24
    assert np.flatnonzero(mixed.phonemes)[0] == 24
    assert np.flatnonzero(mixed.waveform == 4)[0] == 49


def test_padding_of_the_speech_features_comes_along_but_not_that_of_its_waveform():
    padded = features(2.0, 4.0, spoken=True, padded_to_sec=10.0)
    mixed = combine(SOUND, padded, mode="insert", start_sec=3.0, gain=0.5, spec=SPEC)
    np.testing.assert_array_equal(mixed.streams["visual"][:, 0], [1] * 30 + [4] * 20 + [0] * 50)
    np.testing.assert_array_equal(mixed.waveform, [1] * 150 + [4] * 100 + [1] * 250)


@pytest.mark.parametrize("mode", ["add", "insert"])
@pytest.mark.parametrize("padded_to_sec", [10.0, None], ids=["padded", "unpadded"])
def test_speech_longer_than_the_sound_is_heard_to_its_end(mode, padded_to_sec: float | None):
    sound = features(2.0, 1.0, spoken=False, padded_to_sec=padded_to_sec)
    speech = features(3.0, 4.0, spoken=True, padded_to_sec=padded_to_sec)
    mixed = combine(sound, speech, mode=mode, start_sec=0.0, gain=0.5, spec=SPEC)
    under = 4.5 if mode == "add" else 4
    assert mixed.duration_sec == 3.0
    np.testing.assert_array_equal(mixed.waveform[:150], [under] * 100 + [4] * 50)
    assert not mixed.waveform[150:].any()
    np.testing.assert_array_equal(mixed.streams["visual"][20:30, 0], [4] * 10)
    np.testing.assert_array_equal(mixed.streams["sync"][48:72, 0], [4] * 24)


@pytest.mark.parametrize("mode", ["add", "insert"])
def test_the_clips_that_went_in_are_left_as_they_were(mode):
    sound, speech = features(10.0, 1.0, spoken=False), features(2.0, 4.0, spoken=True)
    combine(sound, speech, mode=mode, start_sec=3.0, gain=0.5, spec=SPEC)
    for before, after in ((SOUND, sound), (SPEECH, speech)):
        for name, frames in before.streams.items():
            np.testing.assert_array_equal(frames, after.streams[name])
        np.testing.assert_array_equal(before.phonemes, after.phonemes)
        np.testing.assert_array_equal(before.sound, after.sound)


def test_starts_are_spread_over_all_places_where_the_speech_fits():
    rng = np.random.default_rng(0)
    starts = np.array([draw_start(SOUND, SPEECH, rng) for _ in range(2000)])
    assert 0 <= starts.min() < 0.1
    assert 7.9 < starts.max() <= 8.0
    assert abs(starts.mean() - 4.0) < 0.2


def test_speech_that_does_not_fit_starts_at_zero():
    rng = np.random.default_rng(0)
    assert draw_start(SPEECH, SOUND, rng) == 0.0
    assert draw_start(SPEECH, SPEECH, rng) == 0.0


def test_gains_are_spread_over_the_range_of_the_paper():
    rng = np.random.default_rng(0)
    gains = np.array([draw_gain(rng) for _ in range(2000)])
    assert 0.3 <= gains.min() < 0.31
    assert 0.69 < gains.max() <= 0.7
    assert abs(gains.mean() - 0.5) < 0.02


@pytest.mark.parametrize("mode", ["add", "insert"])
def test_float16_features_are_added_up_in_float32_and_rounded_once(mode):
    rng = np.random.default_rng(0)

    def clip(seconds: int, dtype: type) -> ClipFeatures:
        frames = {name: rng.normal(size=(rate * seconds, 3)) for name, rate in RATES.items()}
        half = {name: value.astype(np.float16).astype(dtype) for name, value in frames.items()}
        waveform = rng.normal(size=50 * seconds).astype(np.float32)
        streams = {**SOUND.streams, **half}
        return dataclasses.replace(SOUND, streams=streams, sound=waveform, duration_sec=seconds)

    half, full = [], []
    for seconds in (10, 3):
        state = rng.bit_generator.state
        half.append(clip(seconds, np.float16))
        rng.bit_generator.state = state
        full.append(clip(seconds, np.float32))
    drawn = {"mode": mode, "start_sec": 2.0, "gain": 0.4, "spec": SPEC}
    found, expected = combine(*half, **drawn), combine(*full, **drawn)
    for name in RATES:
        stream = found.streams[name]
        assert stream.dtype == np.float16
        np.testing.assert_array_equal(stream, expected.streams[name].astype(np.float16))
    np.testing.assert_array_equal(found.waveform, expected.waveform)
