"""Make a dataset: `python -m data.build --out=DIR`, or `ensure` from an entry point."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import joblib
import ml_collections
import numpy as np
from absl import flags
from flax import nnx

from data import builder
from data.features import WEIGHTS_FREE
from vssflow_jax import cli, dataset
from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec, fit_length
from vssflow_jax.errors import UserError
from vssflow_jax.interop.pretrained import AUTOENCODER
from vssflow_jax.sound import latents_digest

WITHOUT_LATENTS = ml_collections.FrozenConfigDict({"latents": "online"})


def ensure(
    config: ml_collections.ConfigDict,
    spec: ClipSpec,
    codec: ml_collections.ConfigDict = WITHOUT_LATENTS,
) -> None:
    """Make the dataset that `config` (a `data` section) describes, unless it is there.

    Where `codec` (the section) has its latents offline, what it knows of them is kept too.

    Raises:
      UserError: it cannot be made, or the folder holds the demo set of other settings.
    """
    path = Path(config.path)
    if config.source == "none" or dataset.exists(path):
        if config.source == "demo":
            _check_origin(path, _origin(config, WITHOUT_LATENTS))
        return
    make_demo(config, spec, codec)


def make_demo(
    config: ml_collections.ConfigDict, spec: ClipSpec, codec: ml_collections.ConfigDict
) -> None:
    """Draw and speak the demo clips, extract their features, write the shards."""
    # Imported here: it needs the demo extra, which training on other data does not.
    from data.demo import clips

    if spec.duration_sec != clips.DURATION_SEC:
        raise UserError(
            f"clip.duration_sec is {spec.duration_sec}; demo clips last {clips.DURATION_SEC} s"
        )
    root = Path(config.path)
    workers = joblib.cpu_count()
    manifest = clips.make_demo_clips(root, config.seed, config.num_train, config.num_test, workers)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    posterior = _posterior(codec, spec)
    builder.build(root, rows, WEIGHTS_FREE, spec, posterior, _origin(config, codec), workers)


def _posterior(codec: ml_collections.ConfigDict, spec: ClipSpec) -> builder.Posterior:
    """From the int16 samples of a clip to what is kept of its latents."""
    if codec.latents == "online":
        return builder.without_latents
    folder = Path(codec.path)
    cfg, weights = AUTOENCODER.read_config(folder), AUTOENCODER.load(folder)
    definition = nnx.graphdef(nnx.eval_shape(lambda: AUTOENCODER.make(cfg)))

    @jax.jit
    def encode(waveform: jax.Array) -> jax.Array:
        log_mel = mel.log_mel(waveform, spec.mel_frames)
        known = nnx.merge(definition, weights).encode(log_mel)
        return jnp.concatenate([known.mean, known.log_variance], axis=-1)

    def posterior(samples: np.ndarray) -> np.ndarray:
        waveform = dataset.to_float(fit_length(samples, spec.num_samples))
        return np.asarray(encode(waveform[None])[0])

    return posterior


def _origin(
    config: ml_collections.ConfigDict, codec: ml_collections.ConfigDict
) -> dict[str, int | str]:
    names = ("source", "seed", "num_train", "num_test")
    offline = codec.latents == "offline"
    return {name: config[name] for name in names} | {
        "encoders": repr(WEIGHTS_FREE),
        "latents": latents_digest(codec) if offline else dataset.NO_LATENTS,
    }


def _check_origin(path: Path, wanted: dict[str, int | str]) -> None:
    metadata = path / dataset.NAME / dataset.SCHEMA_VERSION / "metadata.json"
    if not metadata.exists():
        return  # Another schema version, which opening the dataset reports.
    origin = json.loads(metadata.read_text()).get("origin", {})
    # Latents are checked where they are used.
    differing = [name for name, value in wanted.items() if origin.get(name) != value]
    different = [name for name in differing if name != "latents"]
    if origin.get("source") == "demo" and different:
        name = different[0]
        raise UserError(
            f"dataset {path}: made with {name}={origin.get(name)}, the config says "
            f"{wanted[name]}; name another --config.data.path or delete the folder"
        )


def main(argv: list[str]) -> None:
    del argv
    # Imported here: it needs the demo extra, which `ensure` does without where data is there.
    from data.demo import clips

    values = flags.FLAGS
    config = ml_collections.ConfigDict(
        {
            "source": "demo",
            "path": values.out,
            "seed": values.seed,
            "num_train": values.num_train,
            "num_test": values.num_test,
        }
    )
    learned = {"kind": "audioldm_vae", "path": values.vae, "latents": "offline"}
    codec = ml_collections.ConfigDict(learned) if values.vae else WITHOUT_LATENTS
    made = Path(values.out) / dataset.NAME / dataset.SCHEMA_VERSION
    if made.exists():
        raise UserError(f"{made} is there already; choose another --out or delete it")
    make_demo(config, ClipSpec(duration_sec=clips.DURATION_SEC), codec)


if __name__ == "__main__":
    # Defined here, so that they are no flags of the entry points that import this module.
    flags.DEFINE_string("out", "runs/demo-data", "folder of the dataset")
    flags.DEFINE_integer("seed", 0, "seed of the demo clips")
    flags.DEFINE_integer("num_train", 600, "training clips")
    flags.DEFINE_integer("num_test", 60, "test clips")
    flags.DEFINE_string("vae", "", "folder of an autoencoder, to keep latents in the dataset")
    cli.run(main)
