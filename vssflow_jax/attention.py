"""Attention by the name of an implementation: XLA's own, cuDNN's, or Pallas kernels for TPUs.

Letters: b rows, n query tokens, s key tokens, h query heads, g key/value heads, k head width.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vssflow_jax.sharding import Layout

IMPLEMENTATIONS = ("xla",)


@dataclasses.dataclass(frozen=True)
class Attend:
    """Softmax attention; each key/value head serves h / g neighbouring query heads.

    Attributes:
      implementation: one of `IMPLEMENTATIONS`.
      layout: where the arrays lie; None on one device.
    """

    implementation: str = "xla"
    layout: Layout | None = None

    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, valid: int) -> jax.Array:
        """q [b, n, h, k], k and v [b, s, g, k], whose first `valid` tokens count; [b, n, h, k]."""
        if self.layout:
            q = self.layout.place(q, "batch", "tokens", "heads", None)
            # Every device needs the keys of all tokens for the queries that it has.
            k, v = (self.layout.place(x, "batch", None, "kv_heads", None) for x in (k, v))
        mask = None if valid == k.shape[1] else (jnp.arange(k.shape[1]) < valid)[None, None, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask)
