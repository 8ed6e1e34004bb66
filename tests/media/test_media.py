"""Video files: what is written is what is read, in time, and nothing is left half done."""

import itertools
import resource

import numpy as np
import pytest

from vssflow_jax import media
from vssflow_jax.utils.errors import UserError

SAMPLING_RATE = 16_000
FPS = 25
NUM_FRAMES = 25
MAX_LAG_SEC = 0.005


@pytest.fixture
def frames() -> np.ndarray:
    """A bright square that moves over a black ground, uint8 [n, 64, 96, 3]."""
    frames = np.zeros((NUM_FRAMES, 64, 96, 3), np.uint8)
    for index, picture in enumerate(frames):
        picture[16:48, index : index + 32] = (220, 160, 40)
    return frames


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """Low-passed noise, float32 [num_samples], that AAC keeps well."""
    white = np.random.default_rng(seed).standard_normal(num_samples + 15)
    smooth = np.convolve(white, np.hanning(16), mode="valid")
    return (0.5 * smooth / np.abs(smooth).max()).astype(np.float32)


def lag_samples(heard: np.ndarray, original: np.ndarray) -> int:
    size = 2 * max(len(heard), len(original))
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak if peak < size // 2 else peak - size


def test_pictures_and_frame_rate_come_back(tmp_path, frames):
    media.write_video(tmp_path / "a.mp4", frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    read, fps = media.read_video(tmp_path / "a.mp4")
    assert fps == FPS
    assert read.shape == frames.shape
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - frames).mean() < 4


@pytest.mark.parametrize("sampling_rate", [16_000, 44_100])
def test_sound_comes_back_in_time(tmp_path, frames, sampling_rate):
    waveform = noise(sampling_rate)
    media.write_video(tmp_path / "a.mp4", frames, FPS, waveform, sampling_rate)
    read = media.read_audio(tmp_path / "a.mp4", sampling_rate)
    assert read.dtype == np.float32
    assert len(read) == len(waveform)
    assert abs(lag_samples(read, waveform)) <= MAX_LAG_SEC * sampling_rate
    assert np.corrcoef(read, waveform)[0, 1] > 0.95


def test_sound_is_resampled(tmp_path, frames):
    time_sec = np.arange(44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_sec).astype(np.float32)
    media.write_video(tmp_path / "a.mp4", frames, FPS, tone, 44_100)
    read = media.read_audio(tmp_path / "a.mp4", SAMPLING_RATE)
    assert abs(len(read) - SAMPLING_RATE) <= 1
    assert np.argmax(np.abs(np.fft.rfft(read))) == pytest.approx(440, abs=1)


def test_equal_input_gives_equal_bytes(tmp_path, frames):
    for name in ("a.mp4", "b.mp4"):
        media.write_video(tmp_path / name, frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("num_samples", [SAMPLING_RATE // 2, SAMPLING_RATE, 2 * SAMPLING_RATE])
def test_replaced_sound_fits_the_video_and_leaves_pictures_alone(tmp_path, frames, num_samples):
    media.write_video(tmp_path / "a.mp4", frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    other = noise(num_samples, seed=1)
    media.replace_audio(tmp_path / "a.mp4", other, SAMPLING_RATE, tmp_path / "b.mp4")
    read = media.read_audio(tmp_path / "b.mp4", SAMPLING_RATE)
    assert len(read) == NUM_FRAMES * SAMPLING_RATE // FPS
    assert abs(lag_samples(read, other[: len(read)])) <= MAX_LAG_SEC * SAMPLING_RATE
    before, after = (media.read_video(tmp_path / name) for name in ("a.mp4", "b.mp4"))
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("reader", "damage"),
    itertools.product(
        (media.read_video, lambda path: media.read_audio(path, SAMPLING_RATE)),
        ("missing", "empty", "garbage"),
    ),
)
def test_bad_files_are_the_users_error_and_named(tmp_path, reader, damage):
    path = tmp_path / "bad.mp4"
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"no video at all" * 100)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        reader(path)


def test_a_truncated_file_is_the_users_error(tmp_path, frames):
    media.write_video(tmp_path / "a.mp4", frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.mp4"):
        media.read_video(tmp_path / "a.mp4")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, frames):
    path = tmp_path / "a.mp4"
    media.write_video(path, frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    before = path.read_bytes()
    torn = [*frames[:5], frames[5].astype(np.float64)]
    with pytest.raises(ValueError, match=r"dtype|array"):
        media.write_video(path, _Frames(torn), FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_is_the_users_error(tmp_path, frames):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(UserError, match=r"a\.mp4: cannot be written"):
            media.write_video(tmp_path / "a.mp4", frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_the_users_error(tmp_path, frames):
    with pytest.raises(UserError, match="nowhere"):
        media.write_video(
            tmp_path / "nowhere" / "a.mp4", frames, FPS, noise(SAMPLING_RATE), SAMPLING_RATE
        )


class _Frames(list):
    """A list of pictures with the shape of an array, so that its pictures may differ in type."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self[0].shape)
