"""Raw videos with a table of transcripts: any container, any frame rate, bad rows by name."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from data.manifest import check_scale
from data.videos import Videos, read_rows, remarks, shared_files
from tests import tiny
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import BLANK, phoneme_ids
from vssflow_jax.features.text import read
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.dataset import SCHEMA_VERSION, Dataset
from vssflow_jax.media import View
from vssflow_jax.utils.errors import Rejected, UserError

RATE = 48_000  # one that Opus knows
DURATION_SEC = 1.6
SPEC = ClipSpec(duration_sec=2.0)
CODECS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "aac"), ".webm": ("libvpx", "libopus")}
BIT_RATE = 4_000_000  # greys must come back
GREYS_PER_SEC = 80
TEXT = "Bin blue -- at F two, now!"


def greys(fps: int, duration_sec: float) -> np.ndarray:
    """Even pictures [n, 64, 96, 3], whose grey tells the time."""
    times_sec = np.arange(round(duration_sec * fps)) / fps
    levels = 40 + np.rint(GREYS_PER_SEC * times_sec).astype(np.uint8)
    return np.tile(levels[:, None, None, None], (1, 64, 96, 3))


def tone(duration_sec: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(duration_sec * RATE)) / RATE)


def write(path: Path, fps: int, duration_sec: float, waveform: np.ndarray | None = None) -> Path:
    """A video in the container that its name says, without sound if there is no waveform."""
    video_codec, audio_codec = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=fps)
        video.height, video.width = 64, 96
        video.pix_fmt = "yuv420p"
        video.bit_rate = BIT_RATE
        audio = container.add_stream(audio_codec, rate=RATE) if waveform is not None else None
        for picture in greys(fps, duration_sec):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            samples = np.stack([waveform, waveform], axis=1).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples.astype(np.float32), "flt", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            resampler = av.AudioResampler(audio.format, "stereo", RATE, audio.frame_size)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


def pictures(path: Path, views: Sequence[View], duration_sec: float) -> dict[View, np.ndarray]:
    """All that `blocks` gives, by view."""
    found: dict[View, list[np.ndarray]] = {view: [] for view in views}
    counts = {view: round(view.rate * duration_sec) for view in views}
    for view, block in media.blocks(media.read_track(path), counts):
        found[view].append(block)
    return {view: np.concatenate(blocks) for view, blocks in found.items()}


def table(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def source(**changes: object) -> Videos:
    return dataclasses.replace(Videos(Path(), WEIGHTS_FREE, SPEC), **changes)


def rows_of(folder: Path, *lines: str) -> list[dict]:
    """Rows of a table of which no line is rejected."""
    rows, rejected = read_rows(folder, table(folder / "rows.tsv", *lines))
    assert not rejected
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of all kinds; leave them as they are."""
    folder = tmp_path_factory.mktemp("videos")
    write(folder / "sound.mp4", 30, 1.4, tone(1.4))
    write(folder / "speech.mkv", 24, 1.6, tone(1.6))
    write(folder / "long.webm", 25, 3.0, tone(3.0))
    write(folder / "mute.mp4", 25, 1.0)
    write(folder / "silent.mp4", 25, 1.0, np.zeros(RATE))
    write(folder / "brief.mkv", 25, 0.2, tone(0.2))
    (folder / "broken.mp4").write_bytes((folder / "sound.mp4").read_bytes()[:2000])
    soundfile.write(folder / "ann.wav", tone(2.0), RATE)
    return folder


