"""Attention by the name of an implementation: XLA's own, cuDNN's, or Pallas kernels for TPUs.

All compute the same: softmax of q k / sqrt(head width) over the keys that count, times v, where q
and maybe k are rotated by their positions first.

Letters: b rows, n query tokens, s key tokens, h query heads, g key/value heads, k head width.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import flash_attention, splash_attention
from jax.sharding import PartitionSpec

from vssflow_jax.models import short_attention, xla_attention
from vssflow_jax.models.layers import RopeTables, rotate
from vssflow_jax.parallel.sharding import MeshRules
from vssflow_jax.utils.errors import UserError

# q [b, n, h, k], k and v [b, s, g, k], the number of keys that count -> [b, n, h, k]
Kernel = Callable[..., jax.Array]


Tables = RopeTables | None
"""By which queries, or keys, are rotated by their positions; None: they are not."""

_QUERY_AXES = ("batch", "tokens", "heads")
# Every device needs the keys of all tokens for the queries that it has.
_KEY_AXES = ("batch", None, "kv_heads")
_QUERY_TABLE, _KEY_TABLE = ("tokens", None), (None, None)

# Tokens that a TPU kernel takes at once: a multiple of a vector's lanes, up to a size whose scores
# in float32 fit a core's memory several times over.
_LANES = 128
_LARGEST_BLOCK = 512

AUTO = "auto"
"""Leaves the implementation to `fastest`, once the devices are known; until then it is XLA's."""

_CUDNN_DTYPE = "bfloat16"
_CUDNN_OLDEST = 8.0  # compute capability: Ampere
_CUDNN_HEAD_MULTIPLE = 8
_CUDNN_LARGEST_HEAD = 128


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, valid: int) -> jax.Array:
    lengths = None if valid == k.shape[1] else jnp.full(k.shape[0], valid, jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation="cudnn"
    )


def _tpu_flash(q: jax.Array, k: jax.Array, v: jax.Array, valid: int) -> jax.Array:
    scale = 1 / math.sqrt(q.shape[-1])
    shared = q.shape[2] // k.shape[2]
    queries, block_q = _whole_blocks(q)
    keys, block_k = _whole_blocks(jnp.repeat(k, shared, axis=2))
    values, _ = _whole_blocks(jnp.repeat(v, shared, axis=2))
    segments = _segments(queries.shape[2], keys.shape[2], valid)
    mixed = flash_attention.flash_attention(
        queries,
        keys,
        values,
        segment_ids=segments
        and flash_attention.SegmentIds(
            *(jnp.broadcast_to(of_tokens, (len(q), len(of_tokens))) for of_tokens in segments)
        ),
        sm_scale=scale,
        block_sizes=flash_attention.BlockSizes(
            block_b=1,
            block_q=block_q,
            block_k_major=block_k,
            block_k=block_k,
            block_q_major_dkv=block_q,
            block_q_dkv=block_q,
            block_k_major_dkv=block_k,
            block_k_dkv=block_k,
            block_q_dq=block_q,
            block_k_major_dq=block_k,
            block_k_dq=block_k,
        ),
    )
    return _without_padding(mixed, q)


def _tpu_splash(q: jax.Array, k: jax.Array, v: jax.Array, valid: int) -> jax.Array:
    scaled = (q.astype(jnp.float32) / math.sqrt(q.shape[-1])).astype(q.dtype)
    queries, block_q = _whole_blocks(scaled)
    keys, block_k = _whole_blocks(k)
    values, _ = _whole_blocks(v)
    # The kernel knows no rows: those of a batch are to it so many more heads.
    by_head = [x.reshape(-1, *x.shape[2:]) for x in (queries, keys, values)]  # [b h, n, k]
    heads, tokens, _ = by_head[0].shape
    segments = _segments(tokens, keys.shape[2], valid)
    everything = splash_attention.FullMask((tokens, keys.shape[2]))
    attend = splash_attention.make_splash_mha_single_device(
        splash_attention.MultiHeadMask([everything] * heads),
        block_sizes=splash_attention.BlockSizes(
            block_q=block_q,
            block_kv=block_k,
            block_q_dkv=block_q,
            block_kv_dkv=block_k,
            block_q_dq=block_q,
            block_kv_dq=block_k,
        ),
    )
    mixed = attend(*by_head, segments and splash_attention.SegmentIds(*segments))
    return _without_padding(mixed.reshape(queries.shape), q)


