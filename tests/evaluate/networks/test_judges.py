"""Networks look at files of clips: whoever wrote these, however often they are stopped."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
import torch

from tests.networks import files as network_files
from tests.networks.test_judges import small
from vssflow_jax import media
from vssflow_jax.evaluate.metrics.of_sets import OfSet
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks import files, panns, vggish
from vssflow_jax.evaluate.networks.extract import extract
from vssflow_jax.evaluate.networks.judges import JUDGES, digest
from vssflow_jax.evaluate.networks.sounds import read_pictures, read_sound
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.networks.rawnet3 import LEAST_SAMPLES
from vssflow_jax.utils.errors import MissingPackage, UserError

RATE = 16_000
RNG = np.random.default_rng(0)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def zeros(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors that take no room in a file."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind of a network -> a file of it; those of PANNs and VGGish say the same of every sound."""
    folder = tmp_path_factory.mktemp("weights")
    known = {"fc_audioset.bias": torch.arange(527.0), "fc1.bias": torch.ones(2048)}
    torch.save({"model": zeros(panns.shapes()) | known}, folder / "cnn14.pth")
    known = {"embeddings.4.bias": torch.arange(128.0)}
    torch.save(zeros(vggish.shapes()) | known, folder / "vggish.pth")
    utmos = network_files.utmos(small=True)
    utmos.write(utmos.tensors(), folder / utmos.file)
    rawnet3 = network_files.rawnet3_espnet(small=True)
    rawnet3.write(rawnet3.tensors(), folder / rawnet3.file)
    imagebind = small("imagebind")
    imagebind.write(imagebind.tensors(), folder / imagebind.file)
    return {
        "panns": folder / "cnn14.pth",
        "vggish": folder / "vggish.pth",
        "utmos": folder / utmos.file,
        "rawnet3": folder / rawnet3.file,
        "imagebind": folder / imagebind.file,
    }


@pytest.fixture
def sounds(tmp_path: Path) -> dict[str, Path]:
    """Sounds of several lengths, some of which nobody can hear."""
    folder = tmp_path / "wav"
    folder.mkdir()
    for number, name in enumerate("abcdefg"):
        soundfile.write(folder / f"{name}.wav", noise((2 + number % 3) * RATE, number), RATE)
    soundfile.write(folder / "short.wav", noise(100), RATE)
    (folder / "damaged.wav").write_bytes(b"RIFF")
    return {path.stem: path for path in sorted(folder.glob("*.wav"))}


