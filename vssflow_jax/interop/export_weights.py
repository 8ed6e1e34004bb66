"""Write weights of a run, or imported ones, as a state dict of the reference (docs/weights.md):

python -m vssflow_jax.interop.export_weights --workdir=RUN --config=CONFIG --out=FILE.safetensors
python -m vssflow_jax.interop.export_weights --source=DIR --config=CONFIG --out=FILE.safetensors
"""

from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli, run_files
from vssflow_jax.checkpoint import Checkpoints
from vssflow_jax.errors import UserError
from vssflow_jax.interop.import_weights import check_config
from vssflow_jax.interop.mapping import Weights
from vssflow_jax.interop.state_dict import SAFETENSORS, write_state_dict
from vssflow_jax.interop.vssflow import abstract_weights, load, to_reference
from vssflow_jax.model import ModelConfig
from vssflow_jax.train_step import Recipe

AVERAGED, LAST = "ema", "params"


def of_run(
    workdir: Path, config: ml_collections.ConfigDict, which: str = AVERAGED
) -> tuple[Weights, Weights]:
    """Trained and frozen weights of the newest checkpoint of a run.

    Args:
      workdir: of the run.
      config: of the run.
      which: `AVERAGED`, or `LAST` for those of the last step.

    Raises:
      UserError: no checkpoint, or another config's.
    """
    run_files.check(workdir, config)
    with Checkpoints(workdir) as checkpoints:
        state, _ = checkpoints.restore(Recipe.from_config(config).abstract_state())
    return {AVERAGED: state.averaged, LAST: state.params}[which], state.frozen


def of_folder(folder: Path, cfg: ModelConfig) -> tuple[Weights, Weights]:
    """All weights of an imported folder, as `of_run` gives them; none apart as frozen.

    Raises:
      UserError: the folder has none, or those of another model.
    """
    return load(folder, cfg, abstract_weights(cfg)), {}


def check_out(out: Path) -> None:
    """See that a state dict can be written there.

    Raises:
      UserError: the file is there, or its name ends otherwise.
    """
    if out.suffix != SAFETENSORS:
        raise UserError(f"--out is {out}; its name must end in {SAFETENSORS}")
    if out.exists():
        raise UserError(f"{out} is there already; choose another --out or remove it")


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    if (values.workdir is None) == (values.source is None):
        raise UserError("give either --workdir or --source")
    out = Path(values.out)
    check_out(out)
    check_config("vssflow", values.config)
    cfg = ModelConfig.from_config(values.config.model)
    if values.workdir:
        trained, frozen = of_run(Path(values.workdir), values.config, values.weights)
    else:
        trained, frozen = of_folder(Path(values.source), cfg)
    state_dict = to_reference(trained, frozen, cfg)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_state_dict(out, state_dict)
    parameters = sum(tensor.size for tensor in state_dict.values())
    print(f"wrote {out}: {len(state_dict)} tensors, {parameters:,} parameters")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "folder of a run")
    flags.DEFINE_string("source", None, "folder of imported weights")
    flags.DEFINE_enum(
        "weights", AVERAGED, [AVERAGED, LAST], "of a run: averaged, or of the last step"
    )
    flags.DEFINE_string("out", None, "safetensors file to write")
    config_flags.DEFINE_config_file("config", None, "of the weights", lock_config=True)
    flags.mark_flags_as_required(["config", "out"])
    cli.run(main)