def _tpu_short(
    q: jax.Array, k: jax.Array, v: jax.Array, valid: int, of_queries: Tables, of_keys: Tables
) -> jax.Array:
    if short_attention.fits(q, k):
        return short_attention.attention(q, k, v, valid, of_queries, of_keys)
    return _tpu_splash(_rotated(q, of_queries), _rotated(k, of_keys), v, valid)


def _rotated(x: jax.Array, tables: Tables) -> jax.Array:
    return x if tables is None else rotate(x, tables)


def _whole_blocks(x: jax.Array) -> tuple[jax.Array, int]:
    """[b, n, h, k] to [b, h, n', k'], padded to what kernels take; and tokens of a block."""
    _, tokens, _, width = x.shape
    block = min(_round_up(tokens, _LANES), _LARGEST_BLOCK)
    more_tokens = _round_up(tokens, block) - tokens
    more_width = _round_up(width, _LANES) - width if width > _LANES else 0
    return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, more_tokens), (0, more_width))), block


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _segments(queries: int, keys: int, valid: int) -> tuple[jax.Array, jax.Array] | None:
    """Numbers of queries [n] and keys [s], which meet where these are equal; None: all meet."""
    if valid == keys:
        return None
    return jnp.zeros(queries, jnp.int32), jnp.int32(jnp.arange(keys) >= valid)


def _without_padding(mixed: jax.Array, q: jax.Array) -> jax.Array:
    """[b, h, n', k'] back to the shape of q, [b, n, h, k]."""
    return mixed[:, :, : q.shape[1], : q.shape[3]].swapaxes(1, 2)


@dataclasses.dataclass(frozen=True)
class Implementation:
    """A way to compute attention.

    Attributes:
      kernel: computes it on one device.
      platform: the only one that it is for; None if there is none such, which also means that the
        compiler knows how to spread it over devices.
      rotates: whether the kernel rotates queries and keys itself, and is given tables.
    """

    kernel: Kernel
    platform: str | None
    rotates: bool = False


IMPLEMENTATIONS = {
    AUTO: Implementation(xla_attention.attention, None),
    "xla": Implementation(xla_attention.attention, None),
    "cudnn": Implementation(_cudnn, "gpu"),
    "tpu_flash": Implementation(_tpu_flash, "tpu"),
    "tpu_splash": Implementation(_tpu_splash, "tpu"),
    "tpu_short": Implementation(_tpu_short, "tpu", rotates=True),
}


@dataclasses.dataclass(frozen=True)
class Attend:
    """Softmax attention; each key/value head serves h / g neighbouring query heads.

    Those that are for one platform need rows that divide over the devices of the batch.

    Attributes:
      implementation: one of `IMPLEMENTATIONS`.
      mesh_rules: where the arrays lie; None on one device.
    """

    implementation: str = "xla"
    mesh_rules: MeshRules | None = None

    def __call__(
        self,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        valid: int,
        of_queries: Tables = None,
        of_keys: Tables = None,
    ) -> jax.Array:
        """Mixes values by how queries and keys, rotated by their tables, go together.

        Args:
          q: [b, n, h, k].
          k: [b, s, g, k].
          v: [b, s, g, k].
          valid: keys that count, the first ones.
          of_queries: for n tokens.
          of_keys: for s tokens.

        Returns:
          [b, n, h, k].
        """
        implementation = IMPLEMENTATIONS[self.implementation]
        tables: tuple[Tables, ...] = (of_queries, of_keys)
        if not implementation.rotates:
            q, k, tables = _rotated(q, of_queries), _rotated(k, of_keys), ()

        def attend(*arrays: Any) -> jax.Array:
            return implementation.kernel(*arrays[:3], valid, *arrays[3:])

        if self.mesh_rules is None or self.mesh_rules.mesh.size == 1:
            return attend(q, k, v, *tables)
        axes = (_QUERY_AXES, _KEY_AXES, _KEY_AXES)
        if implementation.platform is None:
            q, k, v = (
                self.mesh_rules.constrain(x, *on, None)
                for x, on in zip((q, k, v), axes, strict=True)
            )
            return attend(q, k, v)
        # The compiler cannot look into a kernel: each device runs it on its own rows and heads.
        specs = tuple(self._spec(*on) for on in (*axes, *(_QUERY_TABLE, _KEY_TABLE)[: len(tables)]))

        # Heads lie beside one another on either side, as maps leave and take them.
        def alone(*arrays: Any) -> jax.Array:
            return _beside(attend(*(_apart(x, head_dim) for x in arrays[:3]), *arrays[3:]))

        head_dim = q.shape[-1]
        mixed = jax.shard_map(
            alone,
            mesh=self.mesh_rules.mesh,
            in_specs=specs,
            out_specs=specs[0],
            check_vma=False,  # kernels do not say over which axes their results vary
        )(*map(_beside, (q, k, v)), *tables)
        return _apart(mixed, head_dim)

    def _spec(self, rows: str | None, *others: str | None) -> PartitionSpec:
        """Of an array for `shard_map`, rows over the axes of the mesh that have one device too.

        Over an axis that is not named gradients are summed, which copies them, if no more.
        """
        assert self.mesh_rules
        mesh = self.mesh_rules.mesh
        named, *rest = self.mesh_rules.sharding(rows, *others).spec
        used = {axis for entry in (named, *rest) for axis in _names(entry)}
        alone = [axis for axis in mesh.axis_names if mesh.shape[axis] == 1 and axis not in used]
        return PartitionSpec((*_names(named), *alone), *rest)


