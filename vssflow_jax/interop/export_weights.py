"""Write weights of a run, or imported ones, as a state dict of the reference (docs/weights.md):

python -m vssflow_jax.interop.export_weights --checkpoint=RUN --out=FILE.safetensors
python -m vssflow_jax.interop.export_weights --source=DIR --out=FILE.safetensors
"""

from collections.abc import Collection
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from vssflow_jax import cli, hosts, trained
from vssflow_jax.errors import UserError
from vssflow_jax.interop.mapping import Weights
from vssflow_jax.interop.state_dict import SAFETENSORS, write_state_dict
from vssflow_jax.interop.vssflow import abstract_weights, load, saved_config, to_reference
from vssflow_jax.model import ModelConfig
from vssflow_jax.train_step import AVERAGED, LAST, WEIGHTS_OF_A_RUN, Recipe


def of_run(
    checkpoint: str,
    which: str = AVERAGED,
    given: ml_collections.ConfigDict | None = None,
    overrides: Collection[str] = (),
) -> tuple[Weights, Weights, ModelConfig]:
    """Trained and frozen weights of a run, and the sizes of its network.

    Args:
      checkpoint: RUN or RUN/checkpoints/STEP.
      which: `AVERAGED`, or `LAST` for those of the last step.
      given, overrides: changes of the run's config, as in `run_config.for_use`.

    Raises:
      UserError: no checkpoint, or another config's.
    """
    config, run, step = trained.find(checkpoint, given, overrides)
    recipe = Recipe.from_config(config)
    state = trained.restore(recipe, run, step)
    return {AVERAGED: state.averaged, LAST: state.params}[which], state.frozen, recipe.model


def of_folder(folder: Path) -> tuple[Weights, Weights, ModelConfig]:
    """All weights of an imported folder, as `of_run` gives them; none apart as frozen.

    Raises:
      UserError: the folder has none.
    """
    cfg = saved_config(folder)
    return load(folder, cfg, abstract_weights(cfg)), {}, cfg


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
    if (values.checkpoint is None) == (values.source is None):
        raise UserError("give either --checkpoint or --source")
    out = Path(values.out)
    check_out(out)
    hosts.start()
    if values.checkpoint:
        found = of_run(values.checkpoint, values.weights, values.config, cli.overridden())
    else:
        if values.config is not None:
            raise UserError("--source has the sizes of its weights; leave out --config")
        found = of_folder(Path(values.source))
    state_dict = to_reference(*found)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_state_dict(out, state_dict)
    parameters = sum(tensor.size for tensor in state_dict.values())
    print(f"wrote {out}: {len(state_dict)} tensors, {parameters:,} parameters")


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "folder of a run, or RUN/checkpoints/STEP")
    flags.DEFINE_alias("workdir", "checkpoint")
    flags.DEFINE_string("source", None, "folder of imported weights")
    flags.DEFINE_enum(
        "weights", AVERAGED, WEIGHTS_OF_A_RUN, "of a run: averaged, or of the last step"
    )
    flags.DEFINE_string("out", None, "safetensors file to write")
    config_flags.DEFINE_config_file(
        "config", None, "changes to a run's config; by default the run's own", lock_config=True
    )
    flags.mark_flag_as_required("out")
    cli.run(main)
