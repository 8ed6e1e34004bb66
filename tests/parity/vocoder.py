"""The HiFi-GAN vocoder against `vocoder_small.npz`."""

from collections.abc import Iterator, Mapping

import jax
import numpy as np
from flax import nnx

from tests.parity.golden import EXACT, FORWARD, Golden, Row
from vssflow_jax.audio import convert_hifigan, mel
from vssflow_jax.audio.hifigan import HifiGan, HifiGanConfig
from vssflow_jax.weights import mapping

RATES = (5, 4, 2, 2, 2)
DILATIONS = (1, 3, 5)
SLOPE = 0.1


def check(golden: Golden) -> Iterator[Row]:
    """A row for the first convolution, the shape after each upsampling, and the waveform."""
    weights = golden.below("w/")
    model = load(config_of(weights), weights)
    x = model.conv_pre(golden["in/mel"])
    yield golden.row("out/conv_pre", channels_first(x), FORWARD)
    for i, stage in enumerate(model.stages):
        shape = channels_first(stage.upsampler(x)).shape
        yield golden.row(f"out/upsampler_{i}_shape", shape, EXACT)
        x = stage(x)
    yield golden.row("out/waveform", model(golden["in/mel"]), FORWARD)


def config_of(weights: Mapping[str, np.ndarray]) -> HifiGanConfig:
    """The sizes: what the shapes of the weights do not tell is the same in all golden data."""
    width, bands, _ = weights["conv_pre.weight"].shape
    upsamplers = [weights[f"upsampler.{i}.weight"] for i in range(len(RATES))]
    blocks = sum(name.endswith("convs1.0.weight") for name in weights) // len(RATES)
    first_stage = [weights[f"resblocks.{i}.convs1.0.weight"] for i in range(blocks)]
    return HifiGanConfig(
        model_in_dim=bands,
        sampling_rate=mel.SAMPLING_RATE,
        upsample_initial_channel=width,
        upsample_rates=RATES,
        upsample_kernel_sizes=tuple(weight.shape[-1] for weight in upsamplers),
        resblock_kernel_sizes=tuple(weight.shape[-1] for weight in first_stage),
        resblock_dilation_sizes=(DILATIONS,) * blocks,
        leaky_relu_slope=SLOPE,
        normalize_before=False,
    )


def load(cfg: HifiGanConfig, weights: Mapping[str, np.ndarray]) -> HifiGan:
    """A vocoder with the weights of transformers'."""

    def make() -> HifiGan:
        return HifiGan(cfg, rngs=nnx.Rngs(0))

    rules = convert_hifigan.rules(cfg, weights.keys())
    abstract = mapping.abstract_weights(make)
    ours, _ = mapping.convert(
        rules, weights, abstract, expected_left_over=convert_hifigan.unused(cfg)
    )
    model = nnx.eval_shape(make)
    nnx.update(model, ours)
    return model


def channels_first(maps: jax.Array) -> np.ndarray:
    """[b, n, d] -> PyTorch's [b, d, n]."""
    return np.swapaxes(maps, 1, 2)
