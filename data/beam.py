"""Shards by the workers of an Apache Beam runner (the `beam` extra).

Every worker must see the folder of the dataset and the files of the rows under the paths given, and
have this repository on its path.
"""

import shlex
from collections.abc import Iterator, Sequence

from data.shard_writer import Job, Report, read_report, write_shard
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.optional import require


def run(jobs: Sequence[Job], options: str) -> Iterator[Report]:
    """Write shards by Beam.

    Args:
      jobs: each of them one element of the pipeline.
      options: options of the pipeline, as on a command line: `--runner=FlinkRunner
        --parallelism=64`.

    Raises:
      UserError: Beam is not installed, or the workers wrote to a folder of their own.
    """
    beam = require("apache_beam", "beam")
    pipeline_options = require("apache_beam.options.pipeline_options", "beam")
    try:
        given = shlex.split(options)
    except ValueError as error:
        raise UserError(f"--beam_options={options}: {error}") from error
    with beam.Pipeline(options=pipeline_options.PipelineOptions(given)) as pipeline:
        shards = pipeline | "jobs" >> beam.Create(jobs) | beam.Reshuffle()
        _ = shards | "write" >> beam.Map(_write, plugins.loaded())
    for job in jobs:
        if not job.report_path.exists():
            raise UserError(
                f"{job.path}: the Beam workers did not write it; choose an --out that they share "
                "with this machine"
            )
        yield read_report(job)


def _write(job: Job, modules: str) -> None:
    plugins.load(modules)
    write_shard(job)