def test_published_files_say_of_a_folder_what_is_in_them(
    sounds: dict[str, Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "features"
    for kind in ("panns", "vggish"):
        extract(kind, weights[kind], sounds, out, max_sec=2.0)
        unfit = Store(out / kind).unfit()
        assert set(unfit) == {"short", "damaged"}
        assert "100 samples, at least" in unfit["short"]
        assert "damaged.wav" in unfit["damaged"]
    logits = files.read(out, panns.LOGITS)
    assert list(logits) == list("abcdefg")
    for clip in logits.values():
        np.testing.assert_array_equal(clip, np.arange(527))
    windows = files.read(out, vggish.FEATURES)
    np.testing.assert_array_equal(windows["b"], [np.arange(128)] * 2)
    for name in ("fd_vggish", "fd_panns"):
        of_features = METRICS[name].of_features
        assert of_features
        found, clips = of_features.measure(out, out, {})
        assert isinstance(found, OfSet)
        assert found.value == 0, name
        assert clips == 7


def test_a_stopped_job_goes_on_and_ends_the_same(
    sounds: dict[str, Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    extract("utmos", weights["utmos"], sounds, tmp_path / "whole")
    part = {clip: sounds[clip] for clip in ("b", "damaged", "e")}
    extract("utmos", weights["utmos"], part, tmp_path / "parts")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "utmos").glob("*.s*")}
    extract("utmos", weights["utmos"], sounds, tmp_path / "parts")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole, parts = (files.read(tmp_path / name, files.OPINION) for name in ("whole", "parts"))
    assert list(whole) == list(parts) == [*"abcdefg"]
    np.testing.assert_allclose([*whole.values()], [*parts.values()], atol=1e-5)
    assert np.std([*whole.values()]) > 1e-4


def test_other_weights_begin_anew(
    sounds: dict[str, Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    extract("vggish", weights["vggish"], sounds, tmp_path)
    other = tmp_path / "other.pth"
    torch.save(zeros(vggish.shapes()), other)
    assert digest(other) != digest(weights["vggish"])
    extract("vggish", other, {"a": sounds["a"]}, tmp_path)
    assert list(files.read(tmp_path, vggish.FEATURES)) == ["a"]
    assert Store(tmp_path / "vggish").origin == {"sha256": digest(other), "max_sec": 0}


def test_a_damaged_store_is_one_line(
    sounds: dict[str, Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    extract("vggish", weights["vggish"], sounds, tmp_path)
    (path,) = (tmp_path / "vggish").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        extract("vggish", weights["vggish"], sounds, tmp_path)


# ---------------------------------------------------------------------------- files of other people
def chirp(rate: int, seconds: float = 2.0) -> np.ndarray:
    """From 200 Hz to 3 kHz, so that it is like no delayed copy of itself."""
    times = np.arange(round(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * (200 * times + 700 * times**2))


ENCODERS = {
    "mp3": "libmp3lame",
    "m4a": "aac",
    "opus": "libopus",
    "mka": "pcm_s16le",
    "aiff": "pcm_s16be",
    "mov": "pcm_s24le",
}


def write(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write a sound [n, c] by FFmpeg or libsndfile, as its suffix asks."""
    if codec := ENCODERS.get(path.suffix[1:]):
        encode(path, codec, samples, rate)
    else:
        soundfile.write(path, samples, rate)


def encode(path: Path, codec: str, samples: np.ndarray, rate: int) -> None:
    """Write a sound [n, 2] by FFmpeg's encoders and muxers."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T.astype(np.float32)), "fltp", "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size or len(samples)
        resampler = av.AudioResampler(stream.format, "stereo", rate, size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [
        ("wav", 44_100, 2),
        ("wav", 8_000, 1),
        ("wav", 48_000, 6),
        ("flac", 22_050, 1),
        ("ogg", 44_100, 2),
        *((suffix, 48_000, 2) for suffix in ENCODERS),
    ],
)
def test_sounds_of_any_writer_are_heard_alike(
    suffix: str, rate: int, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    samples = np.stack([chirp(rate)] * channels, axis=1)
    write(path, samples, rate)
    found, wanted = read_sound(path), chirp(RATE)
    assert abs(len(found) - len(wanted)) <= RATE // 10
    inner = slice(RATE // 10, len(wanted) - RATE // 10)
    error = np.linalg.norm(found[inner] - wanted[inner]) / np.linalg.norm(wanted[inner])
    assert error < (0.1 if suffix in ("ogg", "mp3", "m4a", "opus") else 0.01)


def test_sounds_are_centred_before_they_are_resampled_and_cut(tmp_path: Path) -> None:
    samples = noise(2 * RATE) + np.linspace(0, 0.3, 2 * RATE, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    whole, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav"), whole)
    cut = read_sound(tmp_path / "a.wav", max_sec=0.5, centre=True)
    np.testing.assert_allclose(cut, (whole - whole.mean())[: RATE // 2], atol=1e-6)
    assert abs(cut.mean()) > 0.05  # It is the mean of the whole that is taken off.


def test_channels_are_mixed_or_the_first_is_taken(tmp_path: Path) -> None:
    left, right = noise(RATE, 1), noise(RATE, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, "FLOAT")
    soundfile.write(tmp_path / "b.wav", np.stack([left, -left], 1), RATE, "FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), (left + right) / 2, atol=1e-6)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav", first_channel=True), left)
    np.testing.assert_array_equal(np.abs(read_sound(tmp_path / "b.wav")), np.abs(left))


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_numbers_that_are_not_finite_are_one_line(rate: int, tmp_path: Path) -> None:
    samples = noise(rate)
    samples[7] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, rate, "FLOAT")
    with pytest.raises(UserError, match="holds NaN or infinity"):
        read_sound(tmp_path / "a.wav")


def test_a_clip_that_was_mended_is_looked_at_again(
    sounds: dict[str, Path], weights: dict[str, Path], tmp_path: Path
) -> None:
    extract("vggish", weights["vggish"], sounds, tmp_path)
    assert set(Store(tmp_path / "vggish").unfit()) == {"short", "damaged"}
    soundfile.write(sounds["damaged"], noise(2 * RATE), RATE)
    extract("vggish", weights["vggish"], sounds, tmp_path)
    assert set(Store(tmp_path / "vggish").unfit()) == {"short"}
    assert "damaged" in files.read(tmp_path, vggish.FEATURES)


def test_a_missing_package_is_no_fault_of_a_clip(
    sounds: dict[str, Path],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def example(*given: object) -> None:
        raise MissingPackage("the package 'x' is not installed")

    monkeypatch.setattr(JUDGES["vggish"], "example", example)
    with pytest.raises(MissingPackage):
        extract("vggish", weights["vggish"], sounds, tmp_path)
    assert not Store(tmp_path / "vggish").unfit()


# ------------------------------------------------------------------------------------ what they do
def alone_and_together(kind: str, weights: Path, examples: Sequence[np.ndarray]) -> None:
    """One clip is judged like many at a time."""
    judge = JUDGES[kind](weights)
    together = judge.features(examples)
    for example, of_clip in zip(examples, together, strict=True):
        (alone,) = judge.features([example])
        for key, value in alone.items():
            np.testing.assert_allclose(of_clip[key], value, rtol=1e-4, atol=1e-5)
            assert np.isfinite(value).all()


def test_clips_do_not_know_one_another(weights: dict[str, Path], tmp_path: Path) -> None:
    lengths = (20_000, 31_999, 16_001)
    for kind in ("utmos", "rawnet3"):
        alone_and_together(kind, weights[kind], [noise(n, n) for n in lengths])
    pieces = [noise(3 * 32_000, seed).reshape(3, 32_000) for seed in range(2)]
    alone_and_together("imagebind_sound", weights["imagebind"], pieces)


def test_voices_are_compared_whoever_wrote_the_files(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    """Of the first channel, as VERSA does."""
    sides = {side: tmp_path / side for side in ("generated", "reference")}
    for path in sides.values():
        path.mkdir()
    voice = noise(20_000)
    fast, slow = (librosa.resample(voice, orig_sr=RATE, target_sr=rate) for rate in (44_100, 8_000))
    stereo = np.stack([fast, noise(len(fast), 1)], axis=1)
    written = {
        "same.wav": (voice, RATE),
        "stereo.wav": (stereo, 44_100),
        "mono.wav": (fast, 44_100),
        "slow.flac": (slow, 8_000),
        "other.wav": (noise(20_000, 2), RATE),
        "short.wav": (voice[:700], RATE),
    }
    for name, (samples, rate) in written.items():
        soundfile.write(sides["generated"] / name, samples, rate)
        soundfile.write(sides["reference"] / f"{Path(name).stem}.wav", voice, RATE)
    encode(sides["generated"] / "lossy.m4a", "aac", stereo[:, [0, 0]], 44_100)
    soundfile.write(sides["reference"] / "lossy.wav", voice, RATE)
    out = tmp_path / "features"
    for side, path in sides.items():
        sounds = {file.stem: file for file in path.iterdir()}
        extract("rawnet3", weights["rawnet3"], sounds, out / side)
    unfit = Store(out / "generated" / "rawnet3").unfit()
    assert unfit == {"short": f"RawNet3: 700 samples, at least {LEAST_SAMPLES}"}
    of_features = METRICS["speaker_similarity_rawnet3"].of_features
    assert of_features
    found, clips = of_features.measure(out / "generated", out / "reference", {})
    assert isinstance(found, dict)
    assert clips == len(found) == 6
    assert found["same"] == pytest.approx(1, abs=1e-6)
    assert found["stereo"] == pytest.approx(found["mono"], abs=1e-6)
    assert all(0 < found[name] < 1 - 1e-4 for name in ("other", "mono", "slow", "lossy"))


def test_weights_of_another_network_are_no_judge_of_voices(weights: dict[str, Path]) -> None:
    JUDGES["rawnet3"](weights["rawnet3"]).check()
    for other in ("utmos", "panns"):
        with pytest.raises(UserError, match=r"no tensor '.*'; it is no file of RawNet3") as error:
            JUDGES["rawnet3"](weights[other]).check()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (64, 64)])
def test_imagebind_sees_both_ends_and_the_middle(height: int, width: int, tmp_path: Path) -> None:
    frames = RNG.integers(0, 255, (200, height, width, 3), dtype=np.uint8)
    media.write_video(tmp_path / "a.mp4", frames, 25, noise(8 * RATE), RATE)
    judge = JUDGES["imagebind_video"](tmp_path)
    pairs = judge.example(tmp_path / "a.mp4", 0)
    assert pairs.shape == (3 * 3, 2, 224, 224, 3)  # of four pictures
    pictures = read_pictures(tmp_path / "a.mp4", 0.5, 224, whole=True)
    assert min(pictures.shape[1:3]) == 224
    assert len(pictures) == 4
    np.testing.assert_array_equal(pairs[0, 1], pairs[1, 0])
    np.testing.assert_array_equal(pairs[0, 0], pictures[0, :224, :224])
    np.testing.assert_array_equal(pairs[-1, 1], pictures[3, -224:, -224:])
    assert len(judge.example(tmp_path / "a.mp4", 5.0)) == 3 * 2  # at 0, 2 and 4 s
    with pytest.raises(UserError, match="of 2 s or less"):
        judge.example(tmp_path / "a.mp4", 2.0)


def test_synchformer_is_shown_whole_windows(tmp_path: Path) -> None:
    frames = RNG.integers(0, 255, (150, 48, 64, 3), dtype=np.uint8)
    media.write_video(tmp_path / "a.mp4", frames, 25, noise(6 * RATE), RATE)
    seen = JUDGES["synchformer_video"](tmp_path).example(tmp_path / "a.mp4", 0)
    heard = JUDGES["synchformer_sound"](tmp_path).example(tmp_path / "a.mp4", 0)
    assert seen.shape == (150, 224, 224, 3)
    assert heard.shape[1:] == (10_240,)
    with pytest.raises(UserError, match=r"shorter than the 14 \(4\.8 s\)"):
        JUDGES["synchformer_video"](tmp_path).example(tmp_path / "a.mp4", 4.0)
