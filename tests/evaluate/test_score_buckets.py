"""Sounds that lie in buckets, scored into a bucket."""

import json
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import buckets, tiny
from vssflow_jax.evaluate.networks.sounds import rate_of, read_sound
from vssflow_jax.utils.files import as_path, copy


@pytest.fixture(params=buckets.SCHEMES)
def folder(request: pytest.FixtureRequest, stores_there: None, tmp_path: Path) -> Path:
    """Two clips of noise and their references, at 22.05 kHz, in a bucket."""
    folder = as_path(f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}")
    for number, name in enumerate(("wav/a", "wav/b", "reference/a", "reference/b")):
        samples = 0.1 * np.random.default_rng(number).normal(size=22_050)
        soundfile.write(tmp_path / "sound.wav", samples, 22_050)
        copy(tmp_path / "sound.wav", folder / f"{name}.wav")
    return folder


def test_sounds_of_a_bucket_are_read(folder: Path) -> None:
    assert rate_of(folder / "wav" / "a.wav") == 22_050
    assert len(read_sound(folder / "wav" / "a.wav")) == 16_000


def test_sounds_of_a_bucket_are_scored(folder: Path, tmp_path: Path) -> None:
    benchmark = tmp_path / "few.py"
    benchmark.write_text(
        "import ml_collections\n\n\ndef get_config():\n    return ml_collections.ConfigDict("
        '{"tasks": ("v2s",), "metrics": ("mel_distance_db_v2s",)})\n'
    )
    command = [sys.executable, "-m", "vssflow_jax.evaluate.score", f"--benchmark={benchmark}"]
    command += [f"--generated={folder}/wav", f"--reference={folder}/reference"]
    done = tiny.run([*command, f"--out={folder}/out"])
    assert done.returncode == 0, done.stderr
    again = tiny.run([*command, f"--out={folder}/out"])  # goes on with what is there
    assert again.returncode == 0, again.stderr
    found = json.loads((folder / "out" / "metrics.json").read_text())
    assert found["metrics"]["mel_distance_db_v2s"]["generated"]["clips"] == 2
    assert (folder / "out" / "report.html").is_file()
