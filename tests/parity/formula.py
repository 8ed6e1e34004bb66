"""Weights and inputs of networks, which their golden data has by a seed and names.

`names` and `shapes` are those of the original's tensors, `kept/NAME` the few of them that are not
made so, and `check/input_sum` tells whether an input came out as it should.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.parity.golden import METRIC, Golden, Row
from vssflow_jax.networks.published import NETWORKS


def network(golden: Golden, kind: str) -> Any:
    """A network with the golden weights, brought in as from its published file."""
    published = NETWORKS[kind]
    tensors = weights(golden)
    cfg = published.sizes(tensors, Path(golden.name))
    made, _ = published.convert(tensors, cfg)
    module = published.make(cfg)
    nnx.update(module, jax.tree.map(jnp.asarray, made))
    return module


def weights(golden: Golden) -> dict[str, np.ndarray]:
    """All tensors of the original, by name."""
    seed = int(golden["seed"])
    drawn = {
        str(name): _weight(seed, str(name), tuple(json.loads(str(shape))))
        for name, shape in zip(golden["names"], golden["shapes"], strict=True)
    }
    return drawn | golden.below("kept/")


def noise(golden: Golden, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What the input of a name is made of."""
    return _normal(int(golden["seed"]), f"input/{name}", shape)


def check_input(golden: Golden, values: np.ndarray) -> Iterator[Row]:
    """A row for the sum of an input."""
    yield golden.row("check/input_sum", values.sum(dtype=np.float64), METRIC)


def _normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.standard_normal(shape, dtype=np.float32)


def _weight(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """By the first rule that fits the name."""
    z = _normal(seed, name, shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return 0.5 + 0.5 * np.abs(z)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * z
    if "token" in name or name.endswith(("pos_embed", "temp_embed")):
        return 0.02 * z
    if "relu" in name or "frontend3D.2" in name:
        return 0.25 + 0.1 * np.abs(z)
    if name.endswith(("weight_g", "alpha")) or len(shape) == 1:
        return 1 + 0.1 * z
    return z / np.sqrt(np.prod(shape[1:])).astype(np.float32)
