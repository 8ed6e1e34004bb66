"""Training, top to bottom: mesh, model, data, restore, loop."""

import functools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import jax
import ml_collections

from vssflow_jax.input_pipeline.prefetch import OnDevices
from vssflow_jax.parallel import distributed, sharding
from vssflow_jax.parallel.stopping import stop_requested
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment
from vssflow_jax.train.evaluators import Evaluator, built_in
from vssflow_jax.train.metrics import MetricWriter
from vssflow_jax.train.profiler import StepTrace
from vssflow_jax.train.setup import (
    batches_of,
    begin,
    compiled_steps,
    note_end_of_schedule,
    open_dataset,
    progress_of,
    throughput_of,
)
from vssflow_jax.train.throughput import Throughput
from vssflow_jax.utils.errors import UserError


def train(
    config: ml_collections.ConfigDict, workdir: Path, evaluators: Sequence[Evaluator] = ()
) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: config of the experiment, as `setup.prepare` returns it.
      workdir: gets `config.json`, `metrics.jsonl`, `held_out.jsonl`, `throughput.jsonl`,
        `checkpoints/`, `tensorboard/`, and `profile/` if a trace is asked for.
      evaluators: called now and then; what they yield is shown in TensorBoard.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad data, sizes that do not fit the devices, a loss that is no number, a full disk.
    """
    started_sec = time.time()
    # ------------------------------------------------------------- mesh, model, shardings, data
    experiment = Experiment.from_config(config)
    experiment.check_batch()
    dataset = open_dataset(config, experiment, for_test=bool(evaluators))
    iterator = iter(batches_of(config, experiment, dataset))
    put = functools.partial(sharding.put_batch, mesh_rules=experiment.mesh_rules)
    steps = config.train.steps

    workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        # --------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(Checkpoints(workdir, config.train.keep_checkpoints))
        state, goodput = begin(config, experiment, dataset, iterator, checkpoints, started_sec)
        done = int(state.step)
        resolved = run_config.write(workdir, config)
        note_end_of_schedule(config.train, done)

        # ------------------------------------------------------------------------------ loop
        stop_after = closing.enter_context(stop_requested())
        batches = closing.enter_context(OnDevices(iterator, put))
        throughput = closing.enter_context(throughput_of(config, experiment, goodput))
        writer = closing.enter_context(MetricWriter(workdir, throughput, done, config.train))
        trace = closing.enter_context(StepTrace(config.profile, workdir / "profile", writer.pause))
        evaluators = [*built_in(config, experiment, dataset, workdir, writer), *evaluators]

        def save() -> None:
            with writer.pause():
                writer.put()  # first: rows that a checkpoint is ahead of are never written again
                progress = progress_of(batches, dataset, throughput.goodput)
                checkpoints.save(done, state, progress, resolved)
            writer.last_saved = done

        train_steps = compiled_steps(config, experiment) if done < steps else {}
        while done < steps and not stop_after(done):
            trace.before(done + 1)
            asked = time.monotonic()
            try:
                batch = next(batches)
            except UserError:
                if jax.process_count() == 1:  # others would not save with this one
                    save()
                raise
            called = time.monotonic()
            marked = jax.profiler.StepTraceAnnotation("train", step_num=done + 1)
            with marked, jax.transfer_guard("disallow"):
                train_step, flops = train_steps[batch["phonemes"].shape[1]]
                state, metrics = train_step(state, batch)
            done += 1
            times = throughput.watch(asked, called, flops, metrics)
            writer.write(done, metrics, times, iterator.num_bad)
            trace.after(done)
            if done % config.train.checkpoint_every == 0:
                save()
            for evaluator in evaluators:
                if evaluator.every_steps and done % evaluator.every_steps == 0:
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
