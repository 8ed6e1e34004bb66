"""The HiFi-GAN vocoder: log-mel to waveform by transposed convolutions.

The network is `SpeechT5HifiGan` of transformers (Kong et al. 2020, arXiv 2010.05646; REFERENCE
section 2). `vssflow_jax.audio.convert_hifigan` loads its weights.

Letters: b clips, n frames, m mel bands, d feature maps. Feature maps are [b, n, d].
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vssflow_jax.utils.errors import UserError

MODEL_TYPES = ("speecht5_hifigan", "hifigan")  # the latter as AudioLDM 2's file has it
ARCHITECTURE = "SpeechT5HifiGan"
OUTER_KERNEL = 7  # of the first and the last convolution
LAST_SLOPE = 0.01  # of the LeakyReLU before the last convolution, whatever the config says

_SAME_LENGTHS = (
    ("upsample_rates", "upsample_kernel_sizes"),
    ("resblock_kernel_sizes", "resblock_dilation_sizes"),
)


@dataclasses.dataclass(frozen=True)
class HifiGanConfig:
    """Sizes of the vocoder, under their names in a Hugging Face `config.json`.

    The defaults are those of AudioLDM and of AudioLDM 2.
    """

    model_in_dim: int = 64
    sampling_rate: int = 16_000
    upsample_initial_channel: int = 1024
    upsample_rates: tuple[int, ...] = (5, 4, 2, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 8, 4, 4)
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    leaky_relu_slope: float = 0.1
    normalize_before: bool = False

    @property
    def hop(self) -> int:
        """Samples per mel frame."""
        return math.prod(self.upsample_rates)

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> "HifiGanConfig":
        """From the contents of the `config.json` beside a transformers checkpoint.

        Raises:
          UserError: the model is another one, or a size is missing or contradicts another.
        """
        found, architectures = config.get("model_type"), config.get("architectures")
        if found not in MODEL_TYPES or ARCHITECTURE not in (architectures or [ARCHITECTURE]):
            raise UserError(
                f"config.json of the vocoder: model_type is {found!r} and architectures are "
                f"{architectures}, but only {ARCHITECTURE} is supported"
            )
        names = [field.name for field in dataclasses.fields(cls)]
        for name in names:
            if name not in config:
                raise UserError(f"config.json of the vocoder has no '{name}'; take a complete one")
        for one, other in _SAME_LENGTHS:
            if len(config[one]) != len(config[other]):
                raise UserError(
                    f"config.json of the vocoder: {one} has {len(config[one])} entries and {other} "
                    f"{len(config[other])}; they must have as many"
                )
        return cls(**{name: _as_tuples(config[name]) for name in names})


class HifiGan(nnx.Module):
    """Log-mel [b, n, m] to waveform [b, samples] within [-1, 1], in float32.

    There are `hop` samples per frame, and a few more at the end where kernel size and rate of an
    upsampling differ by an odd number: 32 for AudioLDM 2's 16 kHz vocoder.
    """

    def __init__(self, cfg: HifiGanConfig, *, rngs: nnx.Rngs):
        self.slope = cfg.leaky_relu_slope
        self.normalize_before = cfg.normalize_before
        if cfg.normalize_before:
            self.mean = nnx.Param(jnp.zeros(cfg.model_in_dim))
            self.scale = nnx.Param(jnp.ones(cfg.model_in_dim))
        width = cfg.upsample_initial_channel
        self.conv_pre = nnx.Conv(cfg.model_in_dim, width, OUTER_KERNEL, rngs=rngs)
        self.stages = nnx.List(
            Stage(cfg, width // 2**i, rate, kernel_size, rngs=rngs)
            for i, (rate, kernel_size) in enumerate(
                zip(cfg.upsample_rates, cfg.upsample_kernel_sizes, strict=True)
            )
        )
        self.conv_post = nnx.Conv(width // 2 ** len(self.stages), 1, OUTER_KERNEL, rngs=rngs)

    def __call__(self, log_mel: jax.Array) -> jax.Array:
        if self.normalize_before:
            log_mel = (log_mel - self.mean) / self.scale
        x = self.conv_pre(log_mel)
        for stage in self.stages:
            x = stage(x)
        x = self.conv_post(nnx.leaky_relu(x, LAST_SLOPE))  # [b, samples, 1]
        return jnp.tanh(x[..., 0])


class Stage(nnx.Module):
    """Upsampling by `rate`, then the mean of residual blocks of several receptive fields.

    [b, n, d] -> [b, about n * rate, d / 2].
    """

    def __init__(
        self, cfg: HifiGanConfig, width_in: int, rate: int, kernel_size: int, *, rngs: nnx.Rngs
    ):
        self.slope = cfg.leaky_relu_slope
        width = width_in // 2
        self.upsampler = transposed_conv(width_in, width, kernel_size, rate, rngs=rngs)
        self.resblocks = nnx.List(
            ResidualBlock(width, kernel_size, dilations, cfg.leaky_relu_slope, rngs=rngs)
            for kernel_size, dilations in zip(
                cfg.resblock_kernel_sizes, cfg.resblock_dilation_sizes, strict=True
            )
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.upsampler(nnx.leaky_relu(x, self.slope))
        return jnp.mean(jnp.stack([block(x) for block in self.resblocks]), axis=0)


class ResidualBlock(nnx.Module):
    """Pairs of a dilated and a plain convolution, a residual around each pair."""

    def __init__(
        self,
        width: int,
        kernel_size: int,
        dilations: tuple[int, ...],
        slope: float,
        *,
        rngs: nnx.Rngs,
    ):
        self.slope = slope
        self.convs1 = nnx.List(
            nnx.Conv(width, width, kernel_size, kernel_dilation=dilation, rngs=rngs)
            for dilation in dilations
        )
        self.convs2 = nnx.List(nnx.Conv(width, width, kernel_size, rngs=rngs) for _ in dilations)

    def __call__(self, x: jax.Array) -> jax.Array:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            inner = dilated(nnx.leaky_relu(x, self.slope))
            x = x + plain(nnx.leaky_relu(inner, self.slope))
        return x


def transposed_conv(
    width_in: int, width: int, kernel_size: int, rate: int, *, rngs: nnx.Rngs
) -> nnx.Conv:
    """Upsampling as PyTorch's `ConvTranspose1d` with padding (kernel_size - rate) // 2 does it.

    It is a convolution of the input with `rate - 1` zeros between its frames. PyTorch stores the
    kernel the other way round in time.
    """
    padding = kernel_size - 1 - (kernel_size - rate) // 2
    return nnx.Conv(width_in, width, kernel_size, input_dilation=rate, padding=padding, rngs=rngs)


def _as_tuples(value: Any) -> Any:
    """Lists of JSON as tuples, which a frozen config can hold."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
