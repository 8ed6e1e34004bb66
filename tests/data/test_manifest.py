"""The reference's metadata and files: every row becomes a record, or is rejected with a reason."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from scipy.interpolate import interp1d

from data import shard_writer, shards
from data.manifest import WIDTHS, Part, align_cavp, read_phonemes, read_rows
from tests.data import reference_files
from tests.data.reference_files import LONG_SEC, ODD_SEC, SPEC, Reference
from vssflow_jax.clip import stretch_phonemes
from vssflow_jax.input_pipeline import records
from vssflow_jax.input_pipeline.dataset import Dataset, version_dir
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import Rejected, UserError

ROOM_FOR_WORDS = 1000  # bytes of a record beside its arrays


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return reference_files.make(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def built(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the dataset of all rows, and the line that its making ended with."""
    root = tmp_path_factory.mktemp("built")
    contents = reference.contents()
    return root, shards.build(
        root,
        contents,
        lambda jobs: map(shard_writer.write_shard, jobs),
        max_rejected=0.5,
        clips_per_shard=3,
    )


@pytest.fixture(scope="module")
def clips(built: tuple[Path, str]) -> dict[str, tuple[str, Clip]]:
    """Split and clip, by clip id."""
    opened, found = Dataset(built[0], SPEC), {}
    for split in opened.counts:
        part, _, task = split.partition("_")
        source = opened.clips(part, task)
        found |= {source[index].clip_id: (split, source[index]) for index in range(len(source))}
    return found


def test_every_row_is_written_or_rejected(
    reference: Reference, built: tuple[Path, str], clips: dict[str, tuple[str, Clip]]
):
    assert {name: split for name, (split, _) in clips.items()} == reference.splits
    listed = (version_dir(built[0]) / shard_writer.REJECTED).read_text().splitlines()
    found = dict(line.split("\t") for line in listed)
    assert found.keys() == reference.reasons.keys()
    for name, reason in reference.reasons.items():
        assert found[name].startswith(reason), name
    total = len(clips) + len(listed)
    assert built[1].startswith(f"{total} clips = {len(clips)} written + {len(listed)} rejected (")
    for kind, number in Counter(text.partition(":")[0] for text in found.values()).items():
        assert f"{number} {kind}" in built[1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GRID-na-narrow", r"lip/narrow\.npy: lips is \(50, 768\), expected \(50, 1024\)"),
        ("GRID-fe-fewclip", r"clip/few\.npy: visual is \(80, 768\), expected \(100, 768\)"),
        ("GRID-sh-shortlips", r"lip/fewer\.npy: lips of 1\.00 s, the sound lasts 2\.00 s"),
        ("GRID-sh-short", r"short\.wav: 0\.04 s"),
        ("GRID-mi-missing", r"clip/nowhere\.npy$"),
        ("GRID-id-id71", r"id 71, expected 1 to 70"),
        ("GRID-ot-otherid", r"id 34 for the symbol <blank>"),
        ("GRID-fe-fewids", r"11 ids of 12 symbols"),
    ],
)
def test_reasons_name_the_file_and_what_was_expected(built: tuple[Path, str], name: str, says: str):
    listed = (version_dir(built[0]) / shard_writer.REJECTED).read_text().splitlines()
    reason = dict(line.split("\t") for line in listed)[name]
    assert re.search(says, reason), reason


def test_values_are_those_of_the_files(reference: Reference, clips: dict[str, tuple[str, Clip]]):
    clip = clips["GRID-lr-lrs2"][1]
    root, features = reference.root, clip.features
    for stream, path in {"visual": "clip/lrs2", "sync": "synch/lrs2", "lips": "lip/lrs2"}.items():
        expected = np.load(root / f"{path}.npy").reshape(-1, WIDTHS[stream]).astype(np.float16)
        np.testing.assert_array_equal(features.streams[stream], expected)
    expected = np.load(root / "speaker/GRID/lr/lrs2.npy")
    np.testing.assert_array_equal(features.streams["speaker"], expected)
    samples, _ = soundfile.read(root / "GRID/lr/lrs2.wav")
    np.testing.assert_array_equal(features.waveform, samples)
    assert features.duration_sec == 1.5
    assert clip.voice == "lr"


def test_what_stands_for_nothing_costs_nothing(
    reference: Reference, built: tuple[Path, str], clips: dict[str, tuple[str, Clip]]
):
    spoken = clips["GRID-li-libri0"][1].features
    assert not any(len(spoken.streams[name]) for name in ("visual", "lips", "sync"))
    heard = clips["GRID-fo-foley0"][1].features
    assert len(heard.streams["lips"]) == len(heard.phonemes) == 0
    assert not heard.streams["speaker"].any()
    shards_of_split = sorted(version_dir(built[0]).glob("*-train_tts.*"))
    source = ArrayRecordDataSource([str(path) for path in shards_of_split])
    for index in range(len(source)):
        values = records.decode(source[index], WIDTHS)
        kept = sum(values[name].nbytes for name in ("audio", "speaker", "phonemes"))
        assert len(source[index]) < kept + ROOM_FOR_WORDS


def test_a_long_sound_is_cut_with_what_is_said(clips: dict[str, tuple[str, Clip]]):
    clip = clips["GRID-lo-long"][1]
    assert len(clip.features.waveform) == SPEC.num_samples
    assert len(clip.features.streams["lips"]) == SPEC.video_frames
    assert clip.features.duration_sec == SPEC.duration_sec
    ids = np.array([int(number) for number in reference_files.ids(reference_files.SYMBOLS).split()])
    whole = stretch_phonemes(np.arange(len(ids)), round(LONG_SEC * SPEC.latent_rate))
    heard = np.unique(whole[: SPEC.latent_frames])
    np.testing.assert_array_equal(clip.phoneme_ids, ids[heard])
    assert len(heard) < len(ids)


