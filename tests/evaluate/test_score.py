"""Folders of sounds that others made, as they are: which are clips, what is said of the rest."""

import dataclasses
import json
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from vssflow_jax import media
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.judged import SOUNDS, Judged
from vssflow_jax.evaluate.networks.sounds import read_sound
from vssflow_jax.evaluate.score.clips import contents, read_clips
from vssflow_jax.evaluate.score.command import score
from vssflow_jax.evaluate.settings import describe_files
from vssflow_jax.utils.errors import UserError

RATE = 16_000
BENCHMARK = Benchmark(
    "mine",
    tasks=("v2s",),
    metrics=("onset_f1", "mel_distance_db_v2s", "wer", "mel_distance_db_joint"),
    recogniser="grid",
)


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate)).clip(-5, 5)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two clips of 2 s, generated and true."""
    found = {side: tmp_path / side for side in SOUNDS}
    for folder in found.values():
        folder.mkdir()
        for name in "ab":
            soundfile.write(folder / f"{name}.wav", noise(2), RATE)
    return found


def scored(
    folders: dict[str, Path], out: Path, benchmark: Benchmark = BENCHMARK, table: Path | None = None
) -> dict:
    clips, remarks = read_clips(benchmark, folders["generated"], folders["reference"], None, table)
    given = {name: str(folders.get(name, "")) for name in ("generated", "reference")}
    settings = describe_files(benchmark, contents(clips), **given, videos="", clips="")
    judged = Judged({}, {side: out / side for side in SOUNDS})
    score(benchmark, clips, judged, settings | {"remarks": remarks}, out, "kaldi")
    return json.loads((out / "metrics.json").read_text())


def test_what_is_left_out_is_said_where_the_scores_are(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    generated = folders["generated"]
    (generated / "c.wav").write_bytes((generated / "a.wav").read_bytes())
    (generated / "more").mkdir()
    (generated / "notes.txt").write_text("of whoever made them")
    (generated / ".DS_Store").write_text("")
    found = scored(folders, tmp_path / "out")
    assert found["clips"] == 2
    assert found["remarks"] == [
        f"1 sounds in {generated} have no reference, such as c",
        f"2 files and folders in {generated} are not read, such as more",
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "have no reference, such as c" in page


def test_clips_of_other_tasks_are_said_to_be(folders: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "clips.tsv"
    table.write_text("clip_id\ttask\na\tv2s\nb\ttts\n")
    found = scored(folders, tmp_path / "out", table=table)
    assert found["clips"] == 1
    assert found["remarks"] == ["1 clips are of tasks that mine is not of, such as b"]


def test_a_name_is_the_same_however_its_accents_are_written(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    for side, form in (("generated", "NFD"), ("reference", "NFC")):
        soundfile.write(folders[side] / f"{unicodedata.normalize(form, 'é1')}.wav", noise(2), RATE)
    table = tmp_path / "clips.tsv"
    names = ("a", "b", unicodedata.normalize("NFD", "é1"))
    table.write_text("\n".join(("clip_id", *names)), encoding="utf-8")
    clips, remarks = read_clips(BENCHMARK, folders["generated"], folders["reference"], None, table)
    assert [clip.clip_id for clip in clips] == ["a", "b", unicodedata.normalize("NFC", "é1")]
    assert not remarks


@pytest.mark.parametrize("side", SOUNDS)
def test_an_empty_sound_is_no_silence(side: str, folders: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(folders[side] / "b.wav", np.zeros(0), RATE)
    found = scored(folders, tmp_path / "out")
    assert found["clips"] == 1
    assert found["failed"] == {"b": f"{folders[side] / 'b.wav'} has no sound"}


def test_lengths_that_differ_are_said_to(folders: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(folders["generated"] / "a.wav", noise(1), RATE)
    soundfile.write(folders["generated"] / "b.wav", noise(2.05), RATE)
    found = scored(folders, tmp_path / "out")
    assert found["problems"] == {
        "a": {
            "length": "the generated sound lasts 1.00 s, the true one 2.00 s: the rest is silence"
        }
    }


def test_every_metric_is_there_or_says_why_not(folders: dict[str, Path], tmp_path: Path) -> None:
    found = scored(folders, tmp_path / "out")
    assert set(found["metrics"]) == {"mel_distance_db_v2s"}
    assert found["absent"] == {
        "onset_f1": "no clip has what this metric needs, such as times of events; or see problems",
        "wer": "no clip is of its tasks",
        "mel_distance_db_joint": "no clip is of its tasks",
    }


def test_what_happens_after_the_cut_is_not_missed(folders: dict[str, Path], tmp_path: Path) -> None:
    clicks = noise(2) * 1e-3
    clicks[RATE // 2 :: RATE] = 0.9  # at 0.5 and 1.5 s
    for folder in folders.values():
        soundfile.write(folder / "a.wav", clicks, RATE)
    table = tmp_path / "clips.tsv"
    table.write_text("clip_id\tevent_times_sec\na\t0.5 1.5\n")
    cut = dataclasses.replace(BENCHMARK, metrics=("onset_f1",), clip_sec=1.0)
    found = scored(folders, tmp_path / "out", cut, table)
    assert found["metrics"]["onset_f1"]["generated"]["value"] == 1


def test_videos_of_any_container_are_found(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a.webm", "b.MPG"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"")
    clips, remarks = read_clips(
        BENCHMARK, folders["generated"], folders["reference"], tmp_path / "videos", None
    )
    assert [clip.video.name for clip in clips if clip.video] == ["a.webm", "b.MPG"]
    assert not remarks


def encoded(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    """Written by FFmpeg."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.int16(samples * 32_767)[None], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        for piece in (*resampler.resample(frame), None):
            for packet in stream.encode(piece):
                container.mux(packet)


def test_a_sound_is_resampled_alike_in_any_container(tmp_path: Path) -> None:
    rate = 44_100
    encoded(tmp_path / "a.mkv", noise(2, rate), rate, "flac")
    soundfile.write(tmp_path / "a.flac", np.int16(noise(2, rate) * 32_767), rate)
    found, wanted = (read_sound(tmp_path / name) for name in ("a.mkv", "a.flac"))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_packets_without_a_container_are_read_to_their_end(tmp_path: Path) -> None:
    """Of these FFmpeg guesses a length, and the first seconds are not like the others."""
    loud = np.concatenate([noise(2), 1e-4 * noise(8)])
    encoded(tmp_path / "a.aac", loud, RATE, "aac")
    assert len(read_sound(tmp_path / "a.aac")) / RATE == pytest.approx(10, abs=0.2)
    with pytest.raises(UserError):
        media.read_audio(tmp_path / "missing.aac", RATE)
