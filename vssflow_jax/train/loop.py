"""Training, top to bottom: mesh, data, model, restore, loop."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import jax
import ml_collections

from vssflow_jax import config as checks
from vssflow_jax.audio.codec import latents_digest
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.input_pipeline.batches import train_batches, windows
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.prefetch import OnDevices, ReadOptions
from vssflow_jax.parallel import chips, distributed, sharding
from vssflow_jax.parallel.stopping import stop_requested
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.run.initial import check_source, initial_state
from vssflow_jax.train.evaluators import Evaluator, Samples
from vssflow_jax.train.metrics import MetricWriter
from vssflow_jax.train.profiler import StepTrace
from vssflow_jax.train.step import compiled_step
from vssflow_jax.train.throughput import Goodput, Throughput
from vssflow_jax.utils.errors import UserError


def prepare(config: ml_collections.ConfigDict, workdir: Path) -> ml_collections.ConfigDict:
    """The config to train by in a workdir, all of it checked before anything is spent on it.

    Raises:
      UserError: values that cannot be, weights that are not there, or a workdir that holds the run
        of another config.
    """
    checks.check(config)
    config = run_config.for_training(workdir, config)
    make_vocoder(config.vocoder)
    if not run_config.exists(workdir):
        check_source(config)
    return config


def train(
    config: ml_collections.ConfigDict, workdir: Path, evaluators: Sequence[Evaluator] = ()
) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: of the experiment, as `prepare` returns it.
      workdir: gets `config.json`, `metrics.jsonl`, `throughput.jsonl`, `checkpoints/`,
        `tensorboard/`, and `profile/` if a trace is asked for.
      evaluators: called now and then; what they yield is shown in TensorBoard.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad data, or sizes that do not fit the devices; a loss that is no number; a full
        disk.
    """
    goodput = Goodput(started_sec=time.time())
    # ------------------------------------------------------------------------------------ mesh
    experiment = Experiment.from_config(config)
    experiment.check_batch()
    mesh_rules, clips = experiment.mesh_rules, config.train.batch_size

    # ------------------------------------------------------------------------------------ data
    dataset = Dataset(
        config.data.path, experiment.spec, config.data.durations, config.data.durations_path
    )
    dataset.check_widths(experiment.model.feature_widths)
    if config.codec.latents == "offline":
        dataset.check_latents(latents_digest(config.codec))
    if config.eval.after_training or evaluators:
        dataset.check_part("test")
    batches = train_batches(
        dataset,
        config.data.mixture,
        clips,
        config.seed,
        config.codec.latents,
        mesh_rules.local_rows(clips),
        ReadOptions.from_config(config.data),
        config.data.bucket_sec,
    )
    iterator = iter(batches)

    workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        # ------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(Checkpoints(workdir, config.train.keep_checkpoints))
        if checkpoints.latest is None:
            state = initial_state(experiment, dataset.latent_stats)
        else:
            state, progress = checkpoints.resume(experiment.abstract_state)
            dataset.check_counts(progress["clips"])
            iterator.set_state(progress["data"])
            goodput = Goodput(**progress["account"])
        done, steps = int(state.step), config.train.steps
        resolved = run_config.write(workdir, config)
        note_end_of_schedule(config.train, done)

        # ---------------------------------------------------------------------------- loop
        stop_after = closing.enter_context(stop_requested())
        on_devices = closing.enter_context(
            OnDevices(iterator, functools.partial(sharding.put_batch, mesh_rules=mesh_rules))
        )
        throughput = closing.enter_context(
            Throughput(goodput, clips=clips, peak_flops=chips.total_peak_flops(mesh_rules.mesh))
        )
        trace = closing.enter_context(StepTrace(config.profile, workdir / "profile"))
        writer = closing.enter_context(
            MetricWriter(
                workdir, throughput, done=done, steps=steps, log_every=config.train.log_every
            )
        )
        evaluators = [Samples(config, experiment, dataset, writer.board), *evaluators]

        def save() -> None:
            with writer.pause():
                progress = {
                    "data": on_devices.get_state(),
                    "clips": dataset.counts,
                    "account": dataclasses.asdict(throughput.goodput),
                }
                checkpoints.save(done, state, progress, resolved)

        if done < steps:
            # Ahead of time, so that no process waits in a step for one that compiles it: not all
            # connections are that patient.
            of_frames = {
                spec.latent_frames: compiled_step(experiment.of_window(spec), config.codec.latents)
                for spec in windows(experiment.spec, config.data.bucket_sec)
            }
            distributed.wait_for_all("compiled")
        while done < steps and not stop_after(done):
            if trace.starts_with(done + 1):
                with writer.pause():
                    trace.start()
            asked = time.monotonic()
            try:
                batch = next(on_devices)
            except UserError:
                if jax.process_count() == 1:  # others would not save with this one
                    save()
                raise
            called = time.monotonic()
            marked = jax.profiler.StepTraceAnnotation("train", step_num=done + 1)
            with marked, jax.transfer_guard("disallow"):
                train_step, flops = of_frames[batch["phonemes"].shape[1]]
                state, metrics = train_step(state, batch)
            done += 1
            times = throughput.watch(asked, called, flops, metrics)
            writer.write(done, metrics, times, iterator.num_bad)
            if trace.stops_after(done):
                with writer.pause():
                    trace.stop()
            if done % config.train.checkpoint_every == 0:
                save()
            for evaluator in evaluators:
                if done % evaluator.every_steps == 0:
                    with writer.pause():
                        writer.scalars("eval", done, evaluator(experiment, dataset, state))
        save()
    if distributed.is_main():
        print(summary(done, steps, throughput))
    return done >= steps


def summary(done: int, steps: int, throughput: Throughput) -> str:
    """A line on how far training came."""
    if done < steps:
        return f"stopped after step {done} of {steps}, saved; the same command goes on from there"
    return (
        f"trained {done} steps in {throughput.elapsed_sec / 60:.1f} minutes since the first start, "
        f"goodput {throughput.share:.0%}"
    )


def note_end_of_schedule(train: ml_collections.ConfigDict, done: int) -> None:
    """Say so where the rest of a run has a learning rate of 0."""
    if (
        train.schedule == "linear"
        and done < train.steps > train.decay_steps
        and distributed.is_main()
    ):
        print(
            f"note: the learning rate is 0 from step {train.decay_steps} on, where this run was "
            f"first to end; --config.train.decay_steps={train.steps} stretches its schedule"
        )
