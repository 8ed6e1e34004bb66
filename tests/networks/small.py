"""All networks in small, with random weights, and what to feed them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.helpers import randomised
from vssflow_jax.networks.audiobox import AudioboxConfig
from vssflow_jax.networks.av_hubert import AVHubertConfig
from vssflow_jax.networks.clip_vision import ClipVisionConfig
from vssflow_jax.networks.nisqa import NISQAConfig
from vssflow_jax.networks.passt import PaSSTConfig
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.networks.rawnet3 import SEGMENT, RawNet3Config
from vssflow_jax.networks.synchformer import SynchformerConfig
from vssflow_jax.networks.utmos import UTMOSConfig


class Case(NamedTuple):
    """A network's small sizes, and shapes of an example in small and as published."""

    cfg: Any
    shape: tuple[int, ...]
    published_shape: tuple[int, ...]


CASES = {
    "clip": Case(
        ClipVisionConfig(128, 2, 2, 192, image_size=32),
        shape=(32, 32, 3),
        published_shape=(224, 224, 3),
    ),
    "synchformer": Case(
        SynchformerConfig(128, 2, 2, 192, frames=6, image_size=32),
        shape=(6, 32, 32, 3),
        published_shape=(16, 224, 224, 3),
    ),
    "av_hubert": Case(
        AVHubertConfig(
            width=64,
            layers=2,
            heads=2,
            inner_width=96,
            positional_window=16,
            positional_groups=4,
            channels=(8, 8, 16),
        ),
        shape=(7, 24, 24),
        published_shape=(250, 88, 88),
    ),
    "utmos": Case(
        UTMOSConfig(
            width=32,
            layers=2,
            heads=2,
            inner_width=48,
            positional_window=16,
            positional_groups=4,
            channels=16,
            embedding=8,
            memory=12,
            hidden=24,
        ),
        shape=(1600,),
        published_shape=(80_000,),
    ),
    "audiobox": Case(
        AudioboxConfig(
            width=32,
            layers=2,
            heads=2,
            inner_width=48,
            positional_window=16,
            positional_groups=4,
            buckets=8,
            max_distance=4,
            channels=16,
            hidden=2,
        ),
        shape=(1600,),
        published_shape=(160_000,),
    ),
    "nisqa": Case(
        NISQAConfig(channels=(4, 6, 8), width=16, inner_width=24, hidden=12),
        shape=(32, 48),
        published_shape=(211, 48),
    ),
    "rawnet3": Case(
        RawNet3Config(filters=16, channels=32, scale=4, joined=48, attention=8, embedding=12),
        shape=(SEGMENT // 10,),
        published_shape=(SEGMENT,),
    ),
    "passt": Case(
        PaSSTConfig(128, 2, 2, 192, bands=36, times=56, classes=9),
        shape=(56, 36),
        published_shape=(1000, 128),
    ),
}


def network(kind: str) -> nnx.Module:
    """A small network with random weights."""
    return randomised(lambda: NETWORKS[kind].network(CASES[kind].cfg, rngs=nnx.Rngs(0)))


def examples(kind: str, number: int) -> jax.Array:
    """Noise for it, [number, *shape]."""
    shape = (number, *CASES[kind].shape)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def joined(found: Any) -> jax.Array:
    """What a network makes of examples, side by side where that is several things."""
    return jnp.concatenate(jax.tree.leaves(found), axis=-1)
