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
from vssflow_jax.clip import LATENT_CHANNELS, fit_length
from vssflow_jax.features.encoders import choose
from vssflow_jax.features.footage import Encoders
from vssflow_jax.features.frozen import AVHubert
from vssflow_jax.features.video import encoders_of, look, look_at_pieces
from vssflow_jax.generate import command as generate
from vssflow_jax.generate.windows import Windows
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.utils.errors import UserError

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
    seen = look(track, SPEC, chosen, BOX, None, speaks=True)
    assert seen.spec.latent_frames == round(25 * SECONDS)
    spoken = np.arange(seen.spec.latent_frames, dtype=np.int32)
    windows = Windows.over(seen.spec.latent_frames, SPEC.latent_frames, chosen.grid)
    assert len(windows.starts) > 2
    assert all(start % 8 == 0 for start in windows.starts)
    assert windows.num_frames >= 25 * SECONDS
    found = generate.by_windows(track, SPEC, chosen, seen, spoken, windows)
    np.testing.assert_array_equal(
        found["phonemes"], windows.cut(fit_length(spoken, windows.num_frames))
    )

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
    seen = look(track, SPEC, motion, None, None, speaks=False)
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


def test_files_beside_networks_cover_the_video_itself(
    weights: Path, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip").mkdir()
    frames = round(10 * SECONDS)
    np.save(tmp_path / "clip" / "long.npy", np.ones((frames, 768), np.float32))
    motion = tmp_path / "weights"
    motion.mkdir()
    (motion / "synchformer").symlink_to(weights / "synchformer")
    mixed = choose("", "", str(tmp_path), [], str(motion)).of(["visual", "sync"])
    track = media.read_track(video)
    seen = look(track, SPEC, mixed, None, None, speaks=False)
    assert seen.streams["visual"].shape == (frames, 768)
    windows = Windows.over(seen.spec.latent_frames, SPEC.latent_frames, mixed.grid)
    assert windows.num_frames > seen.spec.latent_frames
    spoken = np.zeros(seen.spec.latent_frames, np.int32)
    found = generate.by_windows(track, SPEC, mixed, seen, spoken, windows)
    assert found["visual"].shape == (len(windows.starts), SPEC.latent_frames, 768)
    beyond = windows.frames[-1] >= seen.spec.latent_frames
    assert beyond.any()
    np.testing.assert_array_equal(found["visual"][-1, :, 0], ~beyond)


def test_where_nothing_is_said_no_mouth_is_looked_for(
    chosen: Encoders, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AVHubert, "find_mouth", lambda *_: pytest.fail("looked for"))
    seen = look(media.read_track(video), SPEC, chosen, None, None, speaks=False)
    assert seen.mouth is None


def test_somebody_must_look_at_the_video(weights: Path, tmp_path: Path) -> None:
    expected = {"visual": 768, "sync": 768, "lips": 1024, "speaker": 256}
    with pytest.raises(UserError, match="nothing would look at the video: name the encoders"):
        generate.check_encoders(choose("", "", "", []), expected)
    # The weights that the run's config names are those of its encoders.
    data = CONFIG.data.copy_and_resolve_references()
    with data.unlocked():
        data.weights = str(weights)
    assert encoders_of(data, "", "", "", []).widths == WIDTHS
    (tmp_path / "vae").mkdir()
    assert not encoders_of(CONFIG.data, "", "", "", [], str(tmp_path)).networks.by_stream
