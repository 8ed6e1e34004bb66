"""A frozen network on all local devices: rows of examples in batches of a few sizes.

Letters: n rows.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vssflow_jax.networks import av_hubert, clip_vision, published, synchformer
from vssflow_jax.networks.published import NETWORKS

_NORMALISE: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "clip": clip_vision.normalise,
    "synchformer": synchformer.normalise,
    "av_hubert": av_hubert.normalise,
    "rawnet3": jnp.asarray,
    "utmos": jnp.asarray,
    "passt": jnp.asarray,
}
"""Kind -> what its rows go through first."""

_ROWS = {"clip": 64, "synchformer": 16, "av_hubert": 2, "rawnet3": 20, "utmos": 8, "passt": 4}
"""Kind -> rows that a device computes at once: some hundred megabytes of activations."""

_AXIS = "data"


def function(kind: str, definition: nnx.GraphDef[Any], dtype: str) -> Callable[..., Any]:
    """Of weights and rows as `Spread` gets them, what a network makes of the rows."""

    def apply(weights: nnx.State, first: jax.Array, *others: jax.Array) -> Any:
        network: Any = nnx.merge(definition, weights)
        return network(_NORMALISE[kind](first), dtype, *others)

    return apply


class Spread:
    """A network whose weights are whole on every local device, and whose rows are shared out."""

    def __init__(self, kind: str, network: nnx.Module, dtype: str):
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), (_AXIS,), (AxisType.Auto,), devices=devices)
        rows = NamedSharding(mesh, PartitionSpec(_AXIS))
        definition, weights = nnx.split(network)
        apply = function(kind, definition, dtype)
        self._weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))
        self._least, self._most = len(devices), _ROWS[kind] * len(devices)
        self._rows = rows
        self._apply = jax.jit(apply, out_shardings=rows)
        self._shape = functools.partial(jax.eval_shape, apply, self._weights)

    @classmethod
    @functools.cache
    def load(cls, kind: str, path: Path, dtype: str) -> "Spread":
        """With the weights of a folder or file, which are read once a process.

        Args:
          kind: a key of `NETWORKS`.
          path: see `vssflow_jax.networks.published.load`.
          dtype: that it computes in.

        Raises:
          UserError: they cannot be had.
        """
        assert kind in NETWORKS, kind
        return cls(kind, published.load(kind, path), dtype)

    def __call__(self, *inputs: np.ndarray) -> Any:
        """What the network makes of rows, float32 [n, ...], or a tuple of such; n may be 0.

        Args:
          *inputs: its arguments but for the dtype, each [n, ...], the first as bytes where it is
            of pictures.
        """
        total = len(inputs[0])
        made = []
        for start in range(0, total, self._most):
            part = [array[start : start + self._most] for array in inputs]
            own = operator.itemgetter(slice(len(part[0])))  # The others are padding.
            made.append(jax.tree.map(own, self._apply(self._weights, *map(self._placed, part))))
        if made:
            return jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(made))
        one = [jax.ShapeDtypeStruct((self._least, *x.shape[1:]), x.dtype) for x in inputs]
        return jax.tree.map(lambda x: np.zeros((0, *x.shape[1:]), np.float32), self._shape(*one))

    def _placed(self, rows: np.ndarray) -> jax.Array:
        """Rows on the devices, padded to a number that few others are padded to."""
        each = math.ceil(len(rows) / self._least)
        padded = min(self._least * 2 ** math.ceil(math.log2(each)), self._most)
        # Padded with what is there: rows do not know one another.
        padding = np.broadcast_to(rows[:1], (padded - len(rows), *rows.shape[1:]))
        return jax.device_put(np.concatenate([rows, padding]), self._rows)
