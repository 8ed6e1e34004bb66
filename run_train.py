"""Train: `python run_train.py --config=configs/demo.py --workdir=runs/demo`.

Makes the dataset if the config says how, trains (or goes on from the newest checkpoint), evaluates.
A run goes on by its folder alone, and longer if asked to:

python run_train.py --workdir=runs/demo --config.train.steps=2400
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from data import build
from vssflow_jax import cli
from vssflow_jax.clip import ClipSpec
from vssflow_jax.parallel import distributed
from vssflow_jax.train.goodput import Startup
from vssflow_jax.train.loop import train
from vssflow_jax.train.setup import prepare
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

BENCHMARKS = Path(__file__).parent / "configs" / "benchmarks"

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "experiment; by default that of the run in --workdir", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
distributed.define_flags()
flags.mark_flag_as_required("workdir")


def main(argv: list[str]) -> None:
    del argv
    startup = Startup.of_process()
    config, workdir = _CONFIG.value, as_path(_WORKDIR.value)
    if config is None:
        raise UserError(f"{workdir} holds no run to go on with; name an experiment by --config")
    with startup.part("devices"):
        distributed.start_by_flags()
    config = prepare(config, workdir)
    evaluators = []
    if config.eval.after_training or config.eval.every_steps:
        # Imported here: it needs the video library and the recogniser, which training does not;
        # and imported first, to hear at once if they are missing.
        from vssflow_jax.evaluate import evaluator, seeds
        from vssflow_jax.evaluate.benchmark import load

        benchmark = load(config.eval.benchmark, BENCHMARKS)
        evaluator.check_ready(config, benchmark)
        if config.eval.every_steps:
            evaluators.append(evaluator.InTraining(config, benchmark, workdir))
    with startup.part("dataset"):
        if distributed.is_main():
            build.ensure(config.data, ClipSpec(**config.clip), config.codec)
        distributed.wait_for_all("dataset")
    finished = train(config, workdir, evaluators, startup)
    out = workdir / "eval"
    if finished and config.eval.after_training and not evaluator.is_done(out, config):
        metrics = seeds.evaluate(config, benchmark, out, workdir, replace=True)
        if distributed.is_main():
            evaluator.print_table(metrics, out)


if __name__ == "__main__":
    cli.run(main)
