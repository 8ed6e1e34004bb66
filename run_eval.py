"""Evaluate a run: `python run_eval.py --config=configs/demo.py --workdir=runs/demo`."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli, hosts
from vssflow_jax.config import check

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_DISTRIBUTED = hosts.define_flag()
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    del argv
    from vssflow_jax.evaluate import benchmark  # says in one line if its packages are missing

    hosts.start(_DISTRIBUTED.value)
    check(_CONFIG.value)
    benchmark.evaluate_and_print(_CONFIG.value, Path(_WORKDIR.value))


if __name__ == "__main__":
    cli.run(main)
