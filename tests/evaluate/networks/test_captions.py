"""CLAP's score of sounds against captions: what transformers says, and what it needs."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import ClapFeatureExtractor, ClapModel, RobertaTokenizer

from tests.networks.test_clap import LAIONS_SOUND, TEXT, peer
from tests.networks.test_clap_inputs import CORPUS, write_tokenizer
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.judged import SOUNDS, Judged, Shown
from vssflow_jax.evaluate.metrics.registry import group
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.score.clips import Given, contents, read_clips
from vssflow_jax.evaluate.score.command import score
from vssflow_jax.evaluate.settings import describe_files
from vssflow_jax.networks.clap.mel import SAMPLING_RATE
from vssflow_jax.networks.clap.tokens import TOKENS
from vssflow_jax.utils.errors import UserError

CAPTIONS = {
    "a": 'A man says "hello", and then a dog barks',
    "b": " ".join(CORPUS[1].split()),
    "c": '"Rain" in 日本, it\'s raining "hard"',
}
SILENT = "d"  # of it nobody says what is to be heard
BENCHMARK = Benchmark("mine", tasks=("v2s",), metrics=("clap_score",), recogniser="none")


@pytest.fixture(scope="module")
def theirs() -> ClapModel:
    """Small, but that it takes the sounds that the published one does."""
    return peer(LAIONS_SOUND, TEXT)


@pytest.fixture(scope="module")
def weights(theirs: ClapModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of Hugging Face, with a tokenizer."""
    made = tmp_path_factory.mktemp("clap")
    theirs.save_pretrained(made)
    write_tokenizer(made)
    return made


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each side, of tones that rise in noise, 2 to 11 s long."""
    made = tmp_path_factory.mktemp("sounds")
    for number, (side, name) in enumerate((x, y) for x in SOUNDS for y in (*CAPTIONS, SILENT)):
        (made / side).mkdir(exist_ok=True)
        n = np.arange(round((2 + 9 * (number % 4) / 3) * SAMPLING_RATE))
        noise = np.random.default_rng(number).normal(size=len(n))
        tone = np.sin(2e-3 * (1 + number) * n + 2e-8 * n**2)
        path = made / side / f"{name}.wav"
        soundfile.write(path, 0.3 * tone + 0.01 * noise + 0.1, SAMPLING_RATE, "FLOAT")
    return made


def shown(sounds: Path, captions: dict[str, str]) -> Shown:
    names = (*CAPTIONS, SILENT)
    files = {side: {name: sounds / side / f"{name}.wav" for name in names} for side in SOUNDS}
    return Shown(files, {}, dict.fromkeys(names, "v2s"), set(), captions)


def rows() -> list[Row]:
    return [Row("v2s", number, name) for number, name in enumerate((*CAPTIONS, SILENT))]


def judged(weights: Path, out: Path) -> Judged:
    return Judged({"clap": weights}, {side: out / "features" / side for side in SOUNDS})


def cosines(model: ClapModel, tokenizer: Path, folder: Path) -> dict[str, float]:
    """What transformers says of sounds of a folder and their captions."""
    hear = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    waveforms = []
    for name in CAPTIONS:
        waveform = soundfile.read(folder / f"{name}.wav")[0]
        waveforms.append((waveform - waveform.mean())[: 10 * SAMPLING_RATE])
    heard = hear(waveforms, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    how = {"padding": "max_length", "truncation": True, "max_length": TOKENS}
    reads = RobertaTokenizer.from_pretrained(tokenizer)
    with torch.no_grad():
        found = model(
            input_features=heard["input_features"],
            **reads([*CAPTIONS.values()], return_tensors="pt", **how),
        )
    each = torch.cosine_similarity(found.audio_embeds, found.text_embeds).numpy()
    return dict(zip(CAPTIONS, each.tolist(), strict=True))


def test_scores_are_those_of_transformers(
    theirs: ClapModel, weights: Path, sounds: Path, tmp_path: Path
) -> None:
    judges = judged(weights, tmp_path)
    judges.check(BENCHMARK)
    judges.extract(BENCHMARK, shown(sounds, CAPTIONS))
    good = rows()
    assert judges.scores(BENCHMARK, good) == ({}, {})  # They are of clips, and in the rows.
    for version, side in (("generated", "generated"), ("ground_truth", "reference")):
        wanted = cosines(theirs, weights, sounds / side)
        found = {
            row.clip_id: row.scores[version]["clap_score"][0]
            for row in good
            if version in row.scores
        }
        assert found.keys() == wanted.keys() == CAPTIONS.keys()
        np.testing.assert_allclose([*found.values()], [*wanted.values()], atol=2e-5)
        assert np.ptp([*wanted.values()]) > 0.01  # or every caption would fit every sound
    assert "LAION-CLAP, sha256" in judges.networks(BENCHMARK)["clap_score"]
    assert Store(tmp_path / "features" / "generated" / "clap").done() == CAPTIONS.keys()
    assert group("clap_score") == group("ib_score")


def test_captions_come_from_a_table_of_anyones(
    theirs: ClapModel, weights: Path, sounds: Path, tmp_path: Path
) -> None:
    """As spreadsheets export it: a mark, carriage returns, quotes."""
    out = tmp_path / "out"
    with (tmp_path / "clips.tsv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\r\n")
        table.writerow(["caption", "clip_id"])
        table.writerows((caption, name) for name, caption in [*CAPTIONS.items(), (SILENT, " ")])

    def read(clips: Path) -> list[Given]:
        given, remarks = read_clips(
            BENCHMARK, sounds / "generated", sounds / "reference", None, clips
        )
        assert not remarks
        return given

    given = read(tmp_path / "clips.tsv")
    paths = {name: str(sounds) for name in ("generated", "reference", "videos", "clips")}
    settings = describe_files(BENCHMARK, contents(given), **paths)
    metrics = score(BENCHMARK, given, judged(weights, out), settings, out, "kaldi")
    found = metrics["metrics"]["clap_score"]["generated"]
    wanted = cosines(theirs, weights, sounds / "generated")
    assert found["clips"] == len(CAPTIONS)
    np.testing.assert_allclose(found["value"], np.mean([*wanted.values()]), atol=2e-5)
    assert ">caption<" in (out / "report.html").read_text()
    # The table that is left says the same.
    assert read(out / "clips.tsv") == given
    assert {clip.clip_id: clip.caption for clip in given} == CAPTIONS | {SILENT: ""}


def test_without_captions_it_is_absent_and_says_so(
    weights: Path, sounds: Path, tmp_path: Path
) -> None:
    judges = judged(weights, tmp_path)
    judges.check(BENCHMARK)
    judges.extract(BENCHMARK, shown(sounds, {}))
    assert not (tmp_path / "features").exists()  # No sound has been listened to for nothing.
    _, absent = judges.scores(BENCHMARK, rows())
    assert absent == {
        "clap_score": "no clip has a caption for LAION-CLAP to look at (docs/evaluation.md)"
    }


def test_without_a_tokenizer_it_is_absent_and_says_so(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clap"
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(weights / name, folder / name)
    both = Benchmark("x", tasks=("v2s",), metrics=("clap_score", "fd_clap"), recogniser="none")
    judges = judged(folder, tmp_path)
    judges.check(both)  # The other metric does without.
    _, absent = judges.scores(both, rows())
    assert "no tokenizer lies beside the weights of LAION-CLAP" in absent["clap_score"]
    assert "no clip has a sound" in absent["fd_clap"]


def test_another_tokenizer_is_heard_of_before_anything_is_made(
    weights: Path, tmp_path: Path
) -> None:
    for path in weights.iterdir():
        shutil.copy(path, tmp_path)
    numbers = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(numbers | {"<more>": 50_264}))
    with pytest.raises(UserError, match="has a token 50264, and these know 400 from 0 on"):
        judged(tmp_path, tmp_path).check(BENCHMARK)
