"""The command: sound of a video of any length, without seams, and one line where it cannot be.

`tests/test_generation.py` has the sampler, `tests/test_windows.py` how windows are blended.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from data.videos import Videos
from tests import tiny
from tests.media import clips
from tests.media.clips import Case
from vssflow_jax import media
from vssflow_jax.audio import mel
from vssflow_jax.audio.patch_dct import CEPSTRA, LatentStats
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec, stretch_phonemes
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate import command as generate
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.generate.windows import Windows
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.models import earlier
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.utils.errors import UserError

CONFIG = tiny.config(
    Path("unused"), model__transformer__layers=1, model__transformer__head_dim=8, train__steps=7
)
EXPERIMENT = Experiment.from_config(CONFIG)
STEP = 7
LONG_SEC = 30.0
PHRASE = "bin blue at u six soon"
LOUDNESS = 10.0  # of the velocity, beside that of the noise
RNG = np.random.default_rng


# ------------------------------------------------------------------------------ a run, and videos
DEAF = (
    "input.",
    "conditions.inputs.",
    "transformer.blocks.self_attention.q.",
    "transformer.blocks.cross_attention.q.",
)


def random_state(*silent: str) -> TrainState:
    """A state whose weights are random, and those with names that begin with `silent` zero.

    They are drawn by the names and shapes of earlier versions: what is heard of them, and whether
    it has a seam, hangs on the draw.
    """

    def weight(path: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        loud = 0.0 if name.startswith(silent) else LOUDNESS if name.startswith("output.") else 1.0
        size = loud / np.sqrt(shape.shape[-2] if len(shape.shape) > 1 else 1)
        return jnp.asarray(size * RNG(len(name)).normal(size=shape.shape), shape.dtype)

    # Quiet, and without changes within a patch, whose frames have a mean in the first channels.
    stats = LatentStats(
        jnp.zeros(LATENT_CHANNELS).at[0].set(-70.0),
        jnp.full(LATENT_CHANNELS, 1e-3).at[:CEPSTRA].set(0.05),
    )
    shapes = jax.eval_shape(EXPERIMENT.init, stats)
    drawn = jax.tree_util.tree_map_with_path(weight, earlier.layout(shapes.params))
    params = earlier.upgrade(drawn, shapes.params)
    frozen = jax.tree_util.tree_map_with_path(weight, shapes.frozen)
    others = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return dataclasses.replace(others, params=params, ema=params, frozen=frozen, codec=stats)


def save(workdir: Path, state: TrainState) -> Path:
    config = run_config.write(workdir, CONFIG)
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(STEP, state, {}, config)
    return workdir


@pytest.fixture(scope="module")
def state() -> TrainState:
    return random_state()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, state: TrainState) -> Path:
    return save(tmp_path_factory.mktemp("run"), state)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clip.mp4`, as long as a window, and `long.mp4`, whose colours change slowly."""
    folder = tmp_path_factory.mktemp("videos")
    fps, height, width = 5, 64, 96
    for name, seconds in (("clip", EXPERIMENT.spec.duration_sec), ("long", LONG_SEC)):
        times = np.arange(seconds * fps)[:, None] / fps
        colours = 128 + 100 * np.sin(2 * np.pi * times * [0.05, 0.08, 0.03] + [0, 1, 2])
        frames = np.broadcast_to(colours[:, None, None], (len(times), height, width, 3))
        noise = 0.1 * RNG(0).normal(size=round(seconds * mel.SAMPLING_RATE))
        media.write_video(
            folder / f"{name}.mp4", frames.astype(np.uint8), fps, noise, mel.SAMPLING_RATE
        )
    return folder


def flag_values(**given: Any) -> Any:
    """The flags of a command line."""
    values = generate.flags.FlagValues()
    generate.define_flags(values)
    values(["generate", *(f"--{name}={value}" for name, value in given.items())])
    return values


def sounds(run: Path, video: Path, out: Path, **given: Any) -> list[np.ndarray]:
    """What the command writes."""
    values = flag_values(checkpoint=run, video=video, out=out, **given)
    return [soundfile.read(path, dtype="float32")[0] for path in generate.generate(values)]


