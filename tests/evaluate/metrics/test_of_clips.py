import importlib.util

import numpy as np
import pytest

from data.demo import speech
from data.demo.painting import KINDS
from data.demo.scenes import make_scene
from tests.tiny import ROOT
from vssflow_jax.clip import to_int16
from vssflow_jax.evaluate.benchmark import load
from vssflow_jax.evaluate.metrics import of_clips
from vssflow_jax.evaluate.metrics.of_clips import Prediction, Reference, distance_of_mels
from vssflow_jax.evaluate.metrics.registry import METRICS, score_clip
from vssflow_jax.evaluate.rows import Row

RATE = 16_000
TIMES_SEC = np.arange(3 * RATE) / RATE
REFERENCE = Reference("v2s", "", np.zeros(0))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    sound, truth = (Prediction(np.zeros(0), log_mel) for log_mel in (a, b))
    value, weight = distance_of_mels(sound, truth, REFERENCE)
    assert weight == 1
    return value


def test_equal_sounds_are_at_distance_zero():
    log_mel = np.random.default_rng(0).standard_normal((300, 64))
    assert distance(log_mel, log_mel) == 0.0


def test_ten_times_the_magnitude_is_twenty_decibels_both_ways():
    log_mel = np.zeros((300, 64))
    louder = log_mel + np.log(10)
    assert distance(log_mel, louder) == pytest.approx(20)
    assert distance(louder, log_mel) == pytest.approx(20)


def test_it_averages_over_frames_and_bands():
    log_mel = np.zeros((4, 2))
    other = log_mel.copy()
    other[0, 0] = np.log(10)
    assert distance(log_mel, other) == pytest.approx(20 / 8)


def test_dnsmos_hears_noise():
    voice = speech.synthesize("set red in s nine please", "f2", 140, 50).waveform
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(voice))
    clean, noisy = (
        Prediction(to_int16(x), np.zeros((1, 64))).dnsmos for x in (voice, voice + noise)
    )
    for name in ("sig", "bak", "ovrl", "p808"):
        assert 1 <= noisy[name] < clean[name] <= 5, name


# ------------------------------------------------------------------------------------------ speech


def heard(waveform: np.ndarray) -> Prediction:
    return Prediction(to_int16(waveform), np.zeros((1, 64)))


def said(text: str, voice: str) -> np.ndarray:
    """A sentence from 0.4 s on, in 3 s."""
    spoken = speech.synthesize(text, voice, speech.VOICES[voice]).waveform
    waveform = np.zeros(len(TIMES_SEC), np.float32)
    start = round(0.4 * RATE)
    waveform[start : start + len(spoken)] = 0.7 * spoken / np.abs(spoken).max()
    return waveform


def struck(*times_sec: float) -> np.ndarray:
    """Hits of a metal thing."""
    waveform = np.zeros(len(TIMES_SEC))
    for time_sec in times_sec:
        since = np.maximum(TIMES_SEC - time_sec, 0)
        waveform += (since > 0) * np.exp(-since / 0.02) * np.sin(2 * np.pi * 3000 * since)
    return 0.8 * waveform.astype(np.float32)


WITHOUT_SPEECH = {
    "nothing": np.zeros(0),
    "silence": np.zeros_like(TIMES_SEC),
    "noise": 0.1 * np.random.default_rng(0).standard_normal(len(TIMES_SEC)),
    "loud noise": 0.5 * np.random.default_rng(1).uniform(-1, 1, len(TIMES_SEC)),
    "tone": 0.5 * np.sin(2 * np.pi * 440 * TIMES_SEC),
    "low tones": 0.2 * sum(np.sin(2 * np.pi * 120 * k * TIMES_SEC) / k for k in range(1, 9)),
    "clicks": struck(0.5, 1.0, 1.5, 2.0),
}


