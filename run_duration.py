"""Train the duration predictor (`configs/duration.py` has the command), or use it.

With `--predict=FILE` nothing is trained: the durations of all clips with speech are written to
FILE, for `--config.data.durations=predicted --config.data.durations_path=FILE` in training.
"""

import json

from absl import flags
from ml_collections import config_flags

from data import build
from vssflow_jax import cli
from vssflow_jax.duration import predict, train
from vssflow_jax.duration.train import DurationExperiment
from vssflow_jax.parallel import distributed
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, write_atomically

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "experiment; by default that of the run in --workdir", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
distributed.define_flags(many=False)
_PREDICT = flags.DEFINE_string("predict", None, "file to write durations to")
flags.mark_flag_as_required("workdir")


def main(argv: list[str]) -> None:
    del argv
    config, workdir = _CONFIG.value, as_path(_WORKDIR.value)
    if config is None:
        raise UserError(f"{workdir} holds no run; name an experiment by --config")
    distributed.start_by_flags()
    if _PREDICT.value:
        durations = predict.predict(config, workdir, overrides=cli.overridden())
        write_atomically(as_path(_PREDICT.value), json.dumps(durations) + "\n")
        print(f"durations of {len(durations)} clips in {_PREDICT.value}")
        return
    # Which sees to the config before data are made.
    build.ensure(config.data, DurationExperiment.from_config(config).spec)
    if train.train(config, workdir):
        predict.evaluate_and_print(config, workdir)


if __name__ == "__main__":
    cli.run(main)
