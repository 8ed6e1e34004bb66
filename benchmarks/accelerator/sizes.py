"""What is measured at which size: the paper's models, or with `--quick` the demo's."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accelerator.items import Clock
from configs import common, demo, vssflow
from vssflow_jax.audio.autoencoder import AutoencoderConfig, Posterior
from vssflow_jax.audio.codec import AutoencoderCodec, Codec
from vssflow_jax.audio.hifigan import HifiGanConfig
from vssflow_jax.models import attention
from vssflow_jax.run.experiment import Experiment, TrainState


class Section(dict):
    """A section of a config where `ml_collections` may not be installed."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclasses.dataclass(frozen=True)
class Scale:
    """All that `--quick` changes.

    Attributes:
      models: "base" and "xl" -> what its config changes of the common one.
      clock: how long is measured.
      products: shapes [m, k, n] of matrix products.
      batches: clips of training steps, the smallest first.
      middle: clips of the steps that differ in one thing.
      generated: clips that are generated, or encoded and decoded, at once.
      autoencoder: sizes of AudioLDM's, or smaller.
      vocoder: sizes of HiFi-GAN's, or smaller.
    """

    models: Mapping[str, Mapping[str, Any]]
    clock: Clock
    products: Sequence[tuple[int, int, int]]
    batches: Sequence[int]
    middle: int
    generated: Sequence[int]
    autoencoder: AutoencoderConfig
    vocoder: HifiGanConfig


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Section:
    """Nested values with changes to some of them."""
    found = Section(values)
    for name, change in changes.items():
        old = values.get(name)
        both = isinstance(old, Mapping) and isinstance(change, Mapping)
        found[name] = merged(old, change) if both else change
    return Section({k: merged(v, {}) if isinstance(v, Mapping) else v for k, v in found.items()})


# Two of its blocks, in a loop: laid out, programs take longer to compile than all else here.
DEMO = merged(
    demo.changes("lip_synch_text", "small"), {"model": {"transformer": {"layers": 2, "unroll": 1}}}
)
FULL = Scale(
    models={size: {"model": {"transformer": vssflow.blocks(size)}} for size in ("base", "xl")},
    clock=Clock(rounds=3, round_sec=0.7),
    products=((4096, 4096, 4096), (8192, 8192, 8192), (16384, 1536, 6144)),
    batches=(16, 64, 128, 256, 512, 1024),
    middle=64,
    generated=(1, 8, 64),
    autoencoder=AutoencoderConfig(),
    vocoder=HifiGanConfig(),
)
QUICK = Scale(
    models={"base": DEMO, "xl": merged(DEMO, {"model": {"transformer": {"layers": 3}}})},
    clock=Clock(rounds=1, round_sec=0.0),
    products=((256, 256, 256), (512, 512, 512), (512, 192, 384)),
    batches=(2,),
    middle=2,
    generated=(2,),
    autoencoder=AutoencoderConfig((8, 8, 8), layers_per_block=1, norm_num_groups=4),
    vocoder=HifiGanConfig(upsample_initial_channel=32),
)


class NoCodec:
    """In place of a codec: latents come from the dataset, and stay latents."""

    fitted = False
    abstract: Mapping[str, Any] = {}

    def encode(self, params: Any, log_mel: jax.Array) -> Posterior:
        """Has no meaning."""
        raise NotImplementedError

    def decode(self, params: Any, latent: jax.Array) -> jax.Array:
        """[b, t, c] -> the same."""
        return latent


def make_experiment(
    scale: Scale,
    size: str,
    batch_size: int,
    *,
    device: jax.Device | None = None,
    latents: str = "offline",
    dtype: str | None = None,
    ema: bool = False,
    **how: Any,
) -> Experiment:
    """An experiment of one device.

    Args:
      scale: sizes.
      size: "base" or "xl".
      batch_size: clips of a step.
      device: the first that JAX has, if None.
      latents: "online" for a step that encodes sounds by an autoencoder.
      dtype: that of the computation; the config's, if None.
      ema: whether a running mean of the weights is kept.
      how: fields of `model.transformer`.
    """
    values = merged(common.values(), scale.models[size])
    changes = {
        "model": {"transformer": how, "dtype": dtype or values.model.dtype},
        "train": {"batch_size": batch_size, "ema_decay": 0.999 if ema else 0.0},
    }
    online = AutoencoderCodec(scale.autoencoder)
    codec: Codec = online if latents == "online" else NoCodec()
    devices = [device or jax.devices()[0]]
    return Experiment.from_config(merged(values, changes), devices=devices, codec=codec)


def random_weights(abstract: Any) -> Any:
    """Noise in the shapes and places of weights, small enough to stay so."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(lambda: _noise(abstract), out_shardings=places)()


def random_state(experiment: Experiment) -> TrainState:
    """A state of random weights before its first step."""

    def make() -> TrainState:
        abstract = experiment.abstract_state
        drawn = {x: _noise(getattr(abstract, x)) for x in ("params", "frozen", "ema", "codec")}
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract)
        return dataclasses.replace(zeros, **drawn)

    return jax.jit(make, out_shardings=experiment.state_shardings)()


def _noise(abstract: Any) -> Any:
    """Each leaf has the first of the same numbers, which costs one draw."""
    most = max((leaf.size for leaf in jax.tree.leaves(abstract)), default=0)
    numbers = 0.02 * jax.random.normal(jax.random.key(0), (most,))
    return jax.tree.map(lambda x: numbers[: x.size].reshape(x.shape).astype(x.dtype), abstract)


def kernels(platform: str) -> list[str]:
    """Implementations of attention that a platform has, XLA's first."""
    return [
        name
        for name, implementation in attention.IMPLEMENTATIONS.items()
        if name != attention.AUTO and implementation.platform in (None, platform)
    ]
