"""Batches: shapes, determinism, position, mixture weights, joint synthesis."""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import pytest

from data import shard_writer, shards, videos
from tests import noise, tiny
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.dataset import BadRecord, ClipSource, Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.prefetch import (
    Batches,
    BatchIterator,
    Example,
    OnDevices,
    ReadOptions,
)
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=3.0)


def batches(data: Path, seed: int = 0, batch_size: int = 8, **mixture: Any) -> Batches:
    config: ml_collections.ConfigDict = tiny.config(data).data.mixture
    config.update(mixture)
    return train_batches(Dataset(data, SPEC), Mixture.from_config(config), batch_size, seed)


def task_of(batch: Example, row: int) -> str:
    """What an example must be, from what is absent in it."""
    seen, spoken = batch["visual"][row].any(), batch["phonemes"][row].any()
    if not seen:
        return "tts"
    if not spoken:
        return "v2s"
    right_half = batch["visual"][row].reshape(-1, 4, 6, 3)[:, :, 3:]
    return "joint" if right_half.max() > 0.5 else "visualtts"


def test_every_condition_is_at_the_latent_rate(demo_data: Path) -> None:
    batch = next(iter(batches(demo_data)))
    widths = Dataset(demo_data, SPEC).widths
    for name in ("visual", "sync", "lips"):
        assert batch[name].shape == (8, 75, widths[name])
        assert batch[name].dtype == np.float16
    assert batch["phonemes"].shape == (8, 75)
    assert batch["speaker"].shape == (8, widths["speaker"])
    assert batch["waveform"].shape == (8, 48_000)


def test_batches_depend_on_the_seed_alone(demo_data: Path) -> None:
    first, again, other = (iter(batches(demo_data, seed)) for seed in (1, 1, 2))
    for _ in range(4):
        batch, same = next(first), next(again)
        assert all(np.array_equal(batch[name], same[name]) for name in batch)
        assert not np.array_equal(batch["waveform"], next(other)["waveform"])


def test_the_position_restores_the_very_next_batch(demo_data: Path) -> None:
    iterator = iter(batches(demo_data))
    for _ in range(3):
        next(iterator)
    position = iterator.get_state()
    expected = next(iterator)
    restored = iter(batches(demo_data))
    restored.set_state(position)
    found = next(restored)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_tasks_are_mixed_by_their_weights(demo_data: Path) -> None:
    weights = {"v2s": 0.4, "visualtts": 0.3, "tts": 0.1, "joint": 0.2}
    iterator = iter(batches(demo_data, batch_size=100, weights=weights))
    batch = next(iterator)
    counts = Counter(task_of(batch, row) for row in range(100))
    for task, weight in weights.items():
        assert abs(counts[task] - 100 * weight) <= 2, counts


def test_a_task_of_weight_zero_is_left_out(demo_data: Path) -> None:
    weights = {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0}
    batch = next(iter(batches(demo_data, weights=weights, synthetic_ratio=1.0)))
    assert {task_of(batch, row) for row in range(8)} == {"joint"}


def test_synthetic_joint_clips_are_sums_of_one_sound_and_one_speech(demo_data: Path) -> None:
    weights = {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 1.0}
    batch = next(iter(batches(demo_data, weights=weights, synthetic_ratio=1.0)))
    opened = Dataset(demo_data, SPEC)
    sounds, speeches = opened.clips("train", "v2s"), opened.clips("train", "visualtts")
    for mixed in batch["waveform"]:
        basis = [sounds[i].features.waveform for i in range(len(sounds))]
        basis += [speeches[i].features.waveform for i in range(len(speeches))]
        weights_found = np.linalg.lstsq(np.stack(basis).T, mixed, rcond=None)[0]
        used = np.flatnonzero(np.abs(weights_found) > 1e-3)
        assert len(used) == 2
        sound, speech = used
        assert sound < len(sounds) <= speech
        assert 0.3 <= weights_found[sound] <= 0.7
        np.testing.assert_allclose(weights_found[speech], 1.0, atol=1e-3)


