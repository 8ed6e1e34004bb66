"""Write weights of a run, or imported ones, as a state dict of the reference (docs/weights.md):

python -m vssflow_jax.interop.export_weights --checkpoint=RUN --out=FILE.safetensors
python -m vssflow_jax.interop.export_weights --source=DIR --out=FILE.safetensors
python -m vssflow_jax.interop.export_weights --checkpoint=RUN --adapters --out=FILE.safetensors
"""

from pathlib import Path

import jax
from absl import flags
from flax import nnx
from jax.sharding import SingleDeviceSharding

from vssflow_jax import cli
from vssflow_jax.config import check
from vssflow_jax.models.convert_vssflow import abstract_weights, load, saved_config, to_reference
from vssflow_jax.models.lora import Lora
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.parallel import distributed
from vssflow_jax.run import restore
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import AVERAGED, LAST, WEIGHTS_OF_A_RUN, joined
from vssflow_jax.run.optimizer import keeps_mean
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.weights.mapping import Weights
from vssflow_jax.weights.state_dict import SAFETENSORS, write_state_dict


def of_run(checkpoint: str, which: str = AVERAGED) -> tuple[Weights, Weights, ModelConfig]:
    """Trained and frozen weights of a run, on one device, and the sizes of its network.

    Nothing but the run's folder is needed: neither its codec and vocoder, nor its mesh of devices.

    Args:
      checkpoint: RUN or RUN/checkpoints/STEP.
      which: `AVERAGED`, or `LAST` for those of the last step; those too where no mean is kept.

    Raises:
      UserError: no checkpoint, or it is damaged.
    """
    params, frozen, cfg, lora = _parts_of_run(checkpoint, which)
    return (lora.merged(frozen, params), {}, cfg) if lora else (params, frozen, cfg)


def adapters_of_run(checkpoint: str, which: str = AVERAGED) -> tuple[Weights, Lora]:
    """The adapters that a run has trained, on one device, and their sizes.

    Args:
      checkpoint, which: as for `of_run`.

    Raises:
      UserError: as there, or a run that has trained all of its weights.
    """
    params, _, _, lora = _parts_of_run(checkpoint, which)
    if lora is None:
        raise UserError(f"{checkpoint} has no adapters, only whole weights; leave out --adapters")
    return params, lora


def _parts_of_run(checkpoint: str, which: str) -> tuple[Weights, Weights, ModelConfig, Lora | None]:
    """What a run has trained, what it has not, the sizes of its network, and of its adapters."""
    config, run, step = restore.find(checkpoint, None)
    check(config)
    assert run is not None
    cfg, lora = ModelConfig.from_config(config.model), Lora.from_config(config.train.lora)
    part = which if keeps_mean(config.train) else LAST
    network = nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))
    params, frozen = (nnx.state(network, kind) for kind in (nnx.Param, nnx.Not(nnx.Param)))
    device = SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        {part: nnx.to_pure_dict(params), "frozen": nnx.to_pure_dict(frozen)},
    )
    if lora:
        whole = joined(abstract[part], abstract["frozen"])
        abstract = {part: lora.abstract(abstract[part]), "frozen": whole}
    with Checkpoints(run) as checkpoints:
        found, _ = checkpoints.restore(abstract, step)
    return found[part], found["frozen"], cfg, lora


def of_folder(folder: Path) -> tuple[Weights, Weights, ModelConfig]:
    """All weights of an imported folder, as `of_run` gives them; none apart as frozen.

    Raises:
      UserError: the folder has none.
    """
    cfg = saved_config(folder)
    return load(folder, cfg, abstract_weights(cfg)), {}, cfg


def check_out(out: Path) -> None:
    """Checks that a state dict can be written there.

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
    if bool(values.checkpoint) == bool(values.source):
        raise UserError("give either --checkpoint or --source")
    out = as_path(values.out)
    check_out(out)
    distributed.start()
    if values.adapters:
        if not values.checkpoint:
            raise UserError("--adapters are those of a run; name it by --checkpoint")
        adapters, lora = adapters_of_run(values.checkpoint, values.weights)
        out.parent.mkdir(parents=True, exist_ok=True)
        lora.write(out, adapters)
        print(f"wrote {out}: adapters of rank {lora.rank}")
        return
    if values.checkpoint:
        found = of_run(values.checkpoint, values.weights)
    else:
        found = of_folder(as_path(values.source))
    state_dict = to_reference(*found)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_state_dict(out, state_dict)
    parameters = sum(tensor.size for tensor in state_dict.values())
    print(f"wrote {out}: {len(state_dict)} tensors, {parameters:,} parameters")
    if values.checkpoint and restore.find(values.checkpoint, None)[0].codec.kind == "patch_dct":
        print(
            "note: the latents that these weights know are of codec 'patch_dct', whose statistics "
            "are in the run, not in the file: evaluate the run itself, or the weights on the "
            "dataset that the run, or the first one it was started from, was trained on"
        )


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "folder of a run, or RUN/checkpoints/STEP")
    flags.DEFINE_alias("workdir", "checkpoint")
    flags.DEFINE_string("source", None, "folder of imported weights")
    flags.DEFINE_enum(
        "weights", AVERAGED, WEIGHTS_OF_A_RUN, "of a run: averaged, or of the last step"
    )
    flags.DEFINE_bool("adapters", False, "write what train.lora learned, not whole weights")
    flags.DEFINE_string("out", None, "safetensors file to write")
    flags.mark_flag_as_required("out")
    cli.run(main)
