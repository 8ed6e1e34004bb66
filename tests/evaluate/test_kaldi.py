"""Lists of sounds name every clip once, in the order of the C locale, as scorers read them."""

import json
import os
import subprocess
from pathlib import Path

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
# Names that scripts could stumble over, in an order that is not that of their keys.
SPOKEN = [
    Row("tts", 0, "s2", transcript="set  blue\nnow", voice="the voice"),
    Row("tts", 1, "s2-b", transcript='it\'s a "b"'),
    Row("joint", 0, "the dog's (1)", transcript="naïve"),
    Row("tts", 2, "sample1_sample2", transcript="bin"),
    Row("tts", 3, "日本", transcript="two"),
]


def read(path: Path) -> list[list[str]]:
    return [line.split(maxsplit=1) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wav").mkdir()
    return tmp_path / "wav"


@pytest.fixture
def written(folder: Path) -> Path:
    kaldi.write_lists(folder.parent, ROWS, "kaldi")
    return folder


def test_every_whole_clip_has_a_file_and_a_speaker(written: Path) -> None:
    assert read(written / "wav.scp") == [
        ["S10-a", f"{written}/S10-a.wav"],
        ["s10_a", f"{written}/s10_a.wav"],
        ["s2-b", f"{written}/s2-b.wav"],
        ["é_clip", f"{written}/é clip.wav"],
    ]
    assert read(written / "utt2spk") == [
        ["S10-a", "m1"],
        ["s10_a", "s10_a"],
        ["s2-b", "the_voice"],
        ["é_clip", "m1"],
    ]
    assert read(written / "spk2utt") == [
        ["m1", "S10-a é_clip"],
        ["s10_a", "s10_a"],
        ["the_voice", "s2-b"],
    ]


def test_text_has_those_that_speak(written: Path) -> None:
    assert read(written / "text") == [
        ["S10-a", "lay red soon"],
        ["s2-b", "set blue now"],
        ["é_clip", "bin"],
    ]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("kaldi", ("wav.scp", "text", "utt2spk", "spk2utt")),
        ("espnet_speechlm", ("wav.scp", "text", "utt2spk", "key_file")),
    ],
)
def test_order_is_that_of_the_c_locale(kind: str, names: tuple[str, ...], folder: Path) -> None:
    kaldi.write_lists(folder.parent, [*ROWS, *SPOKEN[2:]], kind)
    assert {path.name for path in folder.iterdir()} == {*names}
    environment = {**os.environ, "LC_ALL": "C"}
    for name in names:
        for key in (["-k1,1"], []):  # by name, and by whole lines as ESPnet's scripts sort
            command = ["sort", "-c", "-u", *key, folder / name]
            subprocess.run(command, check=True, env=environment)


def test_paths_lead_to_the_files_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    kaldi.write_lists(Path(".."), ROWS[:1], "kaldi")
    assert read(folder / "wav.scp") == [["s2-b", f"{folder}/s2-b.wav"]]


def test_two_clips_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="'a b' and 'a_b' are both called 'a_b'"):
        kaldi.write_lists(folder.parent, [Row("v2s", 0, "a b"), Row("v2s", 1, "a_b")], "kaldi")


def test_lists_of_another_kind_do_not_stay(folder: Path) -> None:
    (folder / "s2-b.wav").write_bytes(b"")
    for kind, left in (("kaldi", "spk2utt"), ("espnet_speechlm", "key_file"), ("kaldi", "spk2utt")):
        kaldi.write_lists(folder.parent, ROWS, kind)
        assert {path.name for path in folder.iterdir()} == {
            *("wav.scp", "text", "utt2spk", "s2-b.wav", left)
        }


# ---------------------------------------------- as ESPnet's speech-language-model scripts read them
def by_versa(path: Path) -> dict[str, str]:
    """As VERSA's scorer reads `--pred` and `--gt` with `--io soundfile`."""
    found = {}
    for line in path.open():
        key, value = line.strip().split(maxsplit=1)
        assert not value.endswith("|")
        found[key] = value
    return found


@pytest.fixture
def speechlm(folder: Path) -> Path:
    """As `--gen_dir` and `--ref_dir` of `eval_tts.sh`; a sound without words is among the clips."""
    kaldi.write_lists(folder.parent, [*SPOKEN, Row("v2s", 0, "door")], "espnet_speechlm")
    return folder


def test_voices_are_held_against_those_of_the_true_sounds(speechlm: Path) -> None:
    generated, truth = by_versa(speechlm / "wav.scp"), by_versa(speechlm / "utt2spk")
    # Both are split into as many parts, so that lines have to go together.
    assert list(generated) == list(truth)
    assert generated["tts_s2_sample0"] == f"{speechlm}/s2.wav"
    assert {Path(path).stem for path in generated.values()} == {row.clip_id for row in SPOKEN}
    for key, path in truth.items():
        assert Path(path) == speechlm.parent / "reference" / Path(generated[key]).name


def test_words_are_those_of_the_sound_in_the_same_line(speechlm: Path) -> None:
    """The recogniser's words get the names of `wav.scp`, whatever is in front of `text`."""
    names = [line.split()[0] for line in (speechlm / "wav.scp").read_text().splitlines()]
    texts = [line.split()[1:] for line in (speechlm / "text").read_text().splitlines()]
    said = {Path(path).stem: key for key, path in by_versa(speechlm / "wav.scp").items()}
    expected = {said[row.clip_id]: row.transcript.split() for row in SPOKEN}
    assert dict(zip(names, texts, strict=True)) == expected


def test_samples_are_summed_up_by_what_they_are_of(speechlm: Path) -> None:
    """As `result_summary.py` reads results, Python's own words for them among these."""
    found = set()
    for key in by_versa(speechlm / "wav.scp"):
        for line in (json.dumps({"key": key, "utmos": 3.1}), str({"key": key, "utmos": 3.1})):
            name = json.loads(line.strip().replace("'", '"'))["key"]
            found.add(name.split("_sample")[0])
        trn = f"set blue now\t({key})".split()[-1].lstrip("(").rstrip(")")
        assert trn == key
        assert "(" not in key
    known = [line.strip().split()[0] for line in (speechlm / "key_file").open()]
    assert len(known) == len(set(known)) == len(SPOKEN)
    assert found == set(known)
    assert {"tts_s2", "joint_the_dog_s__1_", "tts_日本"} < found


def test_clips_that_are_one_to_the_scripts_are_refused(folder: Path) -> None:
    rows = [Row("tts", number, name, "bin") for number, name in enumerate(("a'b", 'a"b'))]
    with pytest.raises(UserError, match="are both called 'tts_a_b_sample0'"):
        kaldi.write_lists(folder.parent, rows, "espnet_speechlm")