@pytest.fixture
def log_mels(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Gets the log-mels that are vocoded."""
    seen: list[np.ndarray] = []
    make = generate.make_vocoder

    def listening(config: Any) -> Callable[[np.ndarray], np.ndarray]:
        vocoder = make(config)
        return lambda log_mel: (seen.append(log_mel), vocoder(log_mel))[1]

    monkeypatch.setattr(generate, "make_vocoder", listening)
    return seen


# ----------------------------------------------------------------------------------------- seams
AROUND = 2  # mel frames that an edge may be off by
SPAN = 10  # mel frames whose energy is compared


def seams(log_mel: np.ndarray, windows: Windows) -> dict[str, float]:
    """Largest flux and step of energy at the edges of windows, over the largest elsewhere."""
    finer = windows.finer(EXPERIMENT.spec.mel_rate // EXPERIMENT.spec.latent_rate)
    at_edge = np.zeros(len(log_mel), bool)
    for edge in (*finer.starts[1:], *(start + finer.size for start in finer.starts[:-1])):
        at_edge[edge - AROUND : edge + AROUND + 1] = True
    sums = np.cumsum(np.pad(log_mel.mean(axis=1), (1, 0)))
    means = (sums[SPAN:] - sums[:-SPAN]) / SPAN  # of the frames from each on
    measures = {
        "flux": (1, np.sqrt(np.mean(np.diff(log_mel, axis=0) ** 2, axis=1))),
        "energy": (SPAN, np.abs(means[SPAN:] - means[:-SPAN])),
    }
    found = {}
    for name, (first, values) in measures.items():
        here = at_edge[first : first + len(values)]
        # The first and last frames have only half of what is heard of others around them.
        found[name] = values[here].max() / values[~here][SPAN:-SPAN].max()
    return found


@pytest.mark.parametrize("blended", [True, False])
def test_half_a_minute_has_no_seam_but_hard_cuts_have(
    blended: bool,
    videos: Path,
    tmp_path: Path,
    log_mels: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
):
    def side_by_side(num_frames: int, size: int, grid: int = 1) -> Windows:
        del grid
        return Windows(tuple(range(0, num_frames, size)), size)

    if not blended:
        monkeypatch.setattr(Windows, "over", side_by_side)
    # It sees the pictures of its window alone, evenly: each window has a sound of its own, the
    # same all along.
    run = save(tmp_path / "run", random_state(*DEAF))
    [waveform] = sounds(run, videos / "long.mp4", tmp_path / "out.wav")
    assert len(waveform) == LONG_SEC * mel.SAMPLING_RATE
    windows = Windows.over(
        round(LONG_SEC * EXPERIMENT.spec.latent_rate), EXPERIMENT.spec.latent_frames
    )
    heard = np.asarray(mel.log_mel(jnp.asarray(waveform)[None], len(log_mels[0])))[0]
    # The vocoder's own unrest hides most of a cut.
    for log_mel, at_a_cut in ((log_mels[0], 2), (heard, 1)):
        found = seams(log_mel, windows)
        if blended:
            assert max(found.values()) <= 1, found
        else:
            assert found["flux"] > at_a_cut, found


# ------------------------------------------------------------------------------------ what it gives
def test_a_clip_as_long_as_a_window_is_what_evaluation_generates(
    run: Path, state: TrainState, videos: Path, tmp_path: Path, log_mels: list[np.ndarray]
):
    sounds(
        run,
        videos / "clip.mp4",
        tmp_path / "out.wav",
        transcript=PHRASE,
        seed=3,
        steps=3,
        guidance=1.5,
        mouth_box="16 16 64 48",
        voice=videos / "clip.mp4",
    )
    row = {
        **{"clip_id": "clip", "task": "visualtts", "video": "clip.mp4", "transcript": PHRASE},
        **{"voice": "clip", "voice_sample": "clip.mp4", "mouth_box": (16, 16, 64, 48)},
        **{"duration_sec": None, "event_times_sec": [], "phoneme_starts_sec": []},
    }
    record = Videos(videos, WEIGHTS_FREE, EXPERIMENT.spec).record(row)
    streams = {name: record[name].astype(stream.dtype) for name, stream in STREAMS.items()}
    spread = stretch_phonemes(record["phonemes"], EXPERIMENT.spec.latent_frames)
    clip = ClipFeatures(streams, spread, record["audio"], record["duration_sec"])
    features = {name: x[None] for name, x in to_latent_rate(clip, EXPERIMENT.spec).items()}
    sampler = dataclasses.replace(Sampler.from_config(CONFIG.eval.sampler), steps=3, guidance=1.5)
    expected = make_generate(EXPERIMENT, sampler)(
        state.averaged, features, draw_start(EXPERIMENT, 3, ["clip"])
    )
    np.testing.assert_allclose(log_mels[0], expected[0], atol=1e-4)


def test_candidates_are_those_of_the_next_seeds(run: Path, videos: Path, tmp_path: Path):
    clip = videos / "clip.mp4"
    both = sounds(run, clip, tmp_path / "out.wav", candidates=2, seed=4)
    [second] = sounds(f"{run}/checkpoints/{STEP}", clip, tmp_path / "again.wav", seed=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.wav",
        "out-0.wav",
        "out-1.wav",
    ]
    np.testing.assert_array_equal(both[1], second)
    assert np.abs(both[0] - second).max() > 0.01


def test_a_video_gets_its_own_pictures_and_the_new_sound(run: Path, videos: Path, tmp_path: Path):
    video, out = videos / "clip.mp4", tmp_path / "out.mp4"
    generate.generate(flag_values(workdir=run, video=video, out=out))
    np.testing.assert_array_equal(media.read_video(out)[0], media.read_video(video)[0])
    old, new = (media.read_audio(path, mel.SAMPLING_RATE) for path in (video, out))
    assert len(new) == len(old)
    assert np.corrcoef(old, new)[0, 1] < 0.2


def test_pictures_that_are_reordered_all_arrive_with_the_sound(run: Path, tmp_path: Path):
    # The first packets of such a Matroska file have no time of decoding.
    video = clips.make(tmp_path / "in.mkv", Case("matroska", "h264 with B", "both late", "90"))
    out = tmp_path / "out.MP4"
    generate.generate(flag_values(workdir=run, video=video, out=out, steps=2))
    before, after = clips.shown(video), clips.shown(out)
    assert [shown.raw for shown in after] == [shown.raw for shown in before]
    _, _, start_sec = clips.heard(out)
    assert start_sec == pytest.approx(after[0].time_sec, abs=1e-3)


def test_what_cannot_be_copied_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    video = clips.make(tmp_path / "in.webm", Case("webm", "vp8"))
    assert generate.plan_output(media.read_track(video), ".Mp4").obstacle
    said = capsys.readouterr().out
    assert "in.webm: its pictures are encoded anew, to H.264" in said
    assert "cannot be copied to .Mp4 ('mp4' format does not support 'vp8' codec)" in said
    assert "to .mkv they can" in said


@pytest.mark.parametrize("fault", [None, ZeroDivisionError("a bug")])
def test_a_sound_is_not_lost_with_the_video(
    fault: Exception | None, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    video = tmp_path / "in.mp4"
    video.write_bytes((videos / "clip.mp4").read_bytes())
    output = generate.plan_output(media.read_track(video), ".mp4")
    video.unlink()  # While its sound is generated.

    def fail(*arguments: Any) -> None:
        raise fault

    if fault:
        monkeypatch.setattr(media.Plan, "write", fail)
    waveform = 0.1 * RNG(0).normal(size=16_000)
    with pytest.raises((UserError, ZeroDivisionError)) as caught:
        generate.write(tmp_path / "out.mp4", waveform, 16_000, output)
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert f"the sound is kept in {tmp_path}/out.mp4.wav" in said
    assert ("no such file" in said) != bool(fault)
    kept, _ = soundfile.read(tmp_path / "out.mp4.wav")
    np.testing.assert_allclose(kept, waveform, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4.wav"]


# -------------------------------------------------------------------------------------- speech
WINDOW = EXPERIMENT.spec
WHOLE = ClipSpec(duration_sec=LONG_SEC)


def speech(whole: ClipSpec = WHOLE, **given: Any) -> np.ndarray:
    values = flag_values(video="in.mp4", out="out.mp4", **given)
    return generate.speech(values, WINDOW, whole, whole.duration_sec)


def test_phonemes_lie_where_speech_is():
    ids = speech(transcript=PHRASE, speech_start=2.0, **{"speech-end": 4.4})
    assert ids.shape == (750,)
    assert not ids[:50].any()
    assert not ids[110:].any()
    alone = speech(WINDOW, transcript=PHRASE)
    assert alone.all()
    # The same phonemes in the same order, across the edge of a window at 3 s.
    np.testing.assert_array_equal(changes(ids[50:110]), changes(alone))


def changes(ids: np.ndarray) -> np.ndarray:
    return ids[np.flatnonzero(np.diff(ids, prepend=-1))]


def test_without_words_there_are_no_phonemes():
    assert not speech().any()
    assert not speech(transcript=" ").any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"transcript": PHRASE}, r"lasts 30.00 s, longer than the 3.0 s .*--speech_start"),
        ({"transcript": PHRASE, "speech_start": 1}, "by --speech_start and --speech_end"),
        ({"transcript": PHRASE, "speech_start": 5, "speech_end": 4}, "ends at 4.0 s, but starts"),
        ({"transcript": PHRASE, "speech_start": 5, "speech_end": 31}, "but the video at 30.00 s"),
        ({"transcript": PHRASE, "speech_start": 5, "speech_end": 5.4}, "too many phonemes: 1. in"),
        ({"transcript": "жизнь 66", "speech_start": 5, "speech_end": 9}, "'жизнь' is not in Latin"),
        ({"speech_start": 1}, "are of a --transcript"),
    ],
)
def test_speech_that_cannot_be(given: dict[str, Any], says: str):
    with pytest.raises(UserError, match=says):
        speech(**given)


# ------------------------------------------------------------------------------------ bad input
def of_another_model(run: Path, tmp_path: Path, **changes: Any) -> Path:
    """A run with the checkpoint, but another config."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(run / "checkpoints")
    config = tiny.config(Path("unused"), **changes)
    (other / "config.json").write_text(json.dumps(run_config.resolved_values(config)))
    return other


def test_a_checkpoint_of_another_model(run: Path, videos: Path, tmp_path: Path):
    other = of_another_model(run, tmp_path, model__transformer__head_dim=16)
    with pytest.raises(UserError, match="does not fit this config's model"):
        sounds(other, videos / "clip.mp4", tmp_path / "out.wav")


def test_a_model_of_other_encoders(run: Path, videos: Path, tmp_path: Path):
    other = of_another_model(run, tmp_path, model__widths__lips__features=1024)
    with pytest.raises(UserError, match=r"encoder of lips gives 80 channels.* trained on 1024"):
        sounds(other, videos / "clip.mp4", tmp_path / "out.wav")


def test_a_config_that_is_none(run: Path, videos: Path, tmp_path: Path):
    other = of_another_model(run, tmp_path)
    (other / "config.json").write_text('{"seed": 0}')
    with pytest.raises(UserError, match=r"config.json is not the config of a run"):
        sounds(other, videos / "clip.mp4", tmp_path / "out.wav")


def write_empty(path: Path) -> None:
    with av.open(path, "w", format="avi") as container:
        container.add_stream("mpeg4", rate=5, width=64, height=64)
        container.start_encoding()


def write_sound(path: Path) -> None:
    soundfile.write(path, np.zeros(100), 16_000, format="WAV")


def write_half(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x00\x20ftypisom" + 500 * b"\x07")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (write_empty, "no frames"),
        (write_sound, "has no video stream"),
        (write_half, "cannot be read"),
        (lambda path: None, "no such file"),
    ],
)
def test_videos_that_are_none(make: Callable[[Path], None], says: str, run: Path, tmp_path: Path):
    make(tmp_path / "in.mp4")
    with pytest.raises(UserError, match=f"in.mp4.*{says}"):
        sounds(run, tmp_path / "in.mp4", tmp_path / "out.wav")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"checkpoint": ""}, "no model: name a run by --checkpoint"),
        ({"checkpoint": "nowhere"}, "no run in .*nowhere"),
        ({"checkpoint": "RUN/checkpoints/9"}, "no checkpoint of step 9 .* there are 7"),
        ({"out": "out.mp3"}, r"its name ends in .mp4, .mkv, .mov, .wav"),
        ({"out": "nowhere/out.mp4"}, "no folder that can be written to"),
        ({"out": "VIDEOS/clip.mp4"}, "this is .*clip.mp4 itself"),
        ({"out": "VIDEOS/clip.mp4", "video": "VIDEOS/clip.mp4#t=0,1"}, "clip.mp4 itself"),
        ({"mouth_box": "1 2 3"}, "left top right bottom"),
        ({"mouth_box": "80 50 120 90"}, "bad mouth_box"),
        ({"weights_free": "clip,smell"}, "no stream 'smell'"),
        ({"voice": "nobody.wav"}, "nobody.wav: no such file"),
    ],
)
def test_flags_that_cannot_be(given: dict[str, str], says: str, run: Path, videos: Path, tmp_path):
    usual = {"checkpoint": "RUN", "video": "VIDEOS/clip.mp4", "out": f"{tmp_path}/out.wav"}
    named = {
        name: value.replace("RUN", str(run)).replace("VIDEOS", str(videos))
        for name, value in (usual | given).items()
    }
    with pytest.raises(UserError, match=says):
        generate.generate(flag_values(**named))


def test_the_command_says_it_in_one_line(videos: Path, tmp_path: Path):
    command = [sys.executable, "-m", "vssflow_jax.generate", f"--checkpoint={tmp_path}"]
    done = tiny.run([*command, f"--video={videos}/clip.mp4", f"--out={tmp_path}/out.mp4"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: no run in")
    assert done.stderr.count("\n") == 1


def test_an_installed_wheel_generates_outside_the_checkout(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    source = tmp_path / "source"  # a copy: pip builds in the folder that it is given
    shutil.copytree(tiny.ROOT / "vssflow_jax", source / "vssflow_jax")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(tiny.ROOT / name, source)
    done = tiny.run([*pip, f"--target={installed}", str(source)])
    assert done.returncode == 0, done.stderr
    elsewhere.mkdir()
    inputs = [f"--checkpoint={run}", f"--video={videos}/clip.mp4", f"--out={elsewhere}/out.mp4"]
    # By a start of its own, to say which package it is that runs.
    program = (
        "import runpy, sys, vssflow_jax; print(vssflow_jax.__file__); "
        "runpy.run_module('vssflow_jax.generate', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *inputs],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    waveform = media.read_audio(elsewhere / "out.mp4", 16_000)
    assert len(waveform)
    assert waveform.any()