def _beside(x: jax.Array) -> jax.Array:
    """[b, n, h, k] -> [b, n, h k]."""
    return x.reshape(*x.shape[:2], -1)


def _apart(x: jax.Array, head_dim: int) -> jax.Array:
    """[b, n, h k] -> [b, n, h, k]."""
    return x.reshape(*x.shape[:2], -1, head_dim)


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The axes in an entry of a `PartitionSpec`."""
    return (entry,) if isinstance(entry, str) else entry or ()


def fastest(mesh_rules: MeshRules, dtype: str, head_dim: int) -> str:
    """The name of the implementation to take on the devices of a layout, if none is named.

    Kernels that write no scores to memory come first: `tpu_short` on TPUs, and `cudnn` on GPUs of
    Nvidia from Ampere on, where it can run. Otherwise it is `xla`. Arguments are those of `check`.
    """
    device = mesh_rules.mesh.devices.flat[0]
    by_platform = {"tpu": "tpu_short"}
    # What AMD's GPUs have for it, such as "gfx90a", is no number.
    capability = re.fullmatch(r"\d+\.\d+", getattr(device, "compute_capability", ""))
    if capability and float(capability[0]) >= _CUDNN_OLDEST:
        by_platform["gpu"] = "cudnn"
    name = by_platform.get(device.platform, "xla")
    return "xla" if _misfit(name, mesh_rules, dtype, head_dim) else name


def check(implementation: str, mesh_rules: MeshRules, dtype: str, head_dim: int) -> None:
    """Checks that an implementation can run on the devices of a layout, which need not be at hand.

    Args:
      implementation: one of `IMPLEMENTATIONS`.
      mesh_rules: mesh and rules of the devices.
      dtype: dtype of queries, keys and values.
      head_dim: k.

    Raises:
      UserError: it cannot.
    """
    if misfit := _misfit(implementation, mesh_rules, dtype, head_dim):
        raise UserError(f"model.transformer.attention is '{implementation}', which {misfit}")


def _misfit(implementation: str, mesh_rules: MeshRules, dtype: str, head_dim: int) -> str:
    """Why an implementation cannot run on the devices of a layout, and a remedy; "" if it can."""
    otherwise = f"set --config.model.transformer.attention={AUTO}"
    needed = IMPLEMENTATIONS[implementation].platform
    if needed is None:
        return ""
    found = mesh_rules.mesh.devices.flat[0].platform
    if found != needed:
        return f"runs on {needed.upper()}s, but the devices are {found.upper()}s; {otherwise}"
    if mesh_rules.rules.get("heads") != mesh_rules.rules.get("kv_heads"):
        return (
            "needs 'heads' and 'kv_heads' on the same mesh axes; change the rules of the "
            f"strategy or {otherwise}"
        )
    if implementation != "cudnn":
        return ""
    if dtype != _CUDNN_DTYPE:
        return (
            f"computes in {_CUDNN_DTYPE}, but model.dtype is '{dtype}'; "
            f"set --config.model.dtype={_CUDNN_DTYPE} or {otherwise}"
        )
    if head_dim > _CUDNN_LARGEST_HEAD or head_dim % _CUDNN_HEAD_MULTIPLE:
        return (
            f"takes a model.transformer.head_dim that is a multiple of {_CUDNN_HEAD_MULTIPLE} up "
            f"to {_CUDNN_LARGEST_HEAD}, not {head_dim}; change it or {otherwise}"
        )
    return ""
