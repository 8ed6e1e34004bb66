"""A folder of videos becomes a table that says what is said in them."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from data import transcribe, videos
from data.demo import speech
from data.transcribe import Heard
from tests import tiny
from tests.networks.test_whisper_weights import tiny_folder
from vssflow_jax import media

RATE = 16_000
SAID = "Good morning, how are you today?"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody speaks, something clicks, and a file is no video."""
    path = tmp_path_factory.mktemp("videos")
    (path / "ann").mkdir()
    spoken = np.pad(speech.synthesize(SAID, "m1", 140).waveform, RATE // 4)
    clicks = np.zeros(2 * RATE, np.float32)
    clicks[:: RATE // 2] = 0.8
    for name, sound in (("ann/01.mp4", spoken), ("clicks.mp4", clicks)):
        frames = RNG.integers(0, 255, (50, 32, 48, 3), dtype=np.uint8)
        media.write_video(path / name, frames, 25, sound, RATE)
    (path / "broken.mp4").write_bytes(b"no video")
    return path


def command(folder: Path, out: Path, *flags: str) -> list[str]:
    given = (f"--videos={folder}", f"--whisper={tiny_folder()}", f"--out={out}")
    return [sys.executable, "-m", "data.transcribe", *given, *flags]


def test_a_folder_is_heard(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "clips.tsv"
    done = tiny.run(command(folder, out))
    assert done.returncode == 0, done.stderr
    assert "left out: broken.mp4: " in done.stdout
    header, *lines = out.read_text().splitlines()
    assert header == "video\ttranscript"
    table = dict(line.split("\t") for line in lines)
    assert "how are you" in table["ann/01.mp4"].lower()
    assert table["clicks.mp4"] == ""
    rows, rejected = videos.read_rows(folder, out)
    assert not rejected
    assert {row["task"] for row in rows} == {"visualtts", "v2s"}
    before = out.read_bytes()
    refused = tiny.run(command(folder, out))
    assert refused.returncode == 2
    assert "is there already" in refused.stderr
    out.unlink()
    again = tiny.run(command(folder, out))  # from what has been heard
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == before
    # Another file by a name that has been heard.
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    shutil.copy(folder / "clicks.mp4", other / "ann" / "01.mp4")
    out.unlink()
    anew = tiny.run(command(other, out))
    assert anew.returncode == 0, anew.stderr
    assert dict(line.split("\t") for line in out.read_text().splitlines())["ann/01.mp4"] == ""


def test_what_is_doubtful_has_no_transcript() -> None:
    heard = {
        "b": Heard("surely said", -0.3, spoken=True),
        "a": Heard("perhaps said", -1.5, spoken=True),
        "c": Heard("Thanks for watching!", -0.2, spoken=False),
    }
    assert transcribe.table(heard, -1.0) == "video\ttranscript\na\t\nb\tsurely said\nc\t\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--videos=/nowhere",), "/nowhere: there is no such folder"),
        (("--whisper=/nowhere",), "whisper: /nowhere does not exist"),
    ],
)
def test_what_is_not_there_is_one_line(
    folder: Path, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    refused = tiny.run(command(folder, tmp_path / "clips.tsv", *flags))
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert says in refused.stderr
