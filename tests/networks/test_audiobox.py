"""Audiobox-Aesthetics: windows of sounds of any length, and its two published files."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.networks import small
from tests.networks.files import RATINGS, Tensors, audiobox, ratings_of
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import published
from vssflow_jax.networks.audiobox import SAMPLES, mean_of_windows, own_frames, windows
from vssflow_jax.networks.wav2vec import frames_of
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder

RATE = 16_000
WAVES = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)


# ------------------------------------------------------------------------------- windows of sounds
@pytest.mark.parametrize("samples", [1, 320, SAMPLES - 1, SAMPLES, SAMPLES + 1, 23 * RATE])
def test_a_sound_is_cut_into_windows_of_ten_seconds(samples: int) -> None:
    waveform = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    rows, counts = windows(waveform)
    # As the package does: from each 10 s on at most 10 s, zeros behind them.
    pieces = torch.from_numpy(waveform).split(SAMPLES)
    wanted = torch.nn.utils.rnn.pad_sequence([*pieces, torch.zeros(SAMPLES)], batch_first=True)[:-1]
    np.testing.assert_array_equal(rows, wanted)
    assert counts.tolist() == [len(piece) for piece in pieces]
    scores = np.random.default_rng(1).normal(size=(len(rows), 4))
    shares = np.array([[len(piece) / SAMPLES] for piece in pieces])
    found = mean_of_windows(scores, counts)
    np.testing.assert_allclose(found, (scores * shares).sum(axis=0) / shares.sum())


@pytest.mark.parametrize("samples", [1, 320, 321, 48_000, SAMPLES - 321, SAMPLES - 1, SAMPLES])
def test_a_frame_counts_if_any_sample_of_it_does(samples: int) -> None:
    frames = frames_of(SAMPLES)
    each = SAMPLES // frames
    padding = np.arange(SAMPLES)[: frames * each] >= samples
    wanted = (~padding.reshape(frames, each).all(axis=1)).sum()
    assert own_frames(jnp.asarray(samples), SAMPLES, frames) == wanted


def test_padding_is_heard_by_the_first_norm_alone() -> None:
    network: Any = small.network("audiobox")
    samples = np.array([4000, 2345, 1], np.int32)
    padded = np.where(np.arange(4000) < samples[:, None], WAVES, 0)
    found = network(jnp.asarray(padded), jnp.float32, jnp.asarray(samples))
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found[0], network(jnp.asarray(WAVES[:1]))[0], atol=1e-5)
    # Behind the last sample that a frame of its own is made of, nothing is heard but by that norm.
    frames = network.embed(jnp.asarray(padded), jnp.float32)
    own = own_frames(jnp.asarray(samples), 4000, frames.shape[1])
    means = [
        network.trunk.trace(x[None, :n], lambda x: x.mean(axis=1))
        for x, n in zip(frames, own.tolist(), strict=True)
    ]
    alone = [np.stack([axis(x)[0] for axis in network.axes]) for x in means]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.std(alone, axis=0).max() > 1e-3


def test_each_axis_has_layers_and_ratings_of_its_own() -> None:
    network: Any = small.network("audiobox")
    before = np.asarray(network(jnp.asarray(WAVES)))
    axis = network.axes[2]
    axis.weights_l[...] = axis.weights_l[...] + jnp.array([3.0, 0, 0])
    changed = np.abs(network(jnp.asarray(WAVES)) - before).max(axis=0)
    assert (changed > 1e-4).tolist() == [False, False, True, False]
    mean, deviation = float(axis.mean[...]), float(axis.deviation[...])
    axis.mean[...], axis.deviation[...] = jnp.array(5.0), jnp.array(2 * deviation)
    last = np.asarray(network(jnp.asarray(WAVES)))[:, 2]
    axis.mean[...], axis.deviation[...] = jnp.array(mean), jnp.array(deviation)
    first = np.asarray(network(jnp.asarray(WAVES)))[:, 2]
    np.testing.assert_allclose((last - 5) / 2, first - mean, atol=1e-5)


# ---------------------------------------------------------------------------------------- its files
def as_hugging_face(tensors: Tensors, to: Path, **options: Any) -> Path:
    """A folder as huggingface_hub writes it: `model.safetensors`, and `config.json`."""
    to.mkdir()
    held = {name.removeprefix("model."): x for name, x in tensors.items() if RATINGS not in name}
    save_file(held, to / "model.safetensors")
    config = {"normalize_embed": True, "precision": "32", RATINGS: ratings_of(tensors)}
    (to / "config.json").write_text(json.dumps(config | options))
    return to


def test_both_published_files_are_the_same_weights(tmp_path: Path) -> None:
    file = audiobox(small=True)
    tensors = file.tensors()
    file.write(tensors, tmp_path / file.file)
    import_weights("audiobox", tmp_path / file.file, tmp_path / "a")
    import_weights("audiobox", as_hugging_face(tensors, tmp_path / "hub"), tmp_path / "b")
    first, second = (tmp_path / name / folder.WEIGHTS_FILE for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    network: Any = published.load("audiobox", tmp_path / "a")
    found = [[float(axis.mean[...]), float(axis.deviation[...])] for axis in network.axes]
    np.testing.assert_allclose(found, [[*x.values()] for x in ratings_of(tensors).values()])
    # They are read as they were published, too.
    assert published.digest("audiobox", tmp_path / "hub") == published.digest(
        "audiobox", tmp_path / "a"
    )


def without_config(to: Path) -> None:
    (to / "config.json").unlink()


def other(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Something else in the `config.json` of a folder."""

    def write(to: Path) -> None:
        config = json.loads((to / "config.json").read_text())
        change(config)
        (to / "config.json").write_text(json.dumps(config))

    return write


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (without_config, r"config\.json is missing; it belongs beside the weights"),
        (other(lambda x: x.pop(RATINGS)), r"hub: no number 'target_transform\.CE\.mean' in it"),
        (other(lambda x: x[RATINGS].pop("PQ")), r"no number 'target_transform\.PQ\.mean' in it"),
        (other(lambda x: x[RATINGS]["PC"].pop("std")), r"'target_transform\.PC\.std' in it"),
        (other(lambda x: x[RATINGS].update(CU=[1, 2])), r"'target_transform\.CU\.mean' in it"),
        (other(lambda x: x.update({RATINGS: "none"})), r"'target_transform\.CE\.mean' in it"),
        (other(lambda x: x[RATINGS]["CE"].update(mean=math.inf)), "not finite"),
        (other(lambda x: x.update(normalize_embed=False)), "normalize_embed is False; only net"),
        (lambda to: (to / "config.json").write_text("{"), r"config\.json is not JSON"),
    ],
)
def test_ratings_that_are_not_there_are_one_line(
    damage: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    source = as_hugging_face(audiobox(small=True).tensors(), tmp_path / "hub")
    damage(source)
    with pytest.raises(UserError, match=told) as error:
        import_weights("audiobox", source, tmp_path / "imported")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "imported").exists()
    with pytest.raises(UserError, match=told):
        published.load("audiobox", source)


def test_tensors_of_the_checkpoint_alone_want_the_config_beside_them(tmp_path: Path) -> None:
    tensors = audiobox(small=True).tensors()
    held = {name: x for name, x in tensors.items() if RATINGS not in name}
    torch.save(held, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"config\.json is missing"):
        import_weights("audiobox", tmp_path / "weights.pt", tmp_path / "a")
    (tmp_path / "config.json").write_text(json.dumps({RATINGS: ratings_of(tensors)}))
    import_weights("audiobox", tmp_path / "weights.pt", tmp_path / "a")


def test_settings_of_the_checkpoint_are_looked_at(tmp_path: Path) -> None:
    file = audiobox(small=True)
    path = tmp_path / file.file
    file.write(file.tensors(), path)
    parts = torch.load(path, weights_only=True)
    torch.save(parts | {"model_cfg": {"normalize_embed": False}}, path)
    with pytest.raises(UserError, match="normalize_embed is False"):
        import_weights("audiobox", path, tmp_path / "imported")
