"""Training, top to bottom: mesh, model, data, restore, loop."""

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vssflow_jax.input_pipeline.prefetch import OnDevices
from vssflow_jax.parallel import distributed, sharding
from vssflow_jax.parallel.stopping import StopAfter, stop_requested
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.local_checkpoints import LocalCheckpoints
from vssflow_jax.train.bad_steps import BadSteps, Rewind
from vssflow_jax.train.evaluators import Evaluator, built_in
from vssflow_jax.train.goodput import Startup
from vssflow_jax.train.metrics import MetricWriter
from vssflow_jax.train.profiler import StepTrace, TraceRequest, trace_requested
from vssflow_jax.train.setup import Run, begin, note_end_of_schedule, progress_of, throughput_of
from vssflow_jax.train.throughput import Throughput
from vssflow_jax.train.watchdog import Watchdog
from vssflow_jax.train.writers import Writers
from vssflow_jax.utils.errors import UserError


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    evaluators: Sequence[Evaluator] = (),
    startup: Startup | None = None,
) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: config of the experiment, as `setup.prepare` returns it.
      workdir: gets `config.json`, `metrics.jsonl`, `held_out.jsonl`, `throughput.jsonl`,
        `bad_steps.jsonl`, `checkpoints/`, what its writers write, and `profile/` if a trace is
        asked for.
      evaluators: called now and then; what they yield is shown by the writers.
      startup: the start of the process until now; by default it begins with this call.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad data, sizes that do not fit the devices, a bad step that is to end the run, a
        full disk.
    """
    startup = startup or Startup()
    with startup.part("dataset"):
        run = Run.open(config, workdir, startup.began_sec, for_test=bool(evaluators))
    with (
        stop_requested() as stop_after,
        trace_requested() as request,
        BadSteps(workdir, config.train, run.clips_of) as bad_steps,
    ):
        while True:
            with suppress(Rewind):
                return _from_newest(run, bad_steps, evaluators, stop_after, request, startup)
            startup = Startup()


def _from_newest(
    run: Run,
    bad_steps: BadSteps,
    evaluators: Sequence[Evaluator],
    stop_after: StopAfter,
    request: TraceRequest,
    startup: Startup,
) -> bool:
    """See `train`.

    Raises:
      Rewind: a bad step asks for the newest checkpoint again.
    """
    config, workdir, experiment, dataset = run.config, run.workdir, run.experiment, run.dataset
    iterator, steps = iter(run.batches), config.train.steps
    iterator.leave_out(bad_steps.batches)
    put = functools.partial(sharding.put_batch, mesh_rules=experiment.mesh_rules)
    with ExitStack() as closing:
        # --------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(
            Checkpoints(workdir, config.train.keep_checkpoints, config.train)
        )
        local = closing.enter_context(LocalCheckpoints(config.train, workdir))
        with startup.part("restore"):
            state, goodput = begin(run, iterator, checkpoints, local, startup.began_sec)
        resolved = run_config.write(workdir, config)
        note_end_of_schedule(config.train, int(state.step))

        # ------------------------------------------------------------------------------ loop
        batches = closing.enter_context(OnDevices(iterator, put))
        throughput = closing.enter_context(throughput_of(config, experiment, goodput, startup))
        writers = closing.enter_context(Writers(workdir, config, int(state.step)))
        writer = closing.enter_context(
            MetricWriter(workdir, throughput, bad_steps, int(state.step), config.train, writers)
        )
        pause = functools.partial(writer.pause, "profile")
        trace = closing.enter_context(
            StepTrace(config.profile, request, workdir / "profile", pause)
        )
        evaluators = [*built_in(config, experiment, dataset, workdir, writers), *evaluators]

        shared = functools.partial(checkpoints.save, config=resolved)

        def save(write: Callable[[int, Any, dict[str, Any]], None] = shared) -> None:
            with writer.pause("save"):
                bad_steps.put()
                writer.put()  # first: rows that a checkpoint is ahead of are never written again
                progress = progress_of(batches, dataset, throughput.goodput)
                write(writer.done, state, progress)
            writer.last_saved = writer.done

        with startup.part("compile"):
            train_steps = run.compiled_steps if writer.done < steps else {}
        watchdog = closing.enter_context(Watchdog(config.train.watchdog_minutes))
        while not writer.reached(steps) and not stop_after(writer.done):
            checkpoints.check()
            trace.before(writer.done + 1)
            asked = time.monotonic()
            try:
                batch = next(batches)
            except (UserError, OSError):
                if jax.process_count() == 1:  # others would not save with this one
                    save()
                raise
            called = time.monotonic()
            marked = jax.profiler.StepTraceAnnotation("train", step_num=writer.done + 1)
            with marked, jax.transfer_guard("disallow"):
                train_step, flops = train_steps[batch["phonemes"].shape[1]]
                state, metrics = train_step(state, batch)
            times = throughput.watch(asked, called, flops, metrics)
            writer.write(batches.number, metrics, times, iterator.num_bad)
            watchdog.step_ended()  # that before this one, which has been reported
            step = writer.done
            trace.after(step)
            if writer.is_due(step, config.train.checkpoint_every):
                save()
            elif writer.is_due(step, config.train.local_checkpoint_every):
                save(local.save)
            for evaluator in evaluators:
                if writer.is_due(step, evaluator.every_steps):
                    with writer.pause("evaluate"), watchdog.pause():
                        values = evaluator(experiment, dataset, state)
                        writers.scalars("eval", writer.done, dict(values))
        save()
    if distributed.is_main():
        print(summary(writer.done, steps, throughput))
    return writer.done >= steps


def summary(done: int, steps: int, throughput: Throughput) -> str:
    """A line on how far training came."""
    if done < steps:
        return f"stopped after step {done} of {steps}, saved; the same command goes on from there"
    return (
        f"trained {done} steps in {throughput.elapsed_sec / 60:.1f} minutes since the first start, "
        f"goodput {throughput.share:.0%}"
    )