def test_speech_without_a_picture_comes_from_its_own_split_where_there_is_one(
    demo_data: Path, tmp_path: Path
) -> None:
    # One clip of its own, so that it is known by its words.
    rows = {row["clip_id"]: row for row in map(json.loads, manifest(demo_data))}
    spoken = [row for row in rows.values() if row["task"] == "visualtts"]
    train = [row for row in rows.values() if row["split"] == "train"]
    alone = next(row for row in spoken if row["split"] == "train")
    alone = {**alone, "clip_id": "alone", "task": "tts", "mouth_box": None}
    for folder in ("clips", "voices"):
        (tmp_path / folder).symlink_to(demo_data / folder)
    source = videos.Videos(tmp_path, WEIGHTS_FREE, SPEC)
    contents = shard_writer.Contents([*train, alone], source, SPEC, WEIGHTS_FREE.widths, origin={})
    shards.build(tmp_path, contents, lambda jobs: map(shard_writer.write_shard, jobs))
    dataset = Dataset(tmp_path, SPEC)
    assert dataset.count("train", "tts") == 1
    only = tiny.config(tmp_path).data.mixture
    only.update(weights={"v2s": 0.0, "visualtts": 0.0, "tts": 1.0, "joint": 0.0})
    batch = next(iter(train_batches(dataset, Mixture.from_config(only), 4, 0)))
    expected = dataset.clips("train", "tts")[0].features.phonemes
    for ids in batch["phonemes"]:
        np.testing.assert_array_equal(ids[: len(expected)], expected)


