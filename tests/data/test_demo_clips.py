"""The demo set: its plan, its files, their timing, and that it is made once, from the seed only."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.demo import clips, face, looks, painting, speech, visemes
from vssflow_jax import media
from vssflow_jax.utils.errors import UserError

NUM_TRAIN, NUM_TEST = 8, 6
DURATION_SEC = clips.DURATION_SEC


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    clips.make_demo_clips(root, seed=0, num_train=NUM_TRAIN, num_test=NUM_TEST, workers=2)
    return root


def rows_of(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()
    }


def test_default_plan_has_the_stated_composition():
    plans = clips.plan_clips(0, 600, 60)
    counts = {
        (split, task): sum((plan["split"], plan["task"]) == (split, task) for plan in plans)
        for split in ("train", "test")
        for task in ("visualtts", "v2s", "joint")
    }
    assert list(counts.values()) == [420, 150, 30, 30, 20, 10]
    sentences = [plan["transcript"] for plan in plans if plan["transcript"]]
    assert len(sentences) == len(set(sentences)) == 490
    assert {plan["voice"] for plan in plans} == {*speech.VOICES, ""}
    assert {plan["event_kind"] for plan in plans} == {*painting.KINDS, ""}
    assert [plan["clip_id"] for plan in plans] == sorted({plan["clip_id"] for plan in plans})


def test_plans_of_other_seeds_differ():
    assert clips.plan_clips(0, 20, 6) == clips.plan_clips(0, 20, 6)
    assert clips.plan_clips(0, 20, 6) != clips.plan_clips(1, 20, 6)


def test_rows_describe_files_that_exist(demo):
    rows = rows_of(demo)
    assert len(rows) == NUM_TRAIN + NUM_TEST
    for row in rows:
        frames, fps = media.read_video(demo / row["video"])
        assert fps == clips.FPS
        assert frames.shape == (75, 128, 192, 3)
        waveform = media.read_audio(demo / row["video"], clips.SAMPLING_RATE)
        assert len(waveform) == DURATION_SEC * clips.SAMPLING_RATE
        assert np.abs(waveform).max() > 0.05
        # The unused half is black, but for the codec's ringing.
        if row["task"] == "visualtts":
            assert frames[:, :, clips.SCENE_X + 8 :].max() < 8
        if row["task"] == "v2s":
            assert frames[:, :, : clips.SCENE_X - 8].max() < 8


def test_rows_have_speech_and_events_as_their_task_says(demo):
    for row in rows_of(demo):
        speaks, sounds = row["task"] != "v2s", row["task"] != "visualtts"
        for key in (
            "transcript",
            "voice",
            "voice_sample",
            "speech_start_sec",
            "phoneme_starts_sec",
            "mouth_box",
        ):
            assert bool(row[key]) == speaks, key
        assert bool(row["event_kind"]) == bool(row["event_times_sec"]) == sounds
        if speaks:
            samples, rate = soundfile.read(demo / row["voice_sample"])
            assert rate == clips.SAMPLING_RATE
            assert len(samples) > rate
            assert 0.1 <= row["speech_start_sec"] < row["speech_end_sec"] <= DURATION_SEC - 0.1
            assert row["mouth_box"] == list(face.MOUTH_BOX)
            times = list(itertools.chain(*row["phoneme_starts_sec"]))
            assert times == sorted(times)
            assert times[-1] < row["speech_end_sec"]
            assert times[0] == row["speech_start_sec"]
            assert len(row["phoneme_starts_sec"]) == len(row["transcript"].split())


def test_speech_is_heard_where_the_row_says_and_the_mouth_moves_there(demo):
    speech_rows = [row for row in rows_of(demo) if row["task"] == "visualtts"]
    for row in speech_rows:
        waveform = media.read_audio(demo / row["video"], clips.SAMPLING_RATE)
        start, end = (
            round(row[key] * clips.SAMPLING_RATE) for key in ("speech_start_sec", "speech_end_sec")
        )
        guard = round(0.05 * clips.SAMPLING_RATE)  # AAC's pre-echo.
        assert np.abs(waveform[: start - guard]).max() < 0.02
        assert np.abs(waveform[end + guard :]).max(initial=0.0) < 0.02
        assert np.abs(waveform[start : start + 4 * guard]).max() > 0.05

        frames, _ = media.read_video(demo / row["video"])
        x0, y0, x1, y1 = row["mouth_box"]
        mouth = frames[:, y0:y1, x0:x1].astype(float)
        motion = np.abs(np.diff(mouth, axis=0)).mean((1, 2, 3))
        first, last = row["speech_start_sec"] * clips.FPS, row["speech_end_sec"] * clips.FPS
        inside = motion[int(first) : int(last)]
        outside = np.concatenate([motion[: max(int(first) - 3, 0)], motion[int(last) + 4 :]])
        assert inside.mean() > 1.0
        assert outside.mean() < 0.3


def test_mouth_is_shut_in_silence_and_for_b_and_open_for_ah():
    phonemes = [(0.2, "'A:"), (0.5, "b"), (0.56, "'A:")]
    times_sec = np.array([0.0, 0.35, 0.53, 0.7, 0.95])
    silent, ah, b, ah_again, after = visemes.mouth_track(phonemes, 0.8, times_sec)
    assert silent.openness == after.openness == 0.0
    assert min(ah.openness, ah_again.openness) > 0.9
    assert b.openness < 0.2
    assert b.press > 0.8


def test_visemes_look_different():
    presenter = face.Presenter(looks.LOOKS["f2"])
    pictures = [presenter.frame(viseme, 0.0).astype(float) for viseme in visemes.VISEMES.values()]
    x0, y0, x1, y1 = face.MOUTH_BOX
    for index, picture in enumerate(pictures):
        for other in pictures[:index]:
            difference = np.abs(picture - other)
            assert difference[y0:y1, x0:x1].mean() > 0.5
            difference[y0:y1, x0:x1] = 0
            assert difference.max() == 0


def test_files_depend_on_the_seed_only(demo, tmp_path):
    clips.make_demo_clips(tmp_path, seed=0, num_train=NUM_TRAIN, num_test=NUM_TEST, workers=1)
    assert files_of(tmp_path) == files_of(demo)


def test_a_finished_set_is_left_alone(demo, monkeypatch):
    monkeypatch.setattr(clips, "plan_clips", lambda *_: pytest.fail("made again"))
    manifest = clips.make_demo_clips(demo, 0, NUM_TRAIN, NUM_TEST, workers=1)
    assert manifest == demo / "manifest.jsonl"


def test_an_interrupted_run_goes_on(demo, tmp_path, monkeypatch):
    write_video, made = media.write_video, []

    def write_three(path, *clip):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path)
        write_video(path, *clip)

    monkeypatch.setattr(media, "write_video", write_three)
    with pytest.raises(KeyboardInterrupt):
        clips.make_demo_clips(tmp_path, 0, NUM_TRAIN, NUM_TEST, workers=1)
    assert not (tmp_path / "manifest.jsonl").exists()

    remade = []

    def write_rest(path, *clip):
        remade.append(path)
        write_video(path, *clip)

    monkeypatch.setattr(media, "write_video", write_rest)
    clips.make_demo_clips(tmp_path, 0, NUM_TRAIN, NUM_TEST, workers=1)
    assert not set(made) & set(remade)
    assert files_of(tmp_path) == files_of(demo)


def test_other_parameters_in_the_same_folder_are_refused(demo):
    before = files_of(demo)
    with pytest.raises(UserError, match="made with"):
        clips.make_demo_clips(demo, 1, NUM_TRAIN, NUM_TEST, workers=1)
    assert files_of(demo) == before
