"""Frozen networks on all local devices: rows of examples in batches of a few sizes.

Letters: n rows.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vssflow_jax.networks import (
    av_hubert,
    clip_vision,
    imagebind,
    published,
    synchformer,
    synchformer_sound,
)


class Use(NamedTuple):
    """What a network is used for.

    Attributes:
      kind: of the network, a key of `NETWORKS`.
      rows: that a device computes at once: some hundred megabytes of activations.
      prepare: what its rows go through first, on the device.
      method: of the network, that is called.
    """

    kind: str
    rows: int
    prepare: Callable[[jax.Array], jax.Array] = jnp.asarray
    method: str = "__call__"


USES: Mapping[str, Use] = {
    "clip": Use("clip", 64, method="of_pictures"),
    "synchformer": Use("synchformer", 16, synchformer.normalise),
    "av_hubert": Use("av_hubert", 2, av_hubert.normalise),
    "rawnet3": Use("rawnet3", 20),
    "rawnet3_sound": Use("rawnet3", 4),
    "utmos": Use("utmos", 8),
    "audiobox": Use("audiobox", 4),
    "nisqa": Use("nisqa", 8),
    "passt": Use("passt", 4),
    "clap_sound": Use("clap", 16, method="sound"),
    "clap_text": Use("clap", 64, method="text"),
    "imagebind_sound": Use("imagebind", 16, imagebind.log_mels, "sound"),
    "imagebind_video": Use("imagebind", 8, clip_vision.normalise, "vision"),
    "synchformer_sound": Use("synchformer_sound", 32, synchformer_sound.log_mels),
    "syncnet_sound": Use("syncnet", 256, method="sound"),
    "syncnet_video": Use("syncnet", 16, method="picture"),
}
"""Name -> use; one that is called like its network is that by encoders, or the only one."""

_AXIS = "data"


def function(name: str, definition: nnx.GraphDef[Any], dtype: str) -> Callable[..., Any]:
    """Of weights and rows as `Spread` gets them, what a network makes of the rows."""
    use = USES[name]
    # float32 means that, on TPUs too, whose products are of bfloat16 where nothing is said.
    precision = "highest" if dtype == "float32" else "default"

    def apply(weights: nnx.State, first: jax.Array, *others: jax.Array) -> Any:
        network: Any = nnx.merge(definition, weights)
        with jax.default_matmul_precision(precision):
            return getattr(network, use.method)(use.prepare(first), dtype, *others)

    return apply


class Spread:
    """A function of weights and rows on all local devices, which share the rows.

    Args:
      apply: of weights, and of arrays whose rows [n, ...] do not know one another; gives arrays of
        as many rows, nested as it likes.
      weights: which are whole on every device.
      rows: that a device computes at once.
    """

    def __init__(self, apply: Callable[..., Any], weights: Any, rows: int):
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), (_AXIS,), (AxisType.Auto,), devices=devices)
        self._rows = NamedSharding(mesh, PartitionSpec(_AXIS))
        self._weights = jax.device_put(weights, NamedSharding(mesh, PartitionSpec()))
        self._least, self._most = len(devices), rows * len(devices)
        # Each device by itself: loops end where its own rows do, and nothing travels.
        self._apply = jax.jit(
            jax.shard_map(
                lambda weights, inputs: apply(weights, *inputs),
                mesh=mesh,
                in_specs=(PartitionSpec(), PartitionSpec(_AXIS)),
                out_specs=PartitionSpec(_AXIS),
                check_vma=False,
            )
        )
        self._shape = functools.partial(jax.eval_shape, apply, self._weights)

    @classmethod
    @functools.cache
    def load(cls, name: str, path: Path, dtype: str = "float32") -> "Spread":
        """A network with the weights of a folder or file, which are read once a process.

        Args:
          name: a key of `USES`.
          path: see `vssflow_jax.networks.published.load`.
          dtype: that it computes in.

        Raises:
          UserError: they cannot be had.
        """
        definition, weights = nnx.split(published.load(USES[name].kind, path))
        return cls(function(name, definition, dtype), weights, USES[name].rows)

    def __call__(self, *inputs: np.ndarray) -> Any:
        """What the function makes of rows, as many of it; there may be none.

        Args:
          *inputs: arrays of rows, each [n, ...]; of a network its arguments but for the dtype, the
            first as bytes where it is of pictures.
        """
        total = len(inputs[0])
        made = []
        for start in range(0, total, self._most):
            part = [array[start : start + self._most] for array in inputs]
            found = self._apply(self._weights, tuple(map(self._placed, part)))
            made.append(jax.tree.map(operator.itemgetter(slice(len(part[0]))), found))
        if made:
            return jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(made))
        one = [jax.ShapeDtypeStruct((self._least, *x.shape[1:]), x.dtype) for x in inputs]
        return jax.tree.map(lambda x: np.zeros((0, *x.shape[1:]), x.dtype), self._shape(*one))

    def _placed(self, rows: np.ndarray) -> jax.Array:
        """Rows on the devices, padded to a number that few others are padded to."""
        each = math.ceil(len(rows) / self._least)
        padded = min(self._least * 2 ** math.ceil(math.log2(each)), self._most)
        # Padded with what is there: rows do not know one another.
        padding = np.broadcast_to(rows[:1], (padded - len(rows), *rows.shape[1:]))
        return jax.device_put(np.concatenate([rows, padding]), self._rows)
