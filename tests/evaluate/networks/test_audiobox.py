"""Audiobox-Aesthetics judges files of sounds: whoever wrote them, and however long they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.evaluate.networks.test_judges import ENCODERS, RATE, chirp, encode, noise
from tests.networks.files import audiobox as published_file
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks import files
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.judges import JUDGES
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.networks import published

AXES = {"ce": files.ENJOYMENT, "cu": files.USEFULNESS, "pc": files.COMPLEXITY, "pq": files.QUALITY}
WINDOW = 10 * RATE


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = published_file(small=True)
    tensors = file.tensors()
    for name, tensor in tensors.items():
        # Norms that neither shrink nor shift, or all sounds would be one to it.
        if tensor.ndim == 1 and name.endswith((".weight", ".bias")):
            tensor.fill_(name.endswith("weight"))
    path = tmp_path_factory.mktemp("weights") / file.file
    file.write(tensors, path)
    return path


def judged(weights: Path, *paths: Path) -> np.ndarray:
    """Scores of files [n, 4]."""
    judge = JUDGES["audiobox"](weights)
    made = judge.features([judge.example(path, 0) for path in paths])
    return np.array([[scores[axis] for axis in AXES] for scores in made])


def test_sounds_of_any_writer_are_judged_alike(weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "16k.wav", tmp_path / "noise.wav"]
    soundfile.write(paths[0], chirp(RATE), RATE)
    soundfile.write(paths[1], noise(2 * RATE), RATE)
    for name, rate, channels in (("cd.wav", 44_100, 2), ("telephone.wav", 8_000, 1)):
        paths.append(tmp_path / name)
        soundfile.write(paths[-1], np.stack([chirp(rate)] * channels, axis=1), rate)
    for suffix, rate in (("mka", 44_100), ("m4a", 48_000)):
        paths.append(tmp_path / f"a.{suffix}")
        encode(paths[-1], ENCODERS[suffix], np.stack([chirp(rate)] * 2, axis=1), rate)
    first, another, *same = judged(weights, *paths)
    for scores in same:
        assert np.linalg.norm(scores - first) < 0.1 * np.linalg.norm(another - first)


def test_a_long_sound_is_the_mean_of_its_windows(weights: Path, tmp_path: Path) -> None:
    """As the package has it: 10 s, 10 s and 3 s with zeros behind them count as 1, 1 and 0.3."""
    sound = np.concatenate([noise(WINDOW), *[chirp(RATE)] * 5, noise(3 * RATE, 1)])
    soundfile.write(tmp_path / "a.wav", sound, RATE, "FLOAT")
    heard, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    network: Any = published.load("audiobox", weights)
    last = np.concatenate([heard[2 * WINDOW :], np.zeros(7 * RATE, np.float32)])
    pieces = [heard[:WINDOW], heard[WINDOW : 2 * WINDOW], last]
    counts = [np.array([x], np.int32) for x in (WINDOW, WINDOW, 3 * RATE)]
    each = np.array([network(x[None], samples=n)[0] for x, n in zip(pieces, counts, strict=True)])
    wanted = (each[0] + each[1] + 0.3 * each[2]) / 2.3
    (found,) = judged(weights, tmp_path / "a.wav")
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(each.mean(axis=0) - wanted).max() > 1e-3


def test_clips_do_not_know_one_another(weights: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path, seconds in zip(paths, (1, 11, 3), strict=True):
        soundfile.write(path, noise(seconds * RATE, seconds), RATE)
    together = judged(weights, *paths)
    alone = np.concatenate([judged(weights, path) for path in paths])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.std(alone, axis=0).max() > 1e-2


def test_each_clip_of_each_task_has_the_metrics(weights: Path, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.wav" for name in ("a", "b", "empty")}
    for name, samples in (("a", RATE), ("b", 2 * RATE), ("empty", 0)):
        soundfile.write(paths[name], noise(samples, samples), RATE)
    out = tmp_path / "features"
    extract("audiobox", weights, paths, out)
    assert set(Store(out / "audiobox").unfit()) == {"empty"}
    wanted = judged(weights, paths["a"], paths["b"])
    for column, (axis, cache) in enumerate(AXES.items()):
        metric = METRICS[f"audiobox_{axis}"]
        assert all(metric.is_of(task) for task in TASKS)
        assert metric.of_features is not None
        assert metric.of_features.of_truth
        found, clips = metric.of_features.measure(out, tmp_path / "nowhere", {})
        assert isinstance(found, dict)
        assert clips == 2
        np.testing.assert_allclose([*found.values()], wanted[:, column], atol=1e-5)
        assert list(found) == [*files.read(out, cache)]