@pytest.mark.parametrize("fps", [24, 25, 30])
@pytest.mark.parametrize("suffix", CODECS)
def test_pictures_are_the_nearest_in_time(tmp_path: Path, fps: int, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", fps, DURATION_SEC, tone(DURATION_SEC))
    views = [View(25), View(10, (32, 40)), View(60)]
    duration_sec = round(DURATION_SEC * fps) / fps
    assert float(media.read_track(path).duration) == pytest.approx(duration_sec, abs=0.001)
    frames = pictures(path, views, duration_sec)
    assert [frames[view].shape[1:] for view in views] == [(64, 96, 3), (32, 40, 3), (64, 96, 3)]
    for view in views:
        seen = frames[view].mean(axis=(1, 2, 3))
        assert len(seen) == round(duration_sec * view.rate)
        times_sec = np.arange(len(seen)) / view.rate
        nearest_sec = np.minimum(np.rint(times_sec * fps) / fps, duration_sec - 1 / fps)
        error = np.abs(seen - 40 - GREYS_PER_SEC * nearest_sec)
        # Milliseconds of Matroska are no thirds: what is as near is no more so.
        tie = np.isclose(times_sec * fps % 1, 0.5) & (suffix != ".mp4")
        assert error[~tie].max() < 2.5, f"{view.rate}/s"


def test_reading_stops_when_there_are_enough(folder: Path) -> None:
    read = 0

    def tick(num_frames: int) -> None:
        nonlocal read
        read += num_frames

    track = media.read_track(folder / "long.webm")
    list(media.blocks(track, {View(25): 50}, tick))
    assert read == 50


def test_a_row_needs_no_more_than_a_video(folder: Path) -> None:
    (row,) = rows_of(folder, "video", "sound.mp4")
    assert (row["clip_id"], row["split"], row["task"]) == ("sound", "train", "v2s")
    record = source().record(row)
    assert record["duration_sec"] == pytest.approx(1.4, abs=0.04)
    assert len(record["audio"]) == round(16_000 * record["duration_sec"])
    assert record["visual"].shape == (SPEC.visual_frames, WEIGHTS_FREE["visual"].width)
    # Grey while the video lasts, and black padding to the window after it.
    assert (record["visual"] > 0).all(axis=1).tolist() == [True] * 14 + [False] * 6
    assert record["sync"].shape == (SPEC.sync_frames, WEIGHTS_FREE["sync"].width)
    assert not len(record["lips"])
    assert not len(record["speaker"])
    assert Path(record["video"]) == folder / "sound.mp4"


def test_a_row_of_speech(folder: Path) -> None:
    header = "clip_id\tvideo\tsplit\ttranscript\tvoice\tvoice_sample\tmouth_box\tcaption"
    line = f'a\tspeech.mkv\ttest\t{TEXT}\tann\tann.wav\t20 30 40 50\t"A ""tone"",  in  speech"'
    (row,) = rows_of(folder, header, line)
    assert (row["clip_id"], row["split"], row["task"]) == ("a", "test", "visualtts")
    record = source().record(row)
    assert record["transcript"] == "bin blue at f two now"
    assert record["caption"] == 'A "tone", in speech'
    # With pauses where it has marks, and its letter by name.
    assert record["phonemes"].tolist() == phoneme_ids(read(TEXT).symbols).tolist()
    assert read(TEXT).symbols.count(BLANK) == 4
    assert not len(record["phoneme_frames"])
    assert record["voice"] == "ann"
    assert record["speaker"].shape == (WEIGHTS_FREE["speaker"].width,)
    assert record["lips"].shape == (SPEC.video_frames, WEIGHTS_FREE["lips"].width)


def test_sound_beyond_the_window_is_cut_but_speech_is_not(folder: Path) -> None:
    sound, speech = rows_of(
        folder, "video\tclip_id\ttranscript", "long.webm\ta\t", f"long.webm\tb\t{TEXT}"
    )
    assert source().record(sound)["duration_sec"] == SPEC.duration_sec
    with pytest.raises(Rejected, match=r"^too long: 3\.0 s of speech"):
        source().record(speech)


def test_words_behind_the_end_of_the_pictures_are_not_squeezed_in(
    folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "a.mkv", 25, 1.0, tone(1.9))
    (row,) = rows_of(tmp_path, "video\ttranscript", f"a.mkv\t{TEXT}")
    with pytest.raises(Rejected, match=r"^too long: 1\.9 s of speech; .* to 1 s"):
        source().record(row)
    (piece,) = rows_of(tmp_path, "video\ttranscript\tend_sec", "a.mkv\t\t6500")
    with pytest.raises(Rejected, match=r"^bad end_sec: it is 6499\.0 s behind the end"):
        source().record(piece)


def test_a_sound_of_the_scale_of_integers_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"^wrong scale: .*floats up to 9830"):
        check_scale(32768 * tone(1.0), tmp_path / "a.wav")
    check_scale(3 * tone(1.0), tmp_path / "a.wav")


def test_files_of_which_train_and_test_have_a_piece_are_found(folder: Path) -> None:
    rows = rows_of(
        folder,
        "video\tsplit\tstart_sec\tend_sec",
        "long.webm\ttrain\t0\t1",
        "long.webm\ttest\t1\t2",
        "sound.mp4\ttest\t\t",
    )
    assert shared_files(rows) == [folder / "long.webm"]


