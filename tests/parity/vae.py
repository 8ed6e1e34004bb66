"""The KL autoencoder against `vae_small.npz`."""

import itertools
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from flax import nnx

from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.audio import convert_autoencoder
from vssflow_jax.audio.autoencoder import Autoencoder, AutoencoderConfig
from vssflow_jax.weights import mapping

NORM_GROUPS = 4


def check(golden: Golden) -> Iterator[Row]:
    """A row for the posterior's mean, log-variance and deviation, and for the decoded mel."""
    weights = golden.below("w/")
    cfg = config_of(weights)
    model = load(cfg, weights)
    posterior = nnx.jit(Autoencoder.encode)(model, golden["in/mel"][:, 0])
    for key, ours in (
        ("mean", posterior.mean),
        ("logvar", posterior.log_variance),
        ("std", posterior.deviation),
    ):
        yield golden.row(f"out/{key}", as_image(ours, cfg), FORWARD)
    decoded = nnx.jit(Autoencoder.decode)(model, posterior.mean)
    yield golden.row("out/decoded", decoded[:, None], FORWARD)


def config_of(weights: Mapping[str, np.ndarray]) -> AutoencoderConfig:
    """The sizes, read off the shapes of the weights."""
    levels = _count(weights, "encoder.down_blocks.{}.resnets.0.conv1.weight")
    return AutoencoderConfig(
        block_out_channels=tuple(
            len(weights[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"])
            for level in range(levels)
        ),
        layers_per_block=_count(weights, "encoder.down_blocks.0.resnets.{}.conv1.weight"),
        latent_channels=len(weights["post_quant_conv.weight"]),
        norm_num_groups=NORM_GROUPS,
    )


def load(cfg: AutoencoderConfig, weights: Mapping[str, np.ndarray]) -> Autoencoder:
    """An autoencoder with the weights of diffusers'."""

    def make() -> Autoencoder:
        return Autoencoder(cfg, rngs=nnx.Rngs(0))

    rules = convert_autoencoder.rules(cfg, weights.keys())
    abstract = mapping.abstract_weights(make)
    ours, _ = mapping.convert(rules, weights, abstract)
    model = nnx.eval_shape(make)
    nnx.update(model, ours)
    return model


def as_image(latent: jax.Array, cfg: AutoencoderConfig) -> np.ndarray:
    """[b, t, c] -> diffusers' [b, latent channel, t, latent band]."""
    maps = np.reshape(latent, (*latent.shape[:2], -1, cfg.latent_channels))
    return maps.transpose(0, 3, 1, 2)


def _count(weights: Mapping[str, np.ndarray], name: str) -> int:
    """How many weights there are of a name that is numbered from 0."""
    return next(number for number in itertools.count() if name.format(number) not in weights)
