"""NISQA is shown files of any writer at their own rate, and scores each clip."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.evaluate.networks.test_judges import alone_and_together, chirp, noise, write
from tests.networks import files as network_files
from vssflow_jax.evaluate.metrics.registry import METRICS, group
from vssflow_jax.evaluate.networks import files
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.sounds import rate_of
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.networks.nisqa import SCORES, frames_of, log_mel
from vssflow_jax.utils.errors import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = network_files.nisqa(small=True)
    path = tmp_path_factory.mktemp("weights") / file.file
    file.write(file.tensors(), path)
    return path


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        ("wav", 8_000, 1),
        ("wav", 16_000, 1),
        ("flac", 44_100, 2),
        ("ogg", 22_050, 1),
        ("mp3", 44_100, 2),
        ("m4a", 44_100, 2),
        ("opus", 48_000, 2),
        ("mov", 48_000, 2),
    ],
)
def test_files_of_any_writer_are_heard_at_their_own_rate(
    suffix: str, rate: int, channels: int, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    samples = np.stack([chirp(rate)] * channels, axis=1)
    write(path, samples, rate)
    assert rate_of(path) == rate
    judge = JUDGES["nisqa"](weights)
    heard, wanted = judge.example(path, 0), log_mel(chirp(rate).astype(np.float32), rate)
    frames = slice(20, min(len(heard), len(wanted)) - 20)
    assert abs(len(heard) - len(wanted)) <= 10
    loud = wanted[frames] > wanted.max() - 30
    is_lossy = suffix in ("ogg", "mp3", "m4a", "opus")
    difference = np.abs(heard[frames] - wanted[frames])[loud]
    assert loud.any()
    assert difference.mean() < (1.5 if is_lossy else 0.01)
    (scores,) = judge.features([heard])
    assert list(scores) == list(SCORES)
    assert np.isfinite([*scores.values()]).all()


def test_every_clip_that_is_neither_too_short_nor_too_long_has_five_scores(
    weights: Path, tmp_path: Path
) -> None:
    rate = 16_000
    sounds = {"a": 2 * rate, "b": rate, "least": 2240, "short": 2239, "most": 834_239}
    for name, samples in (sounds | {"long": 834_240}).items():
        soundfile.write(tmp_path / f"{name}.wav", noise(samples, samples), rate)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    paths = {path.stem: path for path in sorted(tmp_path.glob("*.wav"))}
    out = tmp_path / "features"
    extract("nisqa", weights, paths, out)
    unfit = Store(out / "nisqa").unfit()
    assert set(unfit) == {"short", "long", "damaged"}
    assert unfit["short"] == "NISQA: 2239 samples, at least 2240"
    assert "long.wav: longer than the 52 s that NISQA hears; cut it" in unfit["long"]
    for name in SCORES:
        of_features = METRICS[f"nisqa_{name}"].of_features
        assert of_features
        found, clips = of_features.measure(out, out, {})
        assert isinstance(found, dict)
        assert clips == 4
        assert found.keys() == {"a", "b", "least", "most"}
        stored = files.read(out, files.NISQA_SCORES[name])
        assert found == {clip: float(score) for clip, score in stored.items()}
        assert np.std([*found.values()]) > 1e-4
    extract("nisqa", weights, {"long": paths["long"]}, tmp_path / "cut", max_sec=2.0)
    assert not Store(tmp_path / "cut" / "nisqa").unfit()


def test_clips_do_not_know_one_another(weights: Path) -> None:
    mels = [40 * noise(48 * frames_of(n), n).reshape(-1, 48) for n in (49, 50, 51, 3, 90)]
    alone_and_together("nisqa", weights, mels)


def test_a_file_that_is_not_there_is_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.wav") as error:
        JUDGES["nisqa"](weights).example(tmp_path / "nowhere.wav", 0)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_one_line(tmp_path: Path) -> None:
    other = network_files.rawnet3(small=True)
    other.write(other.tensors(), tmp_path / other.file)
    with pytest.raises(UserError, match="it is no file of NISQA") as error:
        JUDGES["nisqa"](tmp_path / other.file).check()
    assert "\n" not in str(error.value)


def test_pages_show_its_scores_with_those_of_listeners() -> None:
    for name in SCORES:
        metric = METRICS[f"nisqa_{name}"]
        assert group(f"nisqa_{name}") == "As listeners would rate it"
        assert metric.is_of("visualtts")
        assert not metric.is_of("v2s")
