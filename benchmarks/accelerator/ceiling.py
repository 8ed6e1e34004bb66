"""How fast the device multiplies matrices: what nothing else here can be faster than."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from benchmarks.accelerator.items import Item, Row
from benchmarks.accelerator.sizes import Scale
from vssflow_jax.parallel.chips import peak_flops


def matmul(scale: Scale) -> Iterator[Item]:
    """Products of bfloat16 matrices [m, k] x [k, n]; the last shape is the base model's own."""
    for shape in scale.products:
        name = " x ".join(map(str, shape))
        yield Item(f"bfloat16 {name}", functools.partial(_product, scale, *shape))


def _product(scale: Scale, m: int, k: int, n: int) -> Row:
    keys = jax.random.split(jax.random.key(0))
    a, b = (
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, ((m, k), (k, n)), strict=True)
    )
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    seconds = scale.clock.seconds(lambda: product(a, b), jax.block_until_ready)
    per_sec = 2 * m * k * n / seconds
    peak = peak_flops(jax.devices()[0])
    return {"ms": 1e3 * seconds, "tflops": per_sec / 1e12, "mfu": peak and per_sec / peak}
