"""Conditions in, sound out: the sampler and the decoder as one jitted function.

The noise of a clip depends on the seed and the clip's name alone, so that a clip sounds the same in
any batch, in any order, on any number of devices.
"""

import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from vssflow_jax import sampling
from vssflow_jax.audio import codec
from vssflow_jax.conditions import Conditioning
from vssflow_jax.errors import UserError
from vssflow_jax.flow import Velocity
from vssflow_jax.model import VSSFlow
from vssflow_jax.train_step import Batch, Recipe, TrainState

Generate = Callable[[TrainState, Batch, jax.Array], jax.Array]


def clip_noise(seed: int, clip_ids: Sequence[str], frames: int, channels: int) -> jax.Array:
    """Starting noise x_0 of each clip, float32 [b, t, c]."""
    key = jax.random.key(seed)
    names = jnp.array([zlib.crc32(clip_id.encode()) for clip_id in clip_ids], jnp.uint32)

    def noise(name: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, name), (frames, channels))

    return jax.vmap(noise)(names)


def make_generate(recipe: Recipe, sampler: ml_collections.ConfigDict) -> Generate:
    """A jitted function from (state, features, noise [b, t, c]) to log-mels [b, n, m].

    Args:
      recipe: of the run whose averaged weights are used.
      sampler: `method`, `steps` and `guidance`.

    Raises:
      UserError: an unknown method.
    """
    if sampler.method not in sampling.SOLVERS:
        known = ", ".join(sampling.SOLVERS)
        raise UserError(f"sampler.method is '{sampler.method}'; choose one of: {known}")
    solve = sampling.SOLVERS[sampler.method]
    definition, _, _ = recipe.abstract_model()

    @jax.jit
    def generate(state: TrainState, features: Batch, noise: jax.Array) -> jax.Array:
        model = nnx.merge(definition, state.ema, state.frozen)
        velocity = guided(model, model.encode(features), sampler.guidance)
        return codec.decode(state.codec, solve(velocity, noise, sampler.steps))

    return generate


def guided(model: VSSFlow, conditioning: Conditioning, weight: float) -> Velocity:
    """Classifier-free guidance v_u + w (v_c - v_u), both passes as one doubled batch.

    Each clip has two neighbouring rows, so that the doubled batch is sharded as the clips are.
    """

    def with_unconditional(rows: jax.Array) -> jax.Array:
        both = jnp.stack([rows, jnp.zeros_like(rows)], axis=1)  # [b, 2, ...]
        return both.reshape(-1, *rows.shape[1:])

    frames, context, token = conditioning
    doubled = Conditioning(
        with_unconditional(frames), context, None if token is None else with_unconditional(token)
    )

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        both = model(jnp.repeat(x, 2, axis=0), jnp.repeat(t, 2), doubled)  # [2 b, t, c]
        given, free = jnp.moveaxis(both.reshape(-1, 2, *x.shape[1:]), 1, 0)
        return free + weight * (given - free)

    return velocity
