"""How far velocities in bfloat16 are from those in float32, by where the residual is kept:

python benchmarks/precision.py --config=configs/vssflow.py:base

Weights are random, of the size that training starts with, and the output map's are drawn too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from flax import nnx
from ml_collections import config_flags

from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import NUM_IDS
from vssflow_jax.models.layers import fan_in
from vssflow_jax.models.vssflow import Features, ModelConfig, VSSFlow

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment", lock_config=True)
_CLIPS = 2


def main(argv: list[str]) -> None:
    del argv
    cfg = ModelConfig.from_config(_CONFIG.value.model)
    spec = ClipSpec(**_CONFIG.value.clip)
    rng = np.random.default_rng(0)
    frames = spec.latent_frames
    features: Features = {
        name: jnp.asarray(rng.normal(size=(_CLIPS, frames, width)), jnp.float32)
        for name, width in cfg.feature_widths.items()
    }
    features["speaker"] = features["speaker"][:, 0]
    features["phonemes"] = jnp.asarray(rng.integers(1, NUM_IDS, (_CLIPS, frames)))
    x = jnp.asarray(rng.normal(size=(_CLIPS, frames, cfg.latent_channels)), jnp.float32)
    t = jnp.asarray(rng.uniform(size=_CLIPS), jnp.float32)

    @jax.jit
    def weights() -> nnx.State:
        model = VSSFlow(cfg, rngs=nnx.Rngs(0))
        output = model.output.w_io
        output[...] = fan_in(jax.random.key(1), output.shape, jnp.float32)
        return nnx.state(model)

    def velocity(dtype: str, residual_dtype: str) -> np.ndarray:
        transformer = dataclasses.replace(cfg.transformer, residual_dtype=residual_dtype)
        config = dataclasses.replace(cfg, dtype=dtype, transformer=transformer)
        definition = nnx.graphdef(nnx.eval_shape(lambda: VSSFlow(config, rngs=nnx.Rngs(0))))

        @jax.jit
        def run(state: nnx.State) -> jax.Array:
            model = nnx.merge(definition, state)
            return model(x, t, model.encode(features))

        return np.asarray(run(state))

    state = weights()
    exact = velocity("float32", "float32")
    for residual_dtype in ("bfloat16", "float32"):
        error = np.linalg.norm(velocity("bfloat16", residual_dtype) - exact) / np.linalg.norm(exact)
        print(f"residual in {residual_dtype:8}  relative error of the velocity {100 * error:.2f} %")


if __name__ == "__main__":
    app.run(main)