@pytest.mark.parametrize("name", WITHOUT_SPEECH)
def test_what_is_no_speech_leaks_none(name: str) -> None:
    sound = heard(WITHOUT_SPEECH[name].astype(np.float32))
    assert sound.speech_sec.shape == (0, 2)
    assert of_clips.presence_of_speech(sound, sound, REFERENCE) == (0.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_the_demo_are_no_speech(kind: str) -> None:
    scene = make_scene(kind, np.random.default_rng(7), 3.0)
    assert not len(heard(0.9 * scene.sound(RATE)).speech_sec)


@pytest.mark.parametrize("voice", speech.VOICES)
@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_speech_is_heard_where_it_is(voice: str, gain: float) -> None:
    waveform = said("bin blue at f two now", voice)
    begins, ends = np.flatnonzero(waveform)[[0, -1]] / RATE
    sound = heard(gain * waveform)
    assert of_clips.presence_of_speech(sound, sound, REFERENCE) == (1.0, 1.0)
    assert sound.speech_sec.min() == pytest.approx(begins, abs=0.2)
    assert sound.speech_sec.max() == pytest.approx(ends, abs=0.35)


def test_speech_is_measured_in_clips_of_its_task_alone() -> None:
    sounds = {
        "generated": heard(said("set red in s nine please", "f2")),
        "ground_truth": heard(0.1 * struck(1.0)),
    }
    names = ("speech_leak", "speech_heard", "speech_heard_joint")
    found = {}
    for task in ("v2s", "visualtts", "tts", "joint"):
        reference = Reference(task, "", np.zeros(0))
        row = score_clip(Row(task, 0), reference, sounds, {name: METRICS[name] for name in names})
        assert not row.problems
        assert row.scores["generated"].keys() == row.scores["ground_truth"].keys()
        found[task] = [*row.scores["generated"]]
        assert set(row.scores["generated"].values()) == {(1.0, 1.0)}
        assert set(row.scores["ground_truth"].values()) == {(0.0, 1.0)}
    assert found == {
        "v2s": ["speech_leak"],
        "visualtts": ["speech_heard"],
        "tts": ["speech_heard"],
        "joint": ["speech_heard_joint"],
    }


EVENTS_SEC = np.array([0.1, 0.9, 1.4, 2.6, 2.8])
RECALLS = ("onset_recall_joint", "onset_recall_in_speech", "onset_recall_out_of_speech")


def recalls(
    sound: np.ndarray, truth: np.ndarray, events_sec: np.ndarray
) -> dict[str, tuple[float, float]]:
    sounds = {"generated": heard(sound), "ground_truth": heard(truth)}
    metrics = {name: METRICS[name] for name in RECALLS}
    row = score_clip(Row("joint", 0), Reference("joint", "", events_sec), sounds, metrics)
    assert not row.problems
    return row.scores["generated"]


def test_onsets_in_and_out_of_speech() -> None:
    voice = said("bin blue at f two now", "f2")
    found = recalls(struck(0.9, 2.6), voice, EVENTS_SEC)
    assert found == {
        "onset_recall_joint": (2, 5),
        "onset_recall_in_speech": (1, 2),
        "onset_recall_out_of_speech": (1, 3),
    }


def test_the_true_sound_says_when_there_is_speech() -> None:
    truth, events = said("bin blue at f two now", "f2"), EVENTS_SEC
    silent = recalls(np.zeros_like(truth), truth, events)
    assert silent["onset_recall_in_speech"] == (0, 2)
    late = recalls(np.roll(truth, RATE), truth, events)
    assert late["onset_recall_in_speech"][1] == 2


@pytest.mark.parametrize("seed", range(5))
def test_both_parts_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Some so near to each other that an onset could be matched with either, within and without.
    events = np.sort(rng.uniform(0.1, 2.9, 12))
    mixed = 0.5 * said("place green by q one again", "m6") + 0.5 * struck(*rng.choice(events, 6))
    whole, *parts = recalls(mixed, mixed, events).values()
    assert tuple(np.sum(parts, axis=0)) == whole
    assert all(below for _, below in parts)


def test_a_clip_without_events_of_a_kind_is_none_of_that_metric() -> None:
    voice = said("bin blue at f two now", "f2")
    assert not recalls(voice, voice, np.zeros(0))
    only = recalls(voice, voice, np.array([0.9, 1.4]))
    assert only.keys() == {"onset_recall_joint", "onset_recall_in_speech"}
    without = recalls(voice, np.zeros_like(voice), EVENTS_SEC)
    assert without["onset_recall_out_of_speech"] == without["onset_recall_joint"]
    assert "onset_recall_in_speech" not in without


def test_without_the_package_these_metrics_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "silero_vad" else find(name)
    )
    absent = load("demo", ROOT / "configs" / "benchmarks").absent
    names = {"speech_leak", "speech_heard", "speech_heard_joint", *RECALLS[1:]}
    assert {name for name, how in absent.items() if "silero-vad==" in how} == names