@pytest.fixture(scope="module")
def corpora(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The demo's training clips, every third of speech from LRS2, the others from GRID."""
    folder = tmp_path_factory.mktemp("corpora")
    rows = [row for row in map(json.loads, manifest(demo_data)) if row["split"] == "train"]
    for number, row in enumerate(row for row in rows if row["task"] == "visualtts"):
        row["clip_id"] = f"{'GRID' if number % 3 else 'LRS2'}-{row['clip_id']}"
    for name in ("clips", "voices"):
        (folder / name).symlink_to(demo_data / name)
    source = videos.Videos(folder, WEIGHTS_FREE, SPEC)
    contents = shard_writer.Contents(rows, source, SPEC, WEIGHTS_FREE.widths, origin={})
    shards.build(folder, contents, lambda jobs: map(shard_writer.write_shard, jobs))
    return Dataset(folder, SPEC)


@pytest.mark.parametrize("task", ["visualtts", "tts", "joint"])
def test_speech_is_taken_from_the_corpora_that_are_named(corpora: Dataset, task: str) -> None:
    source = corpora.clips("train", "visualtts")
    clips = [source[index] for index in range(len(source))]
    named = [clip for clip in clips if clip.clip_id.startswith("LRS2")]
    assert 0 < len(named) < len(clips)
    mixture = tiny.config(corpora.path).data.mixture
    mixture.weights.update({"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 0.0, task: 1.0})
    mixture.synthetic_ratio = 1.0

    def sounds(rows: Iterable[np.ndarray]) -> set[bytes]:
        """Which phonemes are in each."""
        return {np.unique(row[row > 0]).tobytes() for row in rows}

    def drawn() -> set[bytes]:
        read = iter(train_batches(corpora, Mixture.from_config(mixture), 8, 0))
        return sounds(row for _ in range(8) for row in next(read)["phonemes"])

    mixture.speech_sources = ("LRS2", "LibriTTS")
    assert drawn() == sounds(clip.features.phonemes for clip in named)
    mixture.speech_sources = ()
    assert drawn() == sounds(clip.features.phonemes for clip in clips)


@pytest.mark.parametrize("task", ["visualtts", "joint"])
def test_corpora_that_are_not_there_are_named(corpora: Dataset, task: str) -> None:
    mixture = tiny.config(corpora.path).data.mixture
    mixture.weights.update({"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 0.0, task: 1.0})
    mixture.synthetic_ratio = 1.0
    mixture.speech_sources = ("LRS3",)
    with pytest.raises(UserError, match=r"speech_sources are LRS3, .* are from GRID, LRS2"):
        train_batches(corpora, Mixture.from_config(mixture), 4, 0)


def manifest(data: Path) -> list[str]:
    return (data / "manifest.jsonl").read_text().splitlines()


def read(data: Path, **how: Any) -> BatchIterator:
    """Batches of all tasks, read in some way."""
    mixture = tiny.config(data).data.mixture
    return iter(
        train_batches(
            Dataset(data, SPEC), Mixture.from_config(mixture), 4, 0, read_options=ReadOptions(**how)
        )
    )


def read_through(iterator: BatchIterator) -> None:
    """More batches than it takes to see all records."""
    for _ in range(40):
        next(iterator)


def assert_same(first: Example, second: Example) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_batches_and_positions_do_not_depend_on_workers(demo_data: Path) -> None:
    with contextlib.closing(read(demo_data)) as alone:
        expected = [next(alone) for _ in range(7)]
    state = {"next_index": 0}
    # A part of the way with each number of workers, from where the one before stopped.
    for workers, count in ((1, 2), (2, 3), (0, 2)):
        with contextlib.closing(read(demo_data, workers=workers, batches_ahead=1)) as iterator:
            iterator.set_state(state)
            for _ in range(count):
                assert_same(next(iterator), expected[state["next_index"]])
                state = iterator.get_state()
    assert state == {"next_index": 7}


def test_batches_put_on_devices_ahead_are_the_same_and_know_their_position(
    demo_data: Path,
) -> None:
    plain, put = read(demo_data), []
    with OnDevices(read(demo_data), lambda batch: put.append(batch) or batch) as ahead:
        assert ahead.get_state() == {"next_index": 0}
        for count in range(1, 4):
            assert_same(next(ahead), next(plain))
            assert ahead.get_state() == plain.get_state() == {"next_index": count}
            assert len(put) >= count


def test_rows_of_a_batch_are_what_the_whole_batch_has_there(demo_data: Path) -> None:
    mixture = tiny.config(demo_data).data.mixture
    dataset, rows = Dataset(demo_data, SPEC), np.array([1, 4, 6])
    whole = iter(train_batches(dataset, Mixture.from_config(mixture), 8, 0))
    part = iter(train_batches(dataset, Mixture.from_config(mixture), 8, 0, rows=rows))
    for _ in range(3):
        assert_same(next(part), {name: value[rows] for name, value in next(whole).items()})


def test_examples_know_how_many_frames_are_their_own(demo_data: Path) -> None:
    features = Dataset(demo_data, SPEC).clips("train", "visualtts")[0].features
    for duration_sec, frames in ((2.2, 55), (3.0, 75), (9.0, 75), (0.0, 1)):
        clip = dataclasses.replace(features, duration_sec=duration_sec)
        assert to_latent_rate(clip, SPEC)["frames"] == frames


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sounds of 3 s, and speech of which a third lasts 1 s, a third 2 s and a third 2.5 s."""
    folder = tmp_path_factory.mktemp("lasting")
    noise.make(folder, v2s=[3.0] * 12, visualtts=[1.0, 2.0, 2.5] * 8)
    return Dataset(folder, SPEC)


def bucketed(dataset: Dataset, bucket_sec: Sequence[float], **weights: float) -> Batches:
    mixture = tiny.config(dataset.path).data.mixture
    mixture.weights.update({"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 0.0, **weights})
    mixture.synthetic_ratio = 1.0
    return train_batches(dataset, Mixture.from_config(mixture), 4, 0, bucket_sec=bucket_sec)


def test_batches_are_as_long_as_their_clips_need(lasting: Dataset) -> None:
    iterator = iter(bucketed(lasting, (1.0, 2.0), v2s=0.25, visualtts=0.5, joint=0.25))
    drawn = Counter()
    for _ in range(48):
        batch = next(iterator)
        t = batch["phonemes"].shape[1]
        drawn[t] += 1
        assert {batch[name].shape[1] for name in ("visual", "sync", "lips")} == {t}
        assert batch["waveform"].shape == (4, t * SPEC.sampling_rate // SPEC.latent_rate)
        shorter = {25: 0, 50: 25, 75: 50}[t]
        assert all(shorter < frames <= t for frames in batch["frames"])
    # Shares: a third of the speech, a third of it, and all else.
    assert drawn == {25: 8, 50: 8, 75: 32}


def test_a_shorter_window_cuts_what_the_whole_one_has(lasting: Dataset) -> None:
    def by_sound(bucket_sec: Sequence[float]) -> dict[bytes, tuple[Example, int]]:
        found, iterator = {}, iter(bucketed(lasting, bucket_sec, visualtts=1.0))
        for batch in itertools.islice(iterator, 12):
            for row, sound in enumerate(batch["waveform"]):
                found[sound[: SPEC.sampling_rate].tobytes()] = batch, row
        return found

    whole, cut = by_sound(()), by_sound((1.0, 2.0))
    assert whole.keys() == cut.keys()
    for sound, (batch, row) in cut.items():
        expected, place = whole[sound]
        for name, value in batch.items():
            if value.ndim == 1 or name == "speaker":
                np.testing.assert_array_equal(value[row], expected[name][place])
            else:
                length = value.shape[1]
                np.testing.assert_array_equal(value[row], expected[name][place][:length])


@pytest.mark.parametrize("bucket_sec", [(2.0, 1.0), (3.0,), (0.01,), (-1.0,)])
def test_buckets_that_cannot_be(lasting: Dataset, bucket_sec: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match=r"data\.bucket_sec"):
        bucketed(lasting, bucket_sec, visualtts=1.0)


def test_buckets_need_to_know_how_long_clips_last(lasting: Dataset, tmp_path: Path) -> None:
    shutil.copytree(lasting.path, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.rglob("durations_sec.json")
    path.unlink()
    with pytest.raises(UserError, match=r"durations_sec\.json is missing or damaged; restore it"):
        bucketed(Dataset(tmp_path, SPEC), (1.0,), visualtts=1.0)


class Spoiled:
    """A source some of whose records are bad."""

    def __init__(self, source: ClipSource, bad: Sequence[int]):
        self.source, self.bad = source, bad

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Clip:
        if index in self.bad:
            raise BadRecord(f"record {index} is bad")
        return self.source[index]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes records of the training clips with speech bad, by index."""
    clips = Dataset.clips

    def spoil(*bad: int) -> None:
        def some_bad(dataset: Dataset, part: str, task: str) -> Any:
            source = clips(dataset, part, task)
            return Spoiled(source, bad) if task == "visualtts" else source

        monkeypatch.setattr(Dataset, "clips", some_bad)

    return spoil


def test_the_next_good_record_stands_in_for_a_bad_one(
    demo_data: Path, spoil: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(read(demo_data)) as iterator:
        whole = [next(iterator) for _ in range(12)]
    source = Dataset(demo_data, SPEC).clips("train", "visualtts")
    last = len(source) - 1
    names = {source[index].features.waveform.tobytes(): index for index in range(len(source))}
    spoil(1, 2, last)
    with contextlib.closing(read(demo_data)) as iterator:
        found = [next(iterator) for _ in range(12)]
        assert iterator.num_bad == 3
    replaced = set()
    for batch, before in zip(found, whole, strict=True):
        for sound, was in zip(batch["waveform"], before["waveform"], strict=True):
            old, new = (fitted(names, x) for x in (was, sound))
            assert new == {1: 3, 2: 3, last: 0}.get(old, old)
            replaced.add(old)
    assert {1, 2, last} <= replaced
    lines = capsys.readouterr().err.splitlines()
    told = [f"record passed over: record {index} is bad" for index in (1, 2, last)]
    assert sorted(lines) == sorted(told)


def fitted(names: dict[bytes, int], padded: np.ndarray) -> int | None:
    """The index of the clip whose waveform, padded, this is."""
    for waveform, index in names.items():
        if padded.tobytes().startswith(waveform):
            return index
    return None


def test_too_many_bad_records_are_an_error_at_the_same_batch_every_time(
    demo_data: Path, spoil: Callable[..., None]
) -> None:
    spoil(0, 2, 4)
    counts = set()
    for threads in (1, 3):
        iterator = read(demo_data, threads=threads, max_bad_records=2)
        with pytest.raises(UserError, match=r"3 records are bad.*allows 2; the last: record \d is"):
            read_through(iterator)
        counts.add(iterator.get_state()["next_index"])
    assert len(counts) == 1


def test_none_but_bad_records_are_an_error(demo_data: Path, spoil: Callable[..., None]) -> None:
    spoil(*range(100))
    with pytest.raises(UserError, match=r"records in a row are bad, of \d+;.* record \d+ is bad"):
        next(read(demo_data, max_bad_records=1000))


def flip_a_byte(data: Path) -> str:
    """Damage a record of the sounds; returns what is said of it."""
    (shard,) = data.glob("vssflow/*/*train_v2s*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    source, errors = Dataset(data, SPEC).clips("train", "v2s"), []
    for index in range(len(source)):
        try:
            source[index]
        except BadRecord as error:
            errors.append(str(error))
    (error,) = errors
    return error


def test_a_flipped_byte_costs_one_record(
    own_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = flip_a_byte(own_data)
    assert re.search(r"shard 0 of split train_v2s, record \d+: damaged; restore the shard", error)
    with contextlib.closing(read(own_data)) as iterator:
        read_through(iterator)
        assert iterator.num_bad == 1
    assert capsys.readouterr().err == f"record passed over: {error}\n"


def test_a_killed_worker_process_is_one_line(own_data: Path) -> None:
    with contextlib.closing(read(own_data, workers=1, batches_ahead=1)) as iterator:
        next(iterator)
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(UserError, match="a process that reads was killed"):
            read_through(iterator)


def test_an_error_of_a_worker_process_is_told_here(own_data: Path) -> None:
    flip_a_byte(own_data)
    strict = read(own_data, workers=1, max_bad_records=0)
    with (
        contextlib.closing(strict),
        pytest.raises(UserError, match=r"train_v2s, record .* damaged"),
    ):
        read_through(strict)
