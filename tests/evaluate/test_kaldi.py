"""Kaldi's lists name every clip once, in the order of the C locale."""

import os
import subprocess

import pytest

from vssflow_jax.evaluate import kaldi
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError

ROWS = [
    Row("visualtts", 0, "s2-b", transcript="set  blue\nnow", voice="the voice"),
    Row("visualtts", 1, "S10-a", transcript="lay red soon", voice="m1"),
    Row("v2s", 0, "s10_a"),
    Row("visualtts", 2, "é clip", transcript="bin", voice="m1"),
]


def read(path):
    return [line.split(maxsplit=1) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    kaldi.write_lists(tmp_path, ROWS)
    return tmp_path


def test_every_whole_clip_has_a_file_and_a_speaker(folder):
    assert read(folder / "wav.scp") == [
        ["S10-a", f"{folder}/S10-a.wav"],
        ["s10_a", f"{folder}/s10_a.wav"],
        ["s2-b", f"{folder}/s2-b.wav"],
        ["é_clip", f"{folder}/é clip.wav"],
    ]
    assert read(folder / "utt2spk") == [
        ["S10-a", "m1"],
        ["s10_a", "s10_a"],
        ["s2-b", "the_voice"],
        ["é_clip", "m1"],
    ]
    assert read(folder / "spk2utt") == [
        ["m1", "S10-a é_clip"],
        ["s10_a", "s10_a"],
        ["the_voice", "s2-b"],
    ]


def test_text_has_those_that_speak(folder):
    assert read(folder / "text") == [
        ["S10-a", "lay red soon"],
        ["s2-b", "set blue now"],
        ["é_clip", "bin"],
    ]


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk", "spk2utt"])
def test_order_is_that_of_the_c_locale(folder, name):
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(["sort", "-c", "-u", "-k1,1", folder / name], check=True, env=environment)


def test_paths_lead_to_the_files_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "wav").mkdir()
    monkeypatch.chdir(tmp_path)
    kaldi.write_lists((tmp_path / "wav").relative_to(tmp_path), ROWS[:1])
    assert read(tmp_path / "wav" / "wav.scp") == [["s2-b", f"{tmp_path}/wav/s2-b.wav"]]


def test_two_clips_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="'a b' and 'a_b' are both called 'a_b'"):
        kaldi.write_lists(tmp_path, [Row("v2s", 0, "a b"), Row("v2s", 1, "a_b")])
