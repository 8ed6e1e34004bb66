"""Evaluate a model: `python run_eval.py --workdir=runs/demo`.

Or any checkpoint on any benchmark, into any folder; or imported weights, which need a config:

python run_eval.py --checkpoint=RUN/checkpoints/STEP --benchmark=grid --out=DIR
python run_eval.py --config=C --config.train.init_from=WEIGHTS --out=DIR
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli
from vssflow_jax.config import check
from vssflow_jax.parallel import distributed
from vssflow_jax.run import compilation_cache, restore
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

BENCHMARKS = Path(__file__).parent / "configs" / "benchmarks"

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "experiment; by default the run's own", lock_config=True
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "folder of a run, or RUN/checkpoints/STEP")
flags.DEFINE_alias("workdir", "checkpoint")
_BENCHMARK = flags.DEFINE_string(
    "benchmark", "", "name of a file in configs/benchmarks, or the path of one; else the config's"
)
_OUT = flags.DEFINE_string("out", "", "folder of the results; by default RUN/eval")
distributed.define_flags()


def main(argv: list[str]) -> None:
    del argv
    # They say in one line if their packages are missing.
    from vssflow_jax.evaluate import benchmark as definition
    from vssflow_jax.evaluate import evaluator, seeds, sweep

    distributed.start_by_flags()
    config, run, step = restore.find(_CHECKPOINT.value, _CONFIG.value, cli.overridden())
    check(config)
    if run:
        compilation_cache.keep_in(run)
    if run is None and not _OUT.value:
        raise UserError("imported weights have no folder of a run: name one for results by --out")
    chosen = definition.load(_BENCHMARK.value or config.eval.benchmark, BENCHMARKS)
    out, replace = (as_path(_OUT.value), False) if _OUT.value else (run / "eval", True)
    if sweep.points(config):
        sweep.sweep(config, chosen, out, run, step, replace=replace)
    else:
        metrics = seeds.evaluate(config, chosen, out, run, step, replace=replace)
        if distributed.is_main():
            evaluator.print_table(metrics, out)


if __name__ == "__main__":
    cli.run(main)
