"""The dataset that `data.build` writes, as the package reads it."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from data import build, shard_writer, shards, videos
from tests import tiny
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import IDS, SYMBOLS
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.input_pipeline.dataset import BadRecord, Dataset, to_clip
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=3.0)
HALF_FRAME_SEC = 0.5 / SPEC.latent_rate


def manifest(data: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    return {row["clip_id"]: row for row in rows}


def test_every_clip_of_the_manifest_is_there_once(demo_data: Path) -> None:
    opened = Dataset(demo_data, SPEC)
    rows = manifest(demo_data)
    assert len(rows) == tiny.NUM_TRAIN + tiny.NUM_TEST
    found = {}
    for part in ("train", "test"):
        for task in TASKS:
            if opened.count(part, task):
                clips = opened.clips(part, task)
                for index in range(len(clips)):
                    found[clips[index].clip_id] = (part, clips[index])
    assert found.keys() == rows.keys()
    for clip_id, (part, clip) in found.items():
        row = rows[clip_id]
        assert (part, clip.task, clip.transcript, clip.video) == (
            row["split"],
            row["task"],
            row["transcript"],
            row["video"],
        )
        np.testing.assert_allclose(clip.event_times_sec, row["event_times_sec"], atol=1e-6)


def test_metadata_has_the_names_of_the_reference(demo_data: Path) -> None:
    metadata = json.loads((dataset.version_dir(demo_data) / "metadata.json").read_text())
    assert (metadata["clip"]["clip_rate"], metadata["clip"]["synch_rate"]) == (10, 24)
    assert metadata["widths"] == {"clip": 72, "synch": 96, "lips": 80, "speaker": 128}
    assert Dataset(demo_data, SPEC).widths == WEIGHTS_FREE.widths
    assert metadata["origin"]["encoders"].startswith("Encoders(clip=PooledPixels(")


def test_features_have_the_rates_of_the_reference(demo_data: Path) -> None:
    speech = Dataset(demo_data, SPEC).clips("train", "visualtts")[0].features
    assert len(speech.streams["visual"]) == 3 * 10
    assert len(speech.streams["lips"]) == len(speech.phonemes) == 3 * 25
    assert len(speech.streams["sync"]) == 3 * 24
    assert speech.waveform.shape == (48_000,)
    assert SYMBOLS[speech.phonemes[0] - 1] == "<blank>"
    assert set(speech.phonemes) <= set(IDS.values())


def test_phonemes_last_as_long_as_they_are_spoken(demo_data: Path) -> None:
    rows = manifest(demo_data)
    clips = Dataset(demo_data, SPEC).clips("train", "visualtts")
    for clip in (clips[index] for index in range(len(clips))):
        row, frames = rows[clip.clip_id], clip.phoneme_frames
        assert len(frames) == len(clip.phoneme_ids)
        assert frames.sum() == SPEC.latent_frames
        assert abs(frames[0] / SPEC.latent_rate - row["speech_start_sec"]) <= HALF_FRAME_SEC
        silence = SPEC.duration_sec - row["speech_end_sec"]
        assert abs(frames[-1] / SPEC.latent_rate - silence) <= HALF_FRAME_SEC
    assert not len(Dataset(demo_data, SPEC).clips("train", "v2s")[0].phoneme_frames)


def test_a_word_shares_its_time_out_among_its_phonemes() -> None:
    row = {
        "transcript": "four by",  # F AO1 R, B AY1
        "phoneme_starts_sec": [[0.4, 0.8], [1.6, 1.8]],  # two phonemes of the engine for each
        "speech_end_sec": 2.4,
        "duration_sec": 3.0,
    }
    # Of "four", the first third starts with the word, the next at 2/3 of 0.4 s, the last in the
    # second phoneme's 0.8 s, a third of the way.
    starts_sec = [0, 0.4, 0.4 + 0.4 * 2 / 3, 0.8 + 0.8 / 3, 1.6, 1.8, 2.4]
    expected = np.diff(np.round(np.array(starts_sec) * SPEC.latent_rate), append=75)
    np.testing.assert_array_equal(videos.phoneme_frames(row, SPEC), expected)


def test_phonemes_are_spread_as_the_dataset_aligns_them(demo_data: Path) -> None:
    aligned = Dataset(demo_data, SPEC, "aligned").clips("test", "visualtts")[0]
    expected = np.repeat(aligned.phoneme_ids, aligned.phoneme_frames)
    np.testing.assert_array_equal(aligned.features.phonemes, expected)
    uniform = Dataset(demo_data, SPEC).clips("test", "visualtts")[0]
    assert not np.array_equal(aligned.features.phonemes, uniform.features.phonemes)


def test_durations_that_do_not_fit_are_named(demo_data: Path, tmp_path: Path) -> None:
    clip_id = Dataset(demo_data, SPEC).clips("test", "visualtts")[0].clip_id
    file = tmp_path / "durations.json"

    def read() -> dataset.Clip:
        return Dataset(demo_data, SPEC, "predicted", str(file)).clips("test", "visualtts")[0]

    with pytest.raises(UserError, match=r"data\.durations_path is .*no file of durations; write"):
        read()
    file.write_text("[1, 2")
    with pytest.raises(UserError, match="no file of durations; write one with"):
        read()
    file.write_text("{}")
    with pytest.raises(UserError, match=rf"record 0 \({clip_id}\): no durations in {file}; write"):
        read()
    file.write_text(json.dumps({clip_id: [70, 5]}))
    with pytest.raises(UserError, match=r"75 frames, but 2 phonemes last 75 frames in"):
        read()


def test_what_a_clip_lacks_is_absent(demo_data: Path) -> None:
    sound = Dataset(demo_data, SPEC).clips("train", "v2s")[0].features
    assert len(sound.streams["lips"]) == len(sound.phonemes) == 0
    assert not sound.streams["speaker"].any()


def test_the_sound_is_that_of_the_video(demo_data: Path) -> None:
    clip = Dataset(demo_data, SPEC).clips("test", "v2s")[0]
    heard = media.read_audio(demo_data / clip.video, SPEC.sampling_rate)
    np.testing.assert_allclose(clip.features.waveform, heard[:48_000], atol=1e-4)


def test_the_speaker_depends_on_the_voice_alone(demo_data: Path) -> None:
    clips = Dataset(demo_data, SPEC).clips("train", "visualtts")
    by_voice: dict[str, list[np.ndarray]] = {}
    for index in range(len(clips)):
        by_voice.setdefault(clips[index].voice, []).append(clips[index].features.streams["speaker"])
    assert len(by_voice) > 1
    for speakers in by_voice.values():
        assert all(np.array_equal(speakers[0], other) for other in speakers)
    first, second, *_ = by_voice.values()
    assert np.abs(first[0] - second[0]).max() > 0.1


def test_a_second_build_gives_the_same_bytes(demo_data: Path, tmp_path: Path) -> None:
    build.ensure(tiny.config(tmp_path).data, SPEC)
    first, again = (
        {file.name: file.read_bytes() for file in dataset.version_dir(path).iterdir()}
        for path in (demo_data, tmp_path)
    )
    assert first == again


def test_clips_are_spread_over_several_shards(demo_data: Path, tmp_path: Path) -> None:
    rows = [row for row in manifest(demo_data).values() if row["split"] == "train"]
    rows = [row for row in rows if row["task"] == "visualtts"]
    for folder in ("clips", "voices"):
        (tmp_path / folder).symlink_to(demo_data / folder)
    source = videos.Videos(tmp_path, WEIGHTS_FREE, SPEC)
    contents = shard_writer.Contents(rows, source, SPEC, WEIGHTS_FREE.widths, origin={})
    shards.build(
        tmp_path, contents, lambda jobs: map(shard_writer.write_shard, jobs), clips_per_shard=4
    )
    files = list(dataset.version_dir(tmp_path).glob("*-train_visualtts.*"))
    assert len(files) == -(-len(rows) // 4) > 1
    clips = Dataset(tmp_path, SPEC).clips("train", "visualtts")
    found = {clips[index].clip_id for index in range(len(clips))}
    assert found == {row["clip_id"] for row in rows}


def test_a_dataset_that_is_there_is_not_made_again(demo_data: Path) -> None:
    info = dataset.version_dir(demo_data) / "dataset_info.json"
    before = info.stat().st_mtime_ns
    build.ensure(tiny.config(demo_data).data, SPEC)
    assert info.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["metadata.json", "dataset_info.json", "features.json"])
def test_damaged_metadata_is_one_line(own_data: Path, name: str) -> None:
    (path,) = own_data.glob(f"vssflow/*/{name}")
    path.write_bytes(path.read_bytes()[:100])
    expected = r"its metadata is damaged .* restore it or rebuild"
    with pytest.raises(UserError, match=expected) as told:
        Dataset(own_data, SPEC)
    assert "\n" not in str(told.value)


def test_a_duration_that_is_none_is_a_bad_record(demo_data: Path) -> None:
    dataset = Dataset(demo_data, SPEC)
    source = dataset.clips("train", "v2s")
    values = records.decode(source._records[0], dataset.widths)
    to_clip(values, dataset, "here")
    with pytest.raises(BadRecord, match=r"here .* it lasts nan s"):
        to_clip({**values, "duration_sec": float("nan")}, dataset, "here")


def test_too_many_open_files_are_no_damage(
    demo_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Dataset(demo_data, SPEC).clips("train", "v2s")

    def fail(index: int) -> bytes:
        raise RuntimeError(f"open() failed: Too many open files [{index}]")

    monkeypatch.setattr(source, "_records", mock.MagicMock(__getitem__=lambda _, i: fail(i)))
    with pytest.raises(UserError, match="record 0: too many open files; raise `ulimit -n`") as told:
        source[0]
    assert not isinstance(told.value, BadRecord)


def test_an_empty_folder_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none there; build one with python -m data.build"):
        Dataset(tmp_path, SPEC)
