"""Sounds as other programs leave them: of several channels, too short, silent, not finite."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from vssflow_jax import media
from vssflow_jax.utils.errors import UserError

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)
NOISE = np.random.default_rng(0).normal(scale=0.1, size=RATE).astype(np.float32)


def written(path: Path, *channels: np.ndarray, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, np.stack(channels, axis=1), RATE, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ((TONE,), TONE),
        ((TONE, TONE), TONE),
        ((TONE, NOISE), (TONE + NOISE) / 2),
        ((TONE, 0 * TONE), TONE / 2),
        ((TONE, -TONE), TONE),
        ((-0.9 * TONE, TONE), TONE),
        ((0 * TONE, 0 * TONE), 0 * TONE),
    ],
)
def test_channels_are_mixed_unless_they_cancel(
    channels: tuple[np.ndarray, ...], expected: np.ndarray, tmp_path: Path
) -> None:
    found = media.read_audio(written(tmp_path / "sound.wav", *channels), RATE)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_six_channels_are_one(tmp_path: Path) -> None:
    found = media.read_audio(written(tmp_path / "sound.wav", *[TONE] * 6), RATE)
    assert found.shape == TONE.shape
    assert np.corrcoef(found, TONE)[0, 1] > 0.999


def test_a_voice_is_the_start_of_its_file(tmp_path: Path) -> None:
    path = written(tmp_path / "voice.wav", TONE, -TONE)
    np.testing.assert_allclose(media.read_voice(path, RATE, 0.5), TONE[: RATE // 2], atol=1e-6)


@pytest.mark.parametrize(
    ("waveform", "says"),
    [
        (TONE[:80], "it lasts 0.005 s; take at least 0.3 s"),
        (np.where(np.arange(RATE) == 700, np.nan, TONE), "it holds NaN or infinity"),
        (np.where(np.arange(RATE) == 700, np.inf, TONE), "it holds NaN or infinity"),
        (0 * TONE, "its first 10 s are silent"),
        (1e-5 * TONE, "its first 10 s are silent"),
    ],
)
def test_a_voice_that_nobody_is_known_by_is_one_line(
    waveform: np.ndarray, says: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "voice.wav", waveform.astype(np.float32))
    with pytest.raises(UserError, match=f"voice {path}: {says}") as failure:
        media.read_voice(path, RATE, 10.0)
    assert "\n" not in str(failure.value)