def test_a_duration_keeps_its_frames(clips: dict[str, tuple[str, Clip]]):
    assert len(clips["GRID-od-odd"][1].features.phonemes) == SPEC.phoneme_frames(ODD_SEC)
    assert SPEC.phoneme_frames(float(np.float32(ODD_SEC))) < SPEC.phoneme_frames(ODD_SEC)


def test_other_sounds_are_brought_to_mono_and_rate(clips: dict[str, tuple[str, Clip]]):
    assert clips["GRID-st-stereo"][1].features.waveform.shape == (2 * SPEC.sampling_rate,)


@pytest.mark.parametrize("count", [64, 100, 137, 1])
def test_cavp_features_are_aligned_as_in_the_reference(count: int):
    frames = np.random.default_rng(0).standard_normal((count, 5), np.float32)
    expected = np.repeat(frames, 100, axis=0)
    if count > 1:
        times = np.linspace(0, 99, count)
        expected = interp1d(times, frames, "nearest", axis=0)(np.arange(100))
    aligned = align_cavp(frames, 100, 8)
    np.testing.assert_array_equal(aligned[:, :5], expected)
    assert aligned.shape == (100, 8)
    assert not aligned[:, 5:].any()


def test_names_of_metadata_files():
    assert Part.parse("a.csv") == Part(Path("a.csv"), "train", joint=False)
    assert Part.parse("test:b/c:d.csv") == Part(Path("b/c:d.csv"), "test", joint=False)
    assert Part.parse("train_joint:e.csv") == Part(Path("e.csv"), "train", joint=True)
    assert Part.parse("valid:f.csv") == Part(Path("valid:f.csv"))


def test_paths_of_another_machine(tmp_path: Path):
    file = tmp_path / "rows.csv"
    paths = [f"/home/someone/data/{name}" for name in ("s1/a.b.wav", "c.npy", "v.npy")]
    row = "|".join([*paths, "x/nothing.npy", "rel/s.npy", "3", "AY0"])
    file.write_text(f"\ufeff{row}\r\n", encoding="utf-8")
    (row,), rejected = read_rows([Part(file)], "/home/someone/data", ["nothing.npy"])
    assert not rejected
    assert (row["clip_id"], row["task"]) == ("s1-a.b", "tts")
    assert (row["audio"], row["visual"], row["sync"], row["lips"]) == (
        "s1/a.b.wav",
        "c.npy",
        "rel/s.npy",
        "",
    )


def test_clips_of_the_same_name_in_other_folders_are_others(tmp_path: Path):
    file = tmp_path / "rows.csv"
    names = ("main/1/a.wav", "pretrain/1/a.wav", "/main/1/a.wav", "../main/2/a.wav")
    file.write_text("".join(f"{name}|c.npy|v.npy|l.npy|s.npy|3|AY0\n" for name in names))
    rows, rejected = read_rows([Part(file)], "/home/a")
    assert [row["clip_id"] for row in rows] == ["main-1-a", "pretrain-1-a", "main-2-a"]
    assert [name for name, _ in rejected] == ["main-1-a"]


def test_a_prefix_ends_with_a_folder(tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_text("/home/a/b.wav|/home/ab/c.npy|v.npy|l.npy|s.npy|3|AY0\n")
    for prefix in ("/home/a", "/home/a/"):
        (row,), _ = read_rows([Part(file)], prefix)
        assert (row["audio"], row["visual"]) == ("b.wav", "/home/ab/c.npy")


def test_metadata_that_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"--manifest: .*rows\.csv cannot be read"):
        read_rows([Part(tmp_path / "rows.csv")])
    (tmp_path / "rows.csv").write_text("\n")
    with pytest.raises(UserError, match=r"rows\.csv has no rows"):
        read_rows([Part(tmp_path / "rows.csv")])


def test_tensorflow_datasets_reads_it_too(built: tuple[Path, str]):
    builder = tfds.builder_from_directory(version_dir(built[0]))
    sources = builder.as_data_source()
    for split, source in sources.items():
        example = source[0]
        assert split.endswith(example["task"].decode())
        lips = np.frombuffer(example["lips"], records.dtypes(WIDTHS)["lips"])
        assert lips.size % WIDTHS["lips"] == 0
    assert {split.partition("_")[2] for split in sources} <= set(TASKS)


@pytest.mark.parametrize(
    ("ids", "symbols", "expected"),
    [
        ("59 17 59 59", "<blank> HH , <blank>", [59, 17, 59, 59]),
        ("59 17", "HH HH", [59, 17]),
        ("0", "<blank>", []),
        ("0", "", []),
    ],
)
def test_phonemes_as_the_reference_takes_them(ids: str, symbols: str, expected: list[int]):
    assert read_phonemes(ids, symbols).tolist() == expected


@pytest.mark.parametrize(("ids", "symbols"), [("0", "HH"), ("17", "<blank>"), ("17 59", "HH")])
def test_phonemes_that_contradict_their_symbols_are_rejected(ids: str, symbols: str):
    with pytest.raises(Rejected, match="bad phonemes"):
        read_phonemes(ids, symbols)
