"""What training is set up from, before its first step."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from vssflow_jax import config as checks
from vssflow_jax.audio.codec import latents_digest, make_codec
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.input_pipeline import limits
from vssflow_jax.input_pipeline.batches import train_batches
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.mixture import Mixture
from vssflow_jax.input_pipeline.prefetch import Batches, BatchIterator, OnDevices, ReadOptions
from vssflow_jax.input_pipeline.shards import CacheOptions
from vssflow_jax.parallel import chips, distributed
from vssflow_jax.run import compilation_cache, keeping, run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.run.initial import check_source, initial_state
from vssflow_jax.run.local_checkpoints import LocalCheckpoints
from vssflow_jax.run.optimizer import ends_at_zero
from vssflow_jax.train import writers
from vssflow_jax.train.goodput import Goodput, Startup, last_seen_sec
from vssflow_jax.train.saved_steps import SavedSteps
from vssflow_jax.train.step import compiled_step, model_flops, of_windows
from vssflow_jax.train.throughput import Throughput


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training has from its start to its end, however often it goes back.

    Attributes:
      config: config of the run.
      workdir: its folder.
      experiment: experiment of it.
      dataset: the dataset that it is trained on.
      batches: of the clips that the devices of this process hold.
      began_sec: Unix time at which this process began.
      saved_steps: its steps, where `train.compiled_step` names a file of them.
    """

    config: ml_collections.ConfigDict
    workdir: Path
    experiment: Experiment
    dataset: Dataset
    batches: Batches
    began_sec: float
    saved_steps: SavedSteps | None

    @classmethod
    def open(
        cls,
        config: ml_collections.ConfigDict,
        workdir: Path,
        began_sec: float,
        *,
        for_test: bool,
    ) -> "Run":
        """The run of a config, checked against its data and devices; its folder is made.

        From here on compiled programs are kept in it.

        Raises:
          UserError: bad data, sizes that do not fit the devices, or steps of another run.
        """
        experiment = Experiment.from_config(config)
        experiment.check_batch()
        saved_steps = SavedSteps.find(config, experiment)
        dataset = open_dataset(config, experiment, for_test=for_test)
        rows = experiment.mesh_rules.local_rows(config.train.batch_size)
        batches = batches_of(config, dataset, rows)
        check_memory_to_read(config, dataset, rows)
        workdir.mkdir(parents=True, exist_ok=True)
        compilation_cache.keep_in(workdir)
        return cls(config, workdir, experiment, dataset, batches, began_sec, saved_steps)

    def clips_of(self, batch: int) -> list[str]:
        """Ids of all clips of the batch of this number, which is read for them."""
        return batches_of(self.config, self.dataset).made[batch].clip_ids

    @functools.cached_property
    def compiled_steps(self) -> dict[int, tuple[Callable[..., Any], int]]:
        """Latent frames of a window -> the step for its batches, and the FLOPs of that.

        They are compiled ahead of time, or come from a file, so that no process waits in a step
        for one that compiles it: not all connections are that patient.
        """
        config = self.config
        experiments = of_windows(self.experiment, config.data.bucket_sec)
        if self.saved_steps:
            steps = self.saved_steps.load(experiments)
        else:
            steps = {
                frames: compiled_step(experiment, config.codec.latents)
                for frames, experiment in experiments.items()
            }
        distributed.wait_for_all("compiled")
        return {frames: (step, model_flops(experiments[frames])) for frames, step in steps.items()}


def prepare(config: ml_collections.ConfigDict, workdir: Path) -> ml_collections.ConfigDict:
    """The config to train by in a workdir, all of it checked before anything is spent on it.

    Raises:
      UserError: values that cannot be, weights that are not there, or a workdir that holds the run
        of another config.
    """
    checks.check(config)
    keeping.check_measured(config.train)
    config = run_config.for_training(workdir, config)
    writers.check(config.train.writers)
    make_codec(config.codec)
    make_vocoder(config.vocoder)
    if not run_config.exists(workdir):
        check_source(config)
    return config


