"""Evaluate a model: `python run_eval.py --config=configs/demo.py --workdir=runs/demo`.

Or any checkpoint on any benchmark, into any folder:

python run_eval.py --config=C --checkpoint=RUN/checkpoints/STEP --benchmark=grid --out=DIR
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli, hosts
from vssflow_jax.config import check
from vssflow_jax.errors import UserError
from vssflow_jax.trained import run_and_step

BENCHMARKS = Path(__file__).parent / "configs" / "benchmarks"

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment", lock_config=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "folder of a run, or RUN/checkpoints/STEP")
flags.DEFINE_alias("workdir", "checkpoint")
_BENCHMARK = flags.DEFINE_string(
    "benchmark", "", "name of a file in configs/benchmarks, or the path of one; else the config's"
)
_OUT = flags.DEFINE_string("out", "", "folder of the results; by default RUN/eval")
_DISTRIBUTED = hosts.define_flag()
flags.mark_flags_as_required(["config"])


def main(argv: list[str]) -> None:
    del argv
    # They say in one line if their packages are missing.
    from vssflow_jax.evaluate import benchmark, definition, sweep

    config = _CONFIG.value
    hosts.start(_DISTRIBUTED.value)
    check(config)
    run, step = run_and_step(Path(_CHECKPOINT.value)) if _CHECKPOINT.value else (None, None)
    if run is None and not config.train.init_from:
        raise UserError(
            "no model: name a run by --checkpoint, or imported weights by --config.train.init_from"
        )
    if run is None and not _OUT.value:
        raise UserError("imported weights have no folder of a run: name one for results by --out")
    chosen = definition.load(_BENCHMARK.value or config.eval.benchmark, BENCHMARKS)
    out, replace = (Path(_OUT.value), False) if _OUT.value else (run / "eval", True)
    if sweep.points(config):
        sweep.sweep(config, chosen, out, run, step, replace=replace)
    else:
        metrics = benchmark.evaluate(config, chosen, out, run, step, replace=replace)
        if hosts.is_main():
            benchmark.print_table(metrics, out)


if __name__ == "__main__":
    cli.run(main)
