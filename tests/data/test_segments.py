"""Long videos as rows of clips."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import segments
from data.demo import speech as voices
from data.videos import Videos, read_rows
from tests.media import clips
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=2.0)


@pytest.mark.parametrize(
    ("duration_sec", "expected"),
    [
        (4.0, [(0, 4)]),
        (10.0, [(0, 10)]),
        (25.0, [(0, 10), (10, 20), (20, 25)]),
        (20.5, [(0, 10), (10, 20)]),  # half a second is no clip
        (0.5, []),
    ],
)
def test_even_cuts(duration_sec: float, expected: list[tuple[float, float]]) -> None:
    assert segments.cuts(duration_sec, 10.0) == expected


@pytest.mark.parametrize(
    ("speech", "border"),
    [
        ([], 10),
        ([(2, 7)], 10),
        ([(2, 7), (9, 12)], 8),
        ([(9, 12)], 10),  # the silence is long, its middle too early
        ([(2, 3), (4, 12)], 10),  # there is no late silence
        ([(2, 10)], 10),
    ],
)
def test_cuts_in_silence(speech: list[tuple[float, float]], border: float) -> None:
    first, second = segments.cuts(15.0, 10.0, speech)
    assert first == (0, border)
    assert second == (border, 15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 5 s whose grey tells the time, with clicks at 1.2, 3.5 and 4.5 s."""
    folder = tmp_path_factory.mktemp("long")
    greys = np.linspace(20, 220, 125).astype(np.uint8)
    pictures = np.broadcast_to(greys[:, None, None, None], (125, 64, 96, 3))
    sound = sum(clips.click(5.0, at_sec) for at_sec in (1.2, 3.5, 4.5))
    media.write_video(folder / "long.mp4", pictures, 25, sound, clips.SAMPLING_RATE)
    return folder


def rows_of(folder: Path, tmp_path: Path, text: str, *more) -> tuple[list[dict], list]:
    (tmp_path / "rows.tsv").write_text(text)
    return read_rows(folder, tmp_path / "rows.tsv", *more)


def test_a_long_row_becomes_several(folder: Path, tmp_path: Path) -> None:
    rows, rejected = rows_of(folder, tmp_path, "video\nlong.mp4\n", 2.0)
    assert not rejected
    assert [row["clip_id"] for row in rows] == ["long-0000", "long-0001", "long-0002"]
    source = Videos(Path(), WEIGHTS_FREE, SPEC)
    records = [source.record(row) for row in rows]
    assert [record["duration_sec"] for record in records] == [2.0, 2.0, 1.0]
    heard = [clips.click_sec(record["audio"] / 32768, 16_000) for record in records]
    np.testing.assert_allclose(heard, [1.2, 1.5, 0.5], atol=0.01)
    # They get brighter from clip to clip.
    first, last = ([record["visual"][k].mean() for record in records] for k in (0, 9))
    brightness = np.ravel(np.column_stack([first, last]))
    assert (np.diff(brightness) > 0).all()


def test_rows_may_name_their_pieces(folder: Path, tmp_path: Path) -> None:
    header = "video\tclip_id\tstart_sec\tend_sec\ttranscript\n"
    lines = "long.mp4\ta\t3\t4.5\ttwo\nlong.mp4\t\t1\t\t\nlong.mp4\t\t0.5\t2\t\n"
    rows, rejected = rows_of(folder, tmp_path, header + lines)
    assert not rejected
    assert [row["clip_id"] for row in rows] == ["a", "long-1.000", "long-0.500"]
    source = Videos(Path(), WEIGHTS_FREE, SPEC)
    records = [source.record(row) for row in rows]
    assert [record["duration_sec"] for record in records] == [1.5, 2.0, 1.5]
    assert records[0]["video"].endswith("long.mp4#t=3.000,4.500")
    heard = [clips.click_sec(record["audio"] / 32768, 16_000) for record in records]
    np.testing.assert_allclose(heard, [0.5, 0.2, 0.7], atol=0.01)


def test_names_of_pieces_are_not_taken_twice(folder: Path, tmp_path: Path) -> None:
    text = "video\tclip_id\tend_sec\nlong.mp4\ta-0001\t1\nlong.mp4\ta\t\nlong.mp4\ta-0001\t1\n"
    rows, rejected = rows_of(folder, tmp_path, text, 2.0)
    assert [row["clip_id"] for row in rows] == ["a-0001"]
    assert [reason.partition(":")[0] for _, reason in rejected] == ["duplicate"] * 2


def test_a_piece_that_is_long_is_cut_too(folder: Path, tmp_path: Path) -> None:
    text = "video\tclip_id\tstart_sec\nlong.mp4\ta\t1\n"
    rows, _ = rows_of(folder, tmp_path, text, 2.0)
    assert [row["video"].partition("#")[2] for row in rows] == ["t=1.000,3.000", "t=3.000,5.000"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("x\t\t", "bad start_sec: 'x' are no seconds"),
        ("-1\t\t", "bad start_sec: '-1' are no seconds"),
        ("nan\t\t", "bad start_sec: 'nan' are no seconds"),
        ("2\t1\t", "bad end_sec: 1 is not after start_sec, 2"),
        ("9\t\t", "unreadable file: .*a piece from 9 s on is none"),
        ("\t\ttwo", "too long: 5.0 s with a transcript; say which words"),
    ],
)
def test_pieces_that_cannot_be(folder: Path, tmp_path: Path, fields: str, reason: str) -> None:
    text = f"video\tstart_sec\tend_sec\ttranscript\nlong.mp4\t{fields}\n"
    rows, rejected = rows_of(folder, tmp_path, text, 2.0)
    assert not rows
    assert re.match(reason, rejected[0][1])


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"silero_vad is missing: .*--no-deps silero-vad"):
        segments.speech("any.wav")


def test_speech_is_found_and_not_cut(tmp_path: Path) -> None:
    """A word, silence, and words over the border: the second piece begins in the silence."""
    one, more = (
        voices.synthesize(text, "f2", voices.VOICES["f2"])
        for text in ("hello there", "place green by two please")
    )
    pause = np.zeros(round(1.2 * voices.SAMPLING_RATE), np.float32)
    sound = np.concatenate([one.waveform, pause, more.waveform, pause])
    soundfile.write(tmp_path / "said.wav", sound, voices.SAMPLING_RATE)
    silent_from = len(one.waveform) / voices.SAMPLING_RATE
    found = segments.speech(tmp_path / "said.wav")
    assert len(found) >= 2
    assert abs(found[0][1] - silent_from) < 0.3
    border = silent_from + 1.2 + 0.5
    (_, cut), *_ = segments.cuts(len(sound) / voices.SAMPLING_RATE, border, found)
    assert silent_from - 0.1 < cut < silent_from + 1.2