def test_what_is_read_otherwise_than_it_stands_is_said() -> None:
    rows = [{"clip_id": f"c{i}", "transcript": "[music] 42 blorp"} for i in range(4)]
    rows[1]["transcript"] = "two cats"
    rows[2]["transcript"] = ""
    assert list(remarks(rows, limit=1)) == [
        "c0: left out: [music]",
        "c0: in no dictionary, pronounced as guessed: blorp",
        "... and of 1 more rows",
    ]
    rows[0]["transcript"] = "жизнь"
    assert len(list(remarks(rows))) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("mute.mp4\t\t", "no sound: .*has no audio"),
        ("silent.mp4\t\t", "no sound: it is silent"),
        ("broken.mp4\t\t", "unreadable file: .*broken.mp4"),
        ("rows.tsv\t\t", "unreadable file: "),
        ("ann.wav\t\t", "unreadable file: .*no video"),
        (f"brief.mkv\t{TEXT}\t", "too short: 5 latent frames, 18 phonemes"),
        ("speech.mkv\tжизнь 42\t", "bad transcript: .*'жизнь' is not in Latin letters"),
        (
            "speech.mkv\tit\x92s fine\t",
            "bad transcript: .*x92' comes of a text that was read",
        ),
        ("speech.mkv\tI donâ€™t\t", "bad transcript: .*in another encoding"),
        ("speech.mkv\tdon\ufffdt\t", "bad transcript: .*in another encoding"),
        ("speech.mkv\tyes\tbroken.mp4", "unreadable file: .*broken.mp4"),
    ],
)
def test_what_a_file_cannot_give_is_a_reason(folder: Path, line: str, reason: str) -> None:
    (row,) = rows_of(folder, "video\ttranscript\tvoice_sample", line)
    with pytest.raises(Rejected, match=f"^{reason}"):
        source().record(row)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("gone.mp4\tx", "missing file: .*gone.mp4"),
        ("\tx", "missing file: "),
        (
            "https://host/sound.mp4\tx",
            "bad path: https://host/sound.mp4: no path",
        ),
        ("sound.mp4\tx\t\t\t\tgone.wav", "missing file: .*gone.wav"),
        ("sound.mp4\tfirst", "duplicate: "),
        ("sound.mp4\t../x", "bad clip_id: '../x'"),
        ("sound.mp4\tx\t\t\ta/b", "bad voice: 'a/b'"),
        ("sound.mp4\tx\tvalid", "bad split: 'valid'"),
        ("sound.mp4\tx\t\ttts", "bad task: 'tts'"),
        ("sound.mp4\tx\t\tjoint", "bad task: joint without transcript"),
        ("sound.mp4\tx\t\tv2s\t\t\tyes", "bad task: v2s with a transcript"),
        ("sound.mp4\tx\t\t\t\t\tyes\t\tno", "wrong number of fields: "),
        ("sound.mp4\tx\t\t\t\t\t'!", "bad transcript: ''!' has no words"),
        ("sound.mp4\tx\t\t\t\t\t\t1 2 3", "bad mouth_box: '1 2 3'"),
    ],
)
def test_a_bad_line_is_named(folder: Path, tmp_path: Path, line: str, reason: str) -> None:
    columns = ("video", "clip_id", "split", "task", "voice", "voice_sample", "transcript")
    header = "\t".join((*columns, "mouth_box"))
    path = table(tmp_path / "t.tsv", header, "sound.mp4\tfirst", line)
    rows, rejected = read_rows(folder, path)
    assert [row["clip_id"] for row in rows] == ["first"]
    ((name, why),) = rejected
    assert name == line.split("\t")[1]
    assert why.startswith(reason.partition(" .*")[0])
    assert why.endswith("(t.tsv, line 3)")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"video\ttrancript\n", "unknown column 'trancript'"),
        (b"clip_id\n", "no column 'video'"),
        (b"video\tsplit\tvideo\n", "names a column twice"),
        (b"", "no column 'video'"),
        (b"video\n\xff\xfe\n", "UTF-8"),
        (b'video\ttranscript\na.mp4\t"Hello there,\nhow are you?"\n', "line 2: the quoted field"),
    ],
)
def test_another_table_is_an_error(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(UserError, match=what):
        read_rows(tmp_path, tmp_path / "t.tsv")


def test_the_command_builds_a_dataset(folder: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    rng = np.random.default_rng(0)
    lips = rng.standard_normal((40, 1024), np.float32)  # 1.6 s
    for name, array in {"lips/a": lips, "speaker/ann": lips[0, :256]}.items():
        (features / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(features / f"{name}.npy", array)
    path = table(
        folder / "all.tsv",
        "video\tclip_id\tsplit\ttranscript\tvoice\tcaption",
        f"speech.mkv\ta\ttrain\t{TEXT}\tann\tA tone, naïve",
        f"speech.mkv\tb\ttest\t{TEXT}\tben",
        f"sound.mp4\tc\ttrain\t{TEXT}\tann",
        "sound.mp4\td\ttrain",
        "mute.mp4\te\ttrain",
        "gone.mp4\tf\ttrain",
    )
    out = tmp_path / "data"
    command = [sys.executable, "-m", "data.build", "--source=videos", f"--out={out}"]
    command += [f"--transcripts={path}", f"--features_root={features}", "--weights_free=clip,synch"]
    command += ["--duration_sec=2", "--max_rejected=0.5", "--workers=1"]
    done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 clips = 4 written + 2 rejected (1 missing file, 1 no sound)" in done.stdout
    assert "absent: lips in 3, speaker in 2\n" in done.stdout

    opened = Dataset(out, SPEC)
    assert opened.counts == {"test_visualtts": 1, "train_v2s": 1, "train_visualtts": 2}
    assert opened.widths == WEIGHTS_FREE.widths | {"lips": 1024, "speaker": 256}
    clips = opened.clips("train", "visualtts")
    assert {clips[index].caption for index in range(2)} == {"A tone, naïve", ""}
    spoken = {clips[index].clip_id: clips[index].features for index in range(2)}["a"]
    np.testing.assert_array_equal(spoken.streams["lips"], lips.astype(np.float16))
    np.testing.assert_array_equal(spoken.streams["speaker"], lips[0, :256])
    assert not len(opened.clips("train", "v2s")[0].features.streams["lips"])
    metadata = json.loads((out / "vssflow" / SCHEMA_VERSION / "metadata.json").read_text())
    assert "PooledPixels" in metadata["origin"]["encoders"]
    assert "Files" in metadata["origin"]["encoders"]