def open_dataset(
    config: ml_collections.ConfigDict, experiment: Experiment, *, for_test: bool
) -> Dataset:
    """The dataset of a config, checked against it.

    Raises:
      UserError: it is of another geometry or other widths, or lacks latents or a test split that
        are asked for.
    """
    dataset = Dataset(
        config.data.path,
        experiment.spec,
        config.data.durations,
        config.data.durations_path,
        experiment.model.feature_widths,
        CacheOptions.from_config(config.data),
    )
    if dataset.lacking and distributed.is_main():
        lacking = ", ".join(dataset.lacking)
        print(f"note: dataset {dataset.path} was built without {lacking}; no clip has it")
    if config.codec.latents == "offline":
        dataset.check_latents(latents_digest(config.codec))
    if config.eval.after_training or for_test:
        dataset.check_part("test")
    return dataset


def batches_of(
    config: ml_collections.ConfigDict, dataset: Dataset, rows: np.ndarray | None = None
) -> Batches:
    """Endless batches, or the clips at some places in each."""
    return train_batches(
        dataset,
        Mixture.from_config(config.data.mixture),
        config.train.batch_size,
        config.seed,
        config.codec.latents,
        rows,
        ReadOptions.from_config(config.data),
        config.data.bucket_sec,
    )


def check_memory_to_read(
    config: ml_collections.ConfigDict, dataset: Dataset, rows: np.ndarray
) -> None:
    """Check that processes that read, if there are to be some, have memory to share.

    Raises:
      UserError: they have not.
    """
    if not config.data.workers:
        return
    longest = config.copy_and_resolve_references()
    longest.data.bucket_sec = ()
    of_a_clip = batches_of(longest, dataset, rows[:1]).made[0].example
    batch_bytes = len(rows) * sum(array.nbytes for array in of_a_clip.values())
    limits.check_shared_memory(batch_bytes, config.data.workers)


def begin(
    run: Run,
    batches: BatchIterator,
    checkpoints: Checkpoints,
    local: LocalCheckpoints,
    began_sec: float,
) -> tuple[TrainState, Goodput]:
    """The state to go on from: that of the newest whole checkpoint of either kind, if there is one.

    Args:
      run: the run.
      batches: put where the checkpoint left them.
      checkpoints: checkpoints of the run.
      local: those on the disks of the machines; what is newer than the state gone on from goes.
      began_sec: Unix time at which this began: the process, or its return to a checkpoint.

    Raises:
      UserError: a damaged checkpoint, another dataset, or weights that cannot be started from.
    """
    newer = functools.partial(local.resume, run.experiment.abstract_state)
    if checkpoints.latest is not None:
        found = checkpoints.resume(run.experiment.abstract_state, newer)
    elif elsewhere := newer(0):
        _, found = elsewhere
    else:
        local.discard_newer(0)
        # Again: a run that was stopped before its first checkpoint may differ.
        check_source(run.config)
        state = initial_state(run.experiment, run.dataset.latent_stats)
        return state, Goodput(run.began_sec, lost_sec={"undone": began_sec - run.began_sec})
    state, progress = found
    local.discard_newer(int(state.step))
    run.dataset.check_counts(progress["clips"])
    batches.set_state(progress["data"])
    saved = Goodput(**progress["account"])
    goes_back = began_sec > run.began_sec
    seen_sec = began_sec if goes_back else last_seen_sec(run.workdir, saved)
    return state, saved.until(began_sec, seen_sec)


def throughput_of(
    config: ml_collections.ConfigDict, experiment: Experiment, goodput: Goodput, startup: Startup
) -> Throughput:
    """The speed of a run on the devices of its mesh."""
    peak_flops = chips.total_peak_flops(experiment.mesh_rules.mesh)
    return Throughput(goodput, startup, clips=config.train.batch_size, peak_flops=peak_flops)


def progress_of(batches: OnDevices, dataset: Dataset, goodput: Goodput) -> dict[str, Any]:
    """What a checkpoint keeps beside the state, for `begin`."""
    return {
        "data": batches.get_state(),
        "clips": dataset.counts,
        "account": dataclasses.asdict(goodput),
    }


def note_end_of_schedule(train: ml_collections.ConfigDict, done: int) -> None:
    """Say so where the rest of a run has a learning rate of 0."""
    if (
        done < train.steps > train.decay_steps
        and ends_at_zero(train, train.decay_steps)
        and distributed.is_main()
    ):
        print(
            f"note: the learning rate is 0 from step {train.decay_steps} on, where this run was "
            f"first to end; --config.train.decay_steps={train.steps} stretches its schedule"
        )
