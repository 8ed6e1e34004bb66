"""Training, top to bottom: mesh, data, model, shardings, restore, loop."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tensorboardX
import tqdm

from vssflow_jax.audio.codec import latents_digest
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.config import check as check_config
from vssflow_jax.input_pipeline import batches as input_pipeline
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.prefetch import OnDevices, Reading
from vssflow_jax.parallel import chips, distributed, sharding
from vssflow_jax.parallel.stopping import stop_requested
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.run.initial import check_source, initial_state
from vssflow_jax.run.workdir import MetricsLog
from vssflow_jax.train.profiler import StepTrace
from vssflow_jax.train.samples import Sampler
from vssflow_jax.train.step import Metrics, compiled_step
from vssflow_jax.train.throughput import Account, StepTimes, Throughput
from vssflow_jax.utils.errors import UserError

Evaluator = Callable[[Experiment, Dataset, TrainState], dict[str, float]]


def train(
    config: ml_collections.ConfigDict, workdir: Path, evaluator: Evaluator | None = None
) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: a resolved experiment config.
      evaluator: called every `config.eval.every_steps` steps; what it returns is logged.
      workdir: gets `config.json`, `metrics.jsonl`, `throughput.jsonl`, `checkpoints/`,
        `tensorboard/`, and `profile/` if a trace is asked for.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad config, data, or workdir; a loss that is no number; a full disk.
    """
    account = Account(started_sec=time.time())
    check_config(config)
    config = run_config.for_training(workdir, config)

    # ------------------------------------------------------------------------------------ mesh
    experiment = Experiment.from_config(config)
    experiment.check_batch()

    # ------------------------------------------------------------------------------------ data
    dataset = Dataset(
        config.data.path, experiment.spec, config.data.durations, config.data.durations_path
    )
    dataset.check_widths(experiment.model.feature_widths)
    if config.codec.latents == "offline":
        dataset.check_latents(latents_digest(config.codec))
    if config.eval.after_training or (evaluator and config.eval.every_steps):
        dataset.check_part("test")
    batches = functools.partial(
        input_pipeline.train_batches,
        dataset,
        config.data.mixture,
        config.train.batch_size,
        config.seed,
        config.codec.latents,
    )
    reading = Reading.from_config(config.data)
    rows = experiment.mesh_rules.local_rows(config.train.batch_size)
    buckets = config.data.bucket_sec
    iterator = iter(batches(rows, reading, buckets))

    # ------------------------------------------------------------------- model and shardings
    abstract = experiment.abstract_state()
    vocoder = make_vocoder(config.vocoder)
    workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        # ----------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(Checkpoints(workdir, config.train.keep_checkpoints))
        if checkpoints.latest is None:
            check_source(config)
            state = initial_state(experiment, abstract, batches)
        else:
            state, progress = checkpoints.resume(abstract)
            dataset.check_counts(progress["clips"])
            iterator.set_state(progress["data"])
            account = Account(**progress["account"])
        done, steps = int(state.step), config.train.steps
        resolved = run_config.write(workdir, config)
        note_end_of_schedule(config.train, done)

        # -------------------------------------------------------------------------------- loop
        log = closing.enter_context(MetricsLog(workdir))
        speed_log = closing.enter_context(MetricsLog(workdir, "throughput.jsonl"))
        board = closing.enter_context(
            tensorboardX.SummaryWriter(
                str(workdir / "tensorboard"), purge_step=done, write_to_disk=distributed.is_main()
            )
        )
        bar = closing.enter_context(
            tqdm.tqdm(
                total=steps,
                initial=min(done, steps),
                desc="train",
                unit="step",
                disable=not distributed.is_main(),
            )
        )
        stop_after = closing.enter_context(stop_requested())
        sampler = Sampler(config, experiment, dataset, vocoder, board)
        on_devices = closing.enter_context(
            OnDevices(iterator, lambda batch: sharding.put_batch(batch, experiment.mesh_rules))
        )
        clips, devices = config.train.batch_size, experiment.mesh_rules.mesh.devices
        peak = chips.peak_flops(devices.flat[0])
        throughput = closing.enter_context(
            Throughput(
                account,
                clips=clips,
                peak_flops=peak and peak * devices.size,
            )
        )
        trace = closing.enter_context(StepTrace(config.profile, workdir / "profile"))

        def report(step: int, metrics: Metrics, times: Future[StepTimes]) -> None:
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not np.isfinite([values["loss"], values["grad_norm"]]).all():
                raise UserError(
                    f"step {step}: the loss is {values['loss']}, the norm of its gradient "
                    f"{values['grad_norm']}; lower train.learning_rate or set "
                    f"train.grad_clip_norm; the last checkpoint is of step {checkpoints.latest}"
                )
            throughput.add(times.result())
            bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if step % config.train.log_every == 0:
                # A bin of flow time that no clip fell into has no loss.
                row = {name: value for name, value in values.items() if np.isfinite(value)}
                log.write({"step": step, **row})
                for name, value in row.items():
                    board.add_scalar(f"train/{name}", value, step)
                # Times differ from run to run and so have a file of their own.
                if speed := throughput.row():
                    bad = {"bad_records": iterator.num_bad}
                    speed_log.write({"step": step, **speed, **bad})
                for name, value in speed.items():
                    board.add_scalar(f"speed/{name}", value, step)

        pending: tuple[int, Metrics, Future[StepTimes]] | None = None

        def settle() -> None:
            nonlocal pending
            if pending:
                report(*pending)
            pending = None

        @contextmanager
        def paused() -> Iterator[None]:
            """With all steps done and reported, and without counting the time as theirs."""
            settle()
            with throughput.aside():
                yield

        def save() -> None:
            with paused():
                progress = {
                    "data": on_devices.get_state(),
                    "clips": dataset.counts,
                    "account": dataclasses.asdict(throughput.account),
                }
                checkpoints.save(done, state, progress, resolved)

        if done < steps:
            # Ahead of time, so that no process waits in a step for one that compiles it: not all
            # connections are that patient.
            of_frames = {
                spec.latent_frames: compiled_step(experiment.of_window(spec), config.codec.latents)
                for spec in input_pipeline.windows(experiment.spec, buckets)
            }
            distributed.wait_for_all("compiled")
        while done < steps and not stop_after(done):
            if trace.starts_with(done + 1):
                with paused():
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
            times = throughput.watch(asked, called, flops, metrics)
            done += 1
            bar.update()
            # Read one step late, so that the next step is under way before we look.
            settle()
            pending = (done, metrics, times)
            if trace.stops_after(done):
                with paused():
                    trace.stop()
            if done % config.train.checkpoint_every == 0:
                save()
            if done % config.train.sample_every == 0:
                with paused():
                    sampler.write(state, done)
            if evaluator and config.eval.every_steps and done % config.eval.every_steps == 0:
                with paused():
                    for name, value in evaluator(experiment, dataset, state).items():
                        board.add_scalar(f"eval/{name}", value, done)
        save()
        minutes, goodput = throughput.elapsed_sec / 60, throughput.goodput
    if not distributed.is_main():
        return done >= steps
    if done < steps:
        print(f"stopped after step {done} of {steps}, saved; the same command goes on from there")
    else:
        print(
            f"trained {done} steps in {minutes:.1f} minutes since the first start, "
            f"goodput {goodput:.0%}"
        )
    return done >= steps


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
