"""Durations of phonemes from a trained predictor, and how far off they are."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx

from vssflow_jax.clip import stretch_phonemes
from vssflow_jax.duration.model import harden
from vssflow_jax.duration.train import DurationExperiment, align, example, open_dataset
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.parallel import sharding
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Batch, Params


def predict(
    config: ml_collections.ConfigDict,
    workdir: Path,
    parts: Sequence[str] = ("train", "test"),
    overrides: Collection[str] = (),
) -> dict[str, list[int]]:
    """Durations of all clips with speech, by the newest checkpoint.

    Args:
      config: config of the run, with changes.
      workdir: folder of the run.
      parts: parts of the dataset.
      overrides: fields of the config that were set, as in `run_config.for_use`.

    Returns:
      by clip id, how many latent frames each phoneme lasts.

    Raises:
      UserError: no checkpoint, another config's, or a field that may not differ.
    """
    config = run_config.for_use(workdir, config, overrides)
    experiment = DurationExperiment.from_config(config)
    dataset = open_dataset(config, experiment)
    mesh_rules = sharding.make_mesh_rules(config.sharding)
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(experiment.abstract_state(mesh_rules))[0]
    definition = experiment.definition

    @jax.jit
    def attention(params: Params, batch: Batch) -> jax.Array:
        return align(nnx.merge(definition, params), batch)

    durations = {}
    devices = mesh_rules.batch_devices
    size = devices * -(-config.train.batch_size // devices)
    for clips in _batches(speech_clips(dataset, parts), size):
        # A batch that is not full is filled up with its own clips, so that all have one shape.
        examples = [example(clip, experiment) for clip in clips]
        members = [examples[i % len(clips)] for i in range(size)]
        batch = jax.tree.map(lambda *x: np.stack(x), *members)
        maps = jax.device_get(attention(state.params, sharding.put_batch(batch, mesh_rules)))
        for clip, one, shares in zip(clips, examples, maps, strict=False):
            phonemes = len(clip.phoneme_ids)
            path = harden(shares[: one["num_frames"], :phonemes])
            durations[clip.clip_id] = np.bincount(path, minlength=phonemes).tolist()
    return durations


def evaluate_and_print(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Compare predicted and uniform durations with the alignments of the test part, if any."""
    experiment = DurationExperiment.from_config(config)
    dataset = open_dataset(config, experiment)
    clips = [clip for clip in speech_clips(dataset, ("test",)) if len(clip.phoneme_frames)]
    if not clips:
        return
    predicted = predict(config, workdir, ("test",))
    for name, durations in (("predicted", predicted), ("uniform", uniform(clips))):
        print(f"{name:10} {boundary_error(durations, clips):6.2f} frames")
    print(f"mean error of where a phoneme starts, in {len(clips)} test clips")


def boundary_error(durations: Mapping[str, Sequence[int]], clips: Iterable[Clip]) -> float:
    """Mean absolute error of the first frame of each phoneme but a clip's first, in frames.

    Args:
      durations: latent frames of each phoneme, by clip id.
      clips: with alignments.
    """
    errors = [
        np.abs(np.cumsum(durations[clip.clip_id]) - np.cumsum(clip.phoneme_frames))[:-1]
        for clip in clips
    ]
    return float(np.mean(np.concatenate(errors)))


def uniform(clips: Iterable[Clip]) -> dict[str, list[int]]:
    """Durations by the uniform stretch."""
    durations = {}
    for clip in clips:
        phonemes = len(clip.phoneme_ids)
        path = stretch_phonemes(np.arange(phonemes), len(clip.features.phonemes))
        durations[clip.clip_id] = np.bincount(path, minlength=phonemes).tolist()
    return durations


def speech_clips(dataset: Dataset, parts: Sequence[str]) -> Iterator[Clip]:
    """All clips with phonemes."""
    for part in parts:
        for task in (name for name, task in TASKS.items() if task.spoken and task.pictured):
            if dataset.count(part, task):
                source = dataset.clips(part, task)
                clips = (source[index] for index in range(len(source)))
                yield from (clip for clip in clips if len(clip.phoneme_ids))


def _batches(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    while batch := list(itertools.islice(clips, size)):
        yield batch
