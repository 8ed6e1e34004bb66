"""Steps of training: whole ones, and the blocks alone that PyTorch's are held against."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.accelerator.items import Item, Row
from benchmarks.accelerator.sizes import (
    Scale,
    kernels,
    make_experiment,
    random_state,
    random_weights,
)
from vssflow_jax.models.flops import PASSES, transformer_flops
from vssflow_jax.models.transformer import Transformer, TransformerConfig
from vssflow_jax.parallel.chips import peak_flops
from vssflow_jax.plan.memory import peak_bytes
from vssflow_jax.plan.programs import random_batch
from vssflow_jax.train.step import compiled_step, model_flops

LEARNING_RATE = 1e-4


def train(scale: Scale) -> Iterator[Item]:
    """The base model, as the device has it by itself, from few clips to the most that fit."""
    for clips in scale.batches:
        yield _step(scale, "base", clips, ladder="base")


def variants(scale: Scale) -> Iterator[Item]:
    """The base model, one thing changed at a time, where it is not so by itself."""
    plain = make_experiment(scale, "base", scale.middle).model.transformer
    changes: list[dict[str, Any]] = [
        *({"attention": name} for name in kernels(jax.devices()[0].platform)),
        *({"remat": name} for name in ("none", "dots", "full")),
        *({"token_multiple": multiple} for multiple in (1, 256)),
        *({"unroll": blocks} for blocks in sorted({2, plain.layers})),
        {"ema": True},
        {"latents": "online"},
    ]
    for change in changes:
        (field, value), *_ = change.items()
        if getattr(plain, field, None) != value:
            yield _step(scale, "base", scale.middle, **change)


def xl(scale: Scale) -> Iterator[Item]:
    """The largest model of the paper, and with what lets more clips fit."""
    for clips in scale.batches:
        yield _step(scale, "xl", clips, ladder="xl")
    for name in ("dots", "full"):
        yield _step(scale, "xl", scale.middle, remat=name)


def _step(scale: Scale, size: str, clips: int, ladder: str = "", **how: Any) -> Item:
    changed = "".join(f", {name}={value}" for name, value in how.items())
    measure = functools.partial(_measure_step, scale, size, clips, how)
    return Item(f"{size}, {clips} clips{changed}", measure, ladder)


def _measure_step(scale: Scale, size: str, clips: int, how: dict[str, Any]) -> Row:
    experiment, latents = make_experiment(scale, size, clips, **how), how.get("latents", "offline")
    step = compiled_step(experiment, latents)
    state, batch = random_state(experiment), random_batch(experiment.abstract_batch(clips, latents))

    def call() -> Any:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    loss = float(call()["loss"])
    assert jnp.isfinite(loss), f"the loss is {loss}"
    row = _timed(scale, call, model_flops(experiment), clips)
    transformer = experiment.model.transformer
    tokens = transformer.tokens(experiment.spec.latent_frames)
    chosen = f"{transformer.attention}, {tokens} tokens, {experiment.model.dtype}"
    platform = jax.devices()[0].platform
    return {"result": chosen, **row, "gb": peak_bytes(step, platform) / 1e9}


def _timed(scale: Scale, call: Any, flops: float, clips: int) -> Row:
    seconds = scale.clock.seconds(call, jax.block_until_ready)
    peak = peak_flops(jax.devices()[0])
    return {
        "ms": 1e3 * seconds,
        "clips_per_sec": clips / seconds,
        "tflops": flops / seconds / 1e12,
        "mfu": peak and flops / seconds / peak,
    }


# --------------------------------------------------------------------------------- the blocks alone
def blocks(scale: Scale) -> Iterator[Item]:
    """The base model's blocks without what is around them: as many as `torch` does."""
    for clips in {scale.middle: None, scale.batches[0]: None}:
        measure = functools.partial(_measure_blocks, scale, clips)
        yield Item(f"blocks, {clips} clips", measure)


def _measure_blocks(scale: Scale, clips: int) -> Row:
    experiment = make_experiment(scale, "base", clips)
    cfg, frames = experiment.model.transformer, experiment.spec.latent_frames
    dtype = jnp.dtype(experiment.model.dtype)
    compiled, call = blocks_step(cfg, frames, clips, dtype, experiment.mesh_rules.replicated)
    assert jnp.isfinite(call())
    row = _timed(scale, call, PASSES * clips * transformer_flops(cfg, frames), clips)
    memory = peak_bytes(compiled, jax.devices()[0].platform) / 1e9
    return {
        "result": f"JAX, {cfg.attention}, {dtype}",
        **row,
        "gb": memory,
        "pair": blocks_pair(clips),
    }


def blocks_step(
    cfg: TransformerConfig,
    frames: int,
    clips: int,
    dtype: jnp.dtype,
    sharding: jax.sharding.Sharding,
) -> tuple[jax.stages.Compiled, Callable[[], jax.Array]]:
    """A step of AdamW of the blocks alone, compiled, and a function that runs one for its loss.

    Args:
      cfg: sizes.
      frames: t, of a clip.
      clips: b.
      dtype: that it computes in.
      sharding: where weights lie.
    """
    made = nnx.eval_shape(lambda: Transformer(cfg, rngs=nnx.Rngs(0)))
    definition, abstract = nnx.split(made)
    params = random_weights(
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            nnx.to_pure_dict(abstract),
        )
    )
    optimizer = optax.adamw(LEARNING_RATE)
    keys = jax.random.split(jax.random.key(1), 4)
    x, target = (jax.random.normal(key, (clips, frames, cfg.width), dtype) for key in keys[:2])
    context = jax.random.normal(keys[2], (clips, 1 + frames, cfg.context_width), dtype)
    t = jax.random.uniform(keys[3], (clips,))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, *inputs: jax.Array) -> tuple[Any, Any, jax.Array]:
        x, t, context, target = inputs

        def loss(params: Any) -> jax.Array:
            return jnp.mean((nnx.merge(definition, params)(x, t, context) - target) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    compiled = step.lower(params, state, x, t, context, target).compile()

    def call() -> jax.Array:
        nonlocal params, state
        params, state, value = compiled(params, state, x, t, context, target)
        return value

    return compiled, call


def blocks_pair(clips: int) -> str:
    """What rows of steps of so many clips have as `pair`."""
    return f"blocks {clips}"
