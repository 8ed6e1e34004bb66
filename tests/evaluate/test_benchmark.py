"""The evaluation of a run: what it writes, what it compares, and that it can tell good from bad."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import tiny
from vssflow_jax import media
from vssflow_jax.audio import mel
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.clip import ClipSpec
from vssflow_jax.dataset import Clip, Dataset
from vssflow_jax.evaluate import benchmark
from vssflow_jax.train_step import Recipe

SPEC = ClipSpec(duration_sec=3.0)


@pytest.fixture(scope="module")
def run(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, evaluated by the command itself."""
    workdir = tmp_path_factory.mktemp("run")
    command = tiny.command(
        "run_train.py", demo_data, workdir, train__steps=3, eval__after_training=True
    )
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return workdir


@pytest.fixture(scope="module")
def clips(demo_data: Path) -> list[Clip]:
    return benchmark.test_clips(Dataset(demo_data, SPEC))


def test_what_it_leaves(run: Path, clips: list[Clip]) -> None:
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["step"] == 3
    assert metrics["clips"] == len(clips) == tiny.NUM_TEST
    for name in ("wer", "wer_joint", "onset_f1", "mel_distance_db_v2s"):
        for version in ("", "_ground_truth", "_codec", "_shuffled"):
            assert np.isfinite(metrics[name + version]), name + version
    assert (run / "eval" / "report.html").stat().st_size > 10_000
    for clip in clips:
        waveform, rate = soundfile.read(run / "eval" / "wav" / f"{clip.clip_id}.wav")
        assert (len(waveform), rate) == (48_000, 16_000)
        frames, _ = media.read_video(run / "eval" / "mp4" / f"{clip.clip_id}.mp4")
        assert len(frames) == 75
    with (run / "eval" / "per_clip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == [clip.clip_id for clip in clips]


def test_run_eval_gives_the_same_again(run: Path, demo_data: Path) -> None:
    before = (run / "eval" / "metrics.json").read_text()
    again = tiny.run(tiny.command("run_eval.py", demo_data, run, train__steps=3))
    assert again.returncode == 0, again.stderr
    assert (run / "eval" / "metrics.json").read_text() == before


def test_a_finished_run_is_not_evaluated_again(run: Path, demo_data: Path) -> None:
    before = (run / "eval" / "metrics.json").stat().st_mtime_ns
    command = tiny.command(
        "run_train.py", demo_data, run, train__steps=3, eval__after_training=True
    )
    assert tiny.run(command).returncode == 0
    assert (run / "eval" / "metrics.json").stat().st_mtime_ns == before


def test_the_true_sounds_score_well_and_others_do_not(demo_data: Path, clips: list[Clip]) -> None:
    recipe = Recipe.from_config(tiny.config(demo_data))
    waveforms = np.stack([clip.features.waveform for clip in clips])
    mels = list(np.asarray(mel.log_mel(waveforms, recipe.spec.mel_frames)))
    swapped = [mels[clips.index(other)] for other in benchmark.shuffled(clips)]
    versions = {"generated": mels, "codec": mels, "shuffled": swapped}
    metrics = benchmark.measure(benchmark.render(versions, clips, recipe, griffin_lim), clips)
    assert metrics["wer_ground_truth"] <= 0.15
    assert metrics["wer"] <= 0.25
    assert metrics["wer_shuffled"] > metrics["wer"] + 0.25
    assert metrics["onset_f1_ground_truth"] > 0.9
    assert metrics["onset_f1"] > 0.9
    assert metrics["onset_f1_shuffled"] < 0.6
    assert metrics["mel_distance_db_v2s_ground_truth"] == 0
    assert 0 < metrics["mel_distance_db_v2s"] < metrics["mel_distance_db_v2s_shuffled"]


def test_shuffling_gives_nobody_its_own_conditions(clips: list[Clip]) -> None:
    others = benchmark.shuffled(clips)
    for clip, other in zip(clips, others, strict=True):
        assert clip.task == other.task
        alone = sum(same.task == clip.task for same in clips) == 1
        assert alone or clip.clip_id != other.clip_id
