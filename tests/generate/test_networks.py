"""One video, seen by the paper's networks: window by window, each as a clip of a dataset."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from data.videos import Videos
from tests import tiny
from tests.data.test_networks import WIDTHS
from tests.features.test_frozen import write_weights
from tests.generate.test_command import flag_values
from tests.media import clips
from vssflow_jax import media
from vssflow_jax.audio.patch_dct import LatentStats
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.features.encoders import choose
from vssflow_jax.features.footage import Encoders
from vssflow_jax.features.video import look, look_at_pieces
from vssflow_jax.generate import command as generate
from vssflow_jax.generate.windows import Windows
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment

CONFIG = tiny.config(
    Path("unused"),
    model__transformer__layers=1,
    model__transformer__head_dim=8,
    **{f"model__widths__{name}__features": width for name, width in WIDTHS.items()},
)
EXPERIMENT = Experiment.from_config(CONFIG)
SPEC = EXPERIMENT.spec
SECONDS = 6.32
BOX = (16, 16, 64, 48)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def chosen(weights: Path) -> Encoders:
    return choose("", "", "", [], str(weights))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (round(25 * SECONDS), 8, 12, 3), np.uint8)
    frames = frames.repeat(8, axis=1).repeat(8, axis=2)
    sound = 0.1 * rng.normal(size=round(SECONDS * clips.SAMPLING_RATE))
    media.write_video(path, frames, 25, sound, clips.SAMPLING_RATE)
    return path


def test_each_window_is_seen_as_a_clip_of_a_dataset(chosen: Encoders, video: Path) -> None:
    track = media.read_track(video)
    seen = look(track, SPEC, chosen, BOX, None)
    spoken = np.arange(seen.spec.latent_frames, dtype=np.int32)
    windows = Windows.over(seen.spec.latent_frames, SPEC.latent_frames, chosen.grid)
    assert len(windows.starts) > 2
    assert all(start % 8 == 0 for start in windows.starts)
    assert seen.spec.latent_frames >= 25 * SECONDS
    found = generate.by_windows(track, SPEC, chosen, seen, spoken, windows)
    np.testing.assert_array_equal(found["phonemes"], windows.cut(spoken))

    source = Videos(Path(), chosen, SPEC)
    for number, start in enumerate(windows.starts):
        end = min((start + SPEC.latent_frames) / 25, SECONDS)
        row = {
            **{"clip_id": "a", "task": "visualtts", "transcript": "", "voice": ""},
            **{"video": f"{video}#t={start / 25},{end}", "voice_sample": "", "mouth_box": BOX},
            **{"duration_sec": None, "event_times_sec": [], "phoneme_starts_sec": []},
        }
        record = source.record(row)
        streams = {name: record[name] for name in ("visual", "sync", "lips")}
        clip = ClipFeatures(streams, spoken[:0], np.zeros(0, np.int16), SPEC.duration_sec)
        expected = generate.conditions([clip], SPEC)
        for name in streams:
            largest = np.abs(expected[name][0]).max()
            np.testing.assert_allclose(
                found[name][number].astype(np.float32),
                expected[name][0],
                atol=2e-3 * largest,
                err_msg=f"{name} from {start}",
            )


def test_segments_of_motion_are_the_same_in_all_windows(chosen: Encoders, video: Path) -> None:
    track = media.read_track(video)
    motion = chosen.of(["sync"])
    seen = look(track, SPEC, motion, None, None)
    starts = (0, 24)
    pieces = look_at_pieces(track, SPEC, motion, seen, starts)
    one, other = (piece["sync"].astype(np.float32) for piece in pieces)
    # Eight tokens of each segment; the last two of a window of 3 s see black behind its end.
    np.testing.assert_allclose(one[24:56], other[:32], atol=1e-2 * np.abs(one).max())
    assert np.abs(one[:32] - other[:32]).max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_from_raw_files_to_a_sound(
    weights: Path, video: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = LatentStats(jnp.zeros(LATENT_CHANNELS), jnp.ones(LATENT_CHANNELS))
    state = jax.jit(EXPERIMENT.init)(stats)
    config = run_config.write(tmp_path / "run", CONFIG)
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        checkpoints.save(7, state, {}, config)
    given = {"transcript": "bin blue", "speech_start": 1, "speech_end": 3, "voice": video}
    values = flag_values(
        checkpoint=tmp_path / "run",
        weights=weights,
        encoder_dtype=dtype,
        video=video,
        out=tmp_path / "out.wav",
        mouth_box=" ".join(map(str, BOX)),
        **given,
    )
    generate.generate(values)
    waveform, rate = soundfile.read(tmp_path / "out.wav")
    assert len(waveform) == round(SECONDS * rate)
    assert np.isfinite(waveform).all()
    said = capsys.readouterr().out
    assert f"{SECONDS:.2f} s in" in said
    assert "without" not in said
