"""Weights, sounds and videos that lie in buckets, against emulators."""

import uuid
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
import torch

from tests import buckets
from vssflow_jax import media
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.utils.object_cache import local
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights.state_dict import read_state_dict, write_state_dict

RATE = 16_000


@pytest.fixture(params=buckets.SCHEMES)
def bucket(request: pytest.FixtureRequest, stores_there: None) -> Path:
    return as_path(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}")


def test_a_folder_of_weights_comes_back(bucket: Path, tmp_path: Path):
    own = {"inner": {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3)}}
    (tmp_path / "vocab.txt").write_text("a")
    weights.save(bucket / "w", "vae", {"width": 3}, own, [tmp_path / "vocab.txt"])
    assert weights.read_config(bucket / "w", "vae") == {"width": 3}
    abstract = {"inner": {"w": jax.ShapeDtypeStruct((2, 3), np.float32)}}
    np.testing.assert_array_equal(
        weights.load(bucket / "w", "vae", abstract)["inner"]["w"], own["inner"]["w"]
    )
    assert (bucket / "w" / "vocab.txt").read_text() == "a"
    with pytest.raises(UserError, match="is there already"):
        weights.save(bucket / "w", "vae", {}, own)


def test_files_of_tensors_are_read(bucket: Path, tmp_path: Path):
    tensor = np.arange(4.0, dtype=np.float32)
    write_state_dict(bucket / "a.safetensors", {"x": tensor})
    torch.save({"state_dict": {"x": torch.tensor(tensor)}}, tmp_path / "b.ckpt")
    (bucket / "b" / "b.ckpt").write_bytes((tmp_path / "b.ckpt").read_bytes())
    for path in (bucket / "a.safetensors", bucket / "b"):
        np.testing.assert_array_equal(read_state_dict(path)["x"], tensor)


def test_sounds_and_videos_are_written_and_read(bucket: Path):
    wave = np.sin(np.arange(RATE) * 0.1).astype(np.float32) / 2
    media.write_wav(bucket / "a.wav", wave, RATE)
    samples, rate = soundfile.read(local(bucket / "a.wav"))
    assert (len(samples), rate) == (RATE, RATE)
    frames = np.zeros((25, 16, 16, 3), np.uint8)
    media.write_video(bucket / "a.mp4", frames, 25, wave, RATE)
    media.replace_audio(bucket / "a.mp4", wave / 2, RATE, bucket / "b.mp4")
    loud, quiet = (media.read_audio(bucket / f"{name}.mp4", RATE) for name in "ab")
    assert len(loud) == len(quiet) == RATE
    assert np.abs(quiet).max() < 0.7 * np.abs(loud).max()
    assert sorted(path.name for path in bucket.iterdir()) == ["a.mp4", "a.wav", "b.mp4"]
