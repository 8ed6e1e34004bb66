"""The diffusion transformer (REFERENCE section 4).

Pre-norm blocks of self-attention, cross-attention and SwiGLU over one time token and t frames. It
takes frames that are already in model width: the reference's input and output 1x1 convolutions are
linear and folded into the maps on either side (`vssflow_jax.models.vssflow`).

Letters: b clips, r rows per clip (2 under guidance), n = 1 + t tokens and what pads them, s context
tokens, d width, h query heads, g key/value heads, k head width, f feed-forward width, e context
width, l layers.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vssflow_jax.models import attention
from vssflow_jax.models.layers import (
    HeadNorm,
    LayerNorm,
    Linear,
    RopeTables,
    fan_in_of,
    product,
    rope_tables,
    weight,
)
from vssflow_jax.parallel.sharding import HOST_MEMORY, MeshRules
from vssflow_jax.utils.errors import UserError

OFFLOAD = "offload_weight_dots"  # keeps what "weight_dots" does, in the memory of the host
# Primitives of matrix products and of kernels, of which JAX's cuDNN is the last two.
_PRODUCTS = ("dot_general", "pallas_call", "dot_product_attention_fwd", "custom_partitioning")
KEEP_ALL = "everything"  # as "none" does, but across blocks that are laid out too
# What the backward pass finds kept of a block's forward pass; the rest it computes again.
REMAT: dict[str, Callable[..., Any] | None] = {
    attention.AUTO: None,  # by the devices, once these are known
    "none": None,  # no rematerialisation: everything is kept
    KEEP_ALL: jax.checkpoint_policies.everything_saveable,
    # Norms and activations, cheap and together larger than all else, are computed again.
    "products": lambda primitive, *_, **__: primitive.name in _PRODUCTS,
    "dots": jax.checkpoint_policies.dots_saveable,
    "weight_dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
    OFFLOAD: jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", HOST_MEMORY),
}

_TOKEN_TILES = {"tpu": 256, "gpu": 256}  # by platform


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the transformer; the defaults are the paper's base model.

    With a `context_width` of 0 there is no context, and the second attention of each block is a
    self-attention too.

    How it is computed does not change what is: `unroll` blocks are laid out in each turn of the
    loop over blocks (all of them: no loop), which takes longer to compile and, on CPUs, less to
    run; `remat` is one of `REMAT`; `attention` one of `attention.IMPLEMENTATIONS`; tokens are
    padded to a multiple of `token_multiple`. What is "auto", and an `unroll` or `token_multiple` of
    0, is chosen by `fitted`.

    The sum that the branches of all blocks add to is kept in `residual_dtype` if that is finer than
    the dtype of the computation: in bfloat16, sums of many rounded branches lose more than any one
    branch does.

    With `qk_norm`, which the reference has not, queries and keys are normed before they are
    rotated, so that scores stay small however large the weights become.
    """

    layers: int = 10
    heads: int = 24
    kv_heads: int = 12
    head_dim: int = 64
    context_width: int = 768
    ffw_multiple: int = 4
    time_features: int = 256
    unroll: int = 0
    remat: str = attention.AUTO
    attention: str = attention.AUTO
    token_multiple: int = 0
    residual_dtype: str = "float32"
    qk_norm: bool = False

    def __post_init__(self) -> None:
        """Raises UserError for sizes that do not go together."""
        for what, size, parts in (
            ("heads", self.heads, self.kv_heads),
            ("head_dim", self.head_dim, 4),  # halves of the rotated half
            ("time_features", self.time_features, 2),
        ):
            if parts < 1 or size < 1 or size % parts:
                raise UserError(
                    f"model.transformer.{what} is {size}; it must be a multiple of {parts}"
                )

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    def tokens(self, frames: int) -> int:
        """The time token, `frames` latent frames, and what pads them."""
        multiple = self.token_multiple or 1
        return -(-(1 + frames) // multiple) * multiple

    def fitted(self, mesh_rules: MeshRules, dtype: str) -> "TransformerConfig":
        """The same with what is left to the devices chosen for those of a layout.

        Args:
          mesh_rules: the layout, of devices that need not be at hand.
          dtype: what blocks compute in.
        """
        chosen = self.attention
        if chosen == attention.AUTO:
            chosen = attention.fastest(mesh_rules, dtype, self.head_dim)
        tile = _TOKEN_TILES.get(mesh_rules.mesh.devices.flat[0].platform, 1)
        multiple = self.token_multiple or math.lcm(tile, mesh_rules.axis_size("tokens"))
        on_cpu = tile == 1
        remat = self.remat
        if remat == attention.AUTO:
            remat = "none" if on_cpu else "products"
        return dataclasses.replace(
            self,
            attention=chosen,
            token_multiple=multiple,
            remat=remat,
            # A loop on a CPU copies the weights of each block, and what it keeps of it.
            unroll=self.unroll or (self.layers if on_cpu else 1),
        )

    @property
    def laid_out(self) -> bool:
        """Whether there is no loop over blocks."""
        return self.unroll >= self.layers

    @property
    def ffw_width(self) -> int:
        return self.ffw_multiple * self.width


class Frozen(nnx.Variable):
    """A weight that is kept with the model but never trained."""


class TimeEmbedding(nnx.Module):
    """Flow time in [0, 1] to a token of model width, by fixed random Fourier features."""

    def __init__(self, cfg: TransformerConfig, *, rngs: nnx.Rngs):
        frequencies = jax.random.normal(rngs.params(), (cfg.time_features // 2,))
        self.frequencies = Frozen(frequencies)
        features, width = cfg.time_features, cfg.width
        self.inner = Linear((features, width), ("features", "embed"), rngs=rngs, bias=True)
        self.outer = Linear((width, width), ("embed_in", "embed"), rngs=rngs, bias=True)

    def __call__(self, t: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """[b] -> [b, d]."""
        angle = 2 * jnp.pi * t[:, None] * self.frequencies[...]
        features = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return self.outer(nnx.silu(self.inner(features.astype(dtype))))


class Attention(nnx.Module):
    """Grouped-query attention without biases; each key/value head serves h / g query heads."""

    def __init__(
        self,
        cfg: TransformerConfig,
        source_width: int,
        kv_heads: int,
        mesh_rules: MeshRules | None,
        *,
        rngs: nnx.Rngs,
    ):
        self.attend = attention.Attend(cfg.attention, mesh_rules)
        queries = (cfg.width, cfg.heads, cfg.head_dim)
        keys = (source_width, kv_heads, cfg.head_dim)
        self.q_dhk = weight(rngs, queries, ("embed", "heads", "head_dim"))
        self.k_egk = weight(rngs, keys, ("embed", "kv_heads", "head_dim"))
        self.v_egk = weight(rngs, keys, ("embed", "kv_heads", "head_dim"))
        out = (cfg.heads, cfg.head_dim, cfg.width)
        self.out_hkd = weight(rngs, out, ("heads", "head_dim", "embed"), fan_in_of(2))
        self.q_norm = HeadNorm(cfg.head_dim, rngs=rngs) if cfg.qk_norm else None
        self.k_norm = HeadNorm(cfg.head_dim, rngs=rngs) if cfg.qk_norm else None

    def __call__(
        self, x: jax.Array, source: jax.Array, valid: int, tables: RopeTables, *, rotate_keys: bool
    ) -> jax.Array:
        """Attend from x [b, n, d] to the first `valid` tokens of source [b, s, e]; [b, n, d]."""
        q = self._into_heads(x, self.q_dhk, "heads")  # [b, n, h, k]
        k = self._into_heads(source, self.k_egk, "kv_heads")  # [b, s, g, k]
        v = self._into_heads(source, self.v_egk, "kv_heads")  # [b, s, g, k]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        mixed = self.attend(q, k, v, valid, tables, tables if rotate_keys else None)  # [b, n, h, k]
        out = self._matrix(self.out_hkd[...].reshape(-1, x.shape[-1]), "heads", "embed")
        return product(mixed.reshape(*x.shape[:-1], -1), out)

    def _into_heads(self, x: jax.Array, weight_dhk: nnx.Param, heads: str) -> jax.Array:
        """[b, n, d] -> [b, n, h, k]."""
        width, *out = weight_dhk.shape
        matrix = self._matrix(weight_dhk[...].reshape(width, -1), "embed", heads)
        return product(x, matrix).reshape(*x.shape[:-1], *out)

    def _matrix(self, matrix: jax.Array, *axes: str) -> jax.Array:
        """A weight as a matrix, told to lie on the mesh where the weight does.

        XLA then keeps the sum of its gradient in parts where the weight is in parts; one of three
        axes it would sum whole on every device, twice the bytes to send.
        """
        rules = self.attend.mesh_rules
        return rules.constrain(matrix, *axes) if rules else matrix


class FeedForward(nnx.Module):
    """SwiGLU: one map times silu of another, and a map back. [..., d] -> [..., d]."""

    def __init__(self, cfg: TransformerConfig, *, rngs: nnx.Rngs):
        width, inner = cfg.width, cfg.ffw_width
        self.value = Linear((width, inner), ("embed", "ffw"), rngs=rngs, bias=True)
        self.gate = Linear((width, inner), ("embed", "ffw"), rngs=rngs, bias=True)
        self.out = Linear((inner, width), ("ffw", "embed"), rngs=rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.value(x) * nnx.silu(self.gate(x)))


class Block(nnx.Module):
    """One pre-norm block with a residual around each of its three branches."""

    def __init__(
        self, cfg: TransformerConfig, mesh_rules: MeshRules | None = None, *, rngs: nnx.Rngs
    ):
        self.norm1 = LayerNorm(cfg.width, rngs=rngs)
        self.self_attention = Attention(cfg, cfg.width, cfg.heads, mesh_rules, rngs=rngs)
        self.norm2 = LayerNorm(cfg.width, rngs=rngs)
        source_width = cfg.context_width or cfg.width
        self.cross_attention = Attention(cfg, source_width, cfg.kv_heads, mesh_rules, rngs=rngs)
        self.norm3 = LayerNorm(cfg.width, rngs=rngs)
        self.ffw = FeedForward(cfg, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        valid: int,
        context: jax.Array | None,
        tables: RopeTables,
        dtype: jnp.dtype,
    ) -> jax.Array:
        """x [b r, n, d], its first `valid` tokens no padding, context [b, s, e] or None; as x.

        The branches compute in `dtype`, which may be coarser than that of x.

        Of the r rows that belong to one clip only the first sees the context. The others are the
        unconditional pass: zero context means zero keys and values, and without biases the branch
        adds exactly nothing, so nothing is computed.
        """
        with jax.named_scope("self_attention"):
            normed = self.norm1(x, dtype)
            x = x + self.self_attention(normed, normed, valid, tables, rotate_keys=True)
        with jax.named_scope("cross_attention"):
            if context is None:
                normed = self.norm2(x, dtype)
                x = x + self.cross_attention(normed, normed, valid, tables, rotate_keys=True)
            else:
                x = self._attend(x, context, tables, dtype)
        with jax.named_scope("feed_forward"):
            return x + self.ffw(self.norm3(x, dtype))

    def _attend(
        self, x: jax.Array, context: jax.Array, tables: RopeTables, dtype: jnp.dtype
    ) -> jax.Array:
        """x [b r, n, d] after the first row of each clip has seen its context [b, s, e]."""
        by_clip = x.reshape(context.shape[0], -1, *x.shape[1:])  # [b, r, n, d]
        # Queries only are rotated here, a habit of the reference that its checkpoints expect.
        attended = self.cross_attention(
            self.norm2(by_clip[:, 0], dtype), context, context.shape[1], tables, rotate_keys=False
        )
        return by_clip.at[:, 0].add(attended).reshape(x.shape)


class Transformer(nnx.Module):
    """A time token and t frames in model width through l blocks; returns the t frames."""

    def __init__(
        self, cfg: TransformerConfig, mesh_rules: MeshRules | None = None, *, rngs: nnx.Rngs
    ):
        self.cfg = cfg
        self.mesh_rules = mesh_rules
        self.time = TimeEmbedding(cfg, rngs=rngs)

        @nnx.split_rngs(splits=cfg.layers)
        @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(cfg, mesh_rules, rngs=rngs)

        self.blocks = stack(rngs)
        self.apart: nnx.List[Block] | None = nnx.data(None)

    def take_apart(self) -> None:
        """Take the weights of blocks apart, once for many calls, if blocks are laid out.

        Otherwise each call does, which on a CPU copies them all.
        """
        if self.cfg.laid_out:
            definition, stacked = nnx.split(self.blocks)
            self.apart = nnx.List(
                nnx.merge(definition, jax.tree.map(operator.itemgetter(number), stacked))
                for number in range(self.cfg.layers)
            )

    def __call__(
        self,
        frames: jax.Array,
        t: jax.Array,
        context: jax.Array | None,
        token: jax.Array | None = None,
    ) -> jax.Array:
        """frames [b r, t, d], flow time [b r], context [b, s, e], token [b r, d] -> [b r, t, d].

        `token`, if there is one, is added to the time token. Blocks compute in the dtype of the
        frames; what is returned is of the residual's.
        """
        dtype = frames.dtype
        first = self.time(t, frames.dtype)  # [b r, d]
        first = first if token is None else first + token
        valid = 1 + frames.shape[1]
        x = jnp.concatenate([first[:, None], frames], axis=1)
        padding = self.cfg.tokens(frames.shape[1]) - valid
        x = jnp.pad(x, ((0, 0), (0, padding), (0, 0)))  # [b r, n, d]
        x = x.astype(jnp.promote_types(dtype, self.cfg.residual_dtype))
        tables = rope_tables(x.shape[1], self.cfg.head_dim)

        def through(block: Block, x: jax.Array) -> jax.Array:
            x = self.mesh_rules.constrain(x, "batch", "tokens", None) if self.mesh_rules else x
            return block(x, valid, context, tables, dtype)

        if self.apart is not None:
            for block in self.apart:
                x = through(block, x)
            return x[:, 1:valid]

        # A plain scan over the stacked weights: unlike `nnx.scan` it may run inside other loops.
        definition, stacked = nnx.split(self.blocks)

        def run(x: jax.Array, weights: nnx.State) -> tuple[jax.Array, None]:
            return through(nnx.merge(definition, weights), x), None

        policy = REMAT[self.cfg.remat]
        if policy:  # Only a loop keeps the compiler from undoing it.
            run = jax.checkpoint(run, policy=policy, prevent_cse=self.cfg.unroll > 1)
        x, _ = jax.lax.scan(run, x, stacked, unroll=self.cfg.unroll or 1)
        return x[:, 1:valid]
