"""The KL autoencoder of AudioLDM: between a log-mel and the latent that the flow models.

The network is `AutoencoderKL` of diffusers, fed the log-mel as an image of one channel (Liu et al.
2023, arXiv 2301.12503; REFERENCE section 2). `vssflow_jax.audio.convert_autoencoder` loads its
weights.

Letters: b clips, n mel frames, m mel bands, t latent frames, c flow channels, d feature maps.
Inside, feature maps are [b, frames, bands, d].
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vssflow_jax.audio import mel
from vssflow_jax.utils.errors import UserError

NORM_EPSILON = 1e-6
LOG_VARIANCE_RANGE = (-30.0, 20.0)

# Options of config.json that do not change what is computed. The scaling factor is among them: the
# flow takes the latent as it is.
_WITHOUT_EFFECT = ("force_upcast", "sample_size", "scaling_factor")
_AUDIOLDM_SCALE = 0.9227914214134216
# Options of which only one value is computed; it is also what a missing option means.
_FIXED = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "in_channels": 1,
    "out_channels": 1,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder, under their names in a Hugging Face `config.json`.

    The defaults are those of AudioLDM and of AudioLDM 2.
    """

    block_out_channels: tuple[int, ...] = (128, 256, 512)
    layers_per_block: int = 2
    latent_channels: int = 8
    norm_num_groups: int = 32

    @property
    def downsampling(self) -> int:
        """Mel frames per latent frame, and mel bands per latent band."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def flow_channels(self) -> int:
        """Channels of the latent of a log-mel of `mel.BANDS` bands, as the flow sees it, `c`."""
        return self.latent_channels * (mel.BANDS // self.downsampling)

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> "AutoencoderConfig":
        """From the contents of the `config.json` beside a diffusers checkpoint.

        Raises:
          UserError: a size is missing, or an option asks for what is not computed here.
        """
        sizes = {field.name for field in dataclasses.fields(cls)}
        for name in sorted(sizes - set(config)):
            raise UserError(f"config.json of the autoencoder has no '{name}'; take a complete one")
        widths = tuple(config["block_out_channels"])
        fixed = {
            **_FIXED,
            "down_block_types": ["DownEncoderBlock2D"] * len(widths),
            "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        }
        for name, value in config.items():
            if name in fixed:
                value = list(value) if isinstance(value, tuple) else value
                if value != fixed[name]:
                    raise UserError(
                        f"config.json of the autoencoder: {name} is {value!r}, but only "
                        f"{fixed[name]!r} is supported"
                    )
            elif name not in sizes and name not in _WITHOUT_EFFECT and not name.startswith("_"):
                raise UserError(f"config.json of the autoencoder: unknown option '{name}'")
        return cls(**{name: config[name] for name in sizes} | {"block_out_channels": widths})


def warning(options: Mapping[str, Any]) -> str:
    """What to know of the weights beside a `config.json`; "" if nothing.

    AudioLDM and AudioLDM 2 have autoencoders of the same shapes and of other latents, which their
    scaling factors tell apart. The reference's are AudioLDM 2's.
    """
    if abs(options.get("scaling_factor", 0.0) - _AUDIOLDM_SCALE) > 1e-3:
        return ""
    return (
        f"this is the autoencoder of AudioLDM (scaling_factor {_AUDIOLDM_SCALE:.4f}); weights of "
        "the reference know the latents of AudioLDM 2 (0.4111), whose folder looks the same"
    )


class Posterior(NamedTuple):
    """What an encoder knows of a latent: a Gaussian, independent in each number, or the latent."""

    mean: jax.Array  # [b, t, c]
    log_variance: jax.Array | None  # [b, t, c]; None where the mean is the latent itself

    @property
    def deviation(self) -> jax.Array:
        assert self.log_variance is not None
        return jnp.exp(self.log_variance / 2)

    def sample(self, noise: jax.Array) -> jax.Array:
        """The latent [b, t, c] that standard normal noise [b, t, c] picks."""
        return self.mean if self.log_variance is None else self.mean + self.deviation * noise


def to_flow(maps: jax.Array) -> jax.Array:
    """[b, t, latent band, latent channel] -> [b, t, c], c = band * latent channels + channel."""
    return maps.reshape(*maps.shape[:2], -1)


def from_flow(latent: jax.Array, latent_channels: int) -> jax.Array:
    """The inverse of `to_flow`."""
    return latent.reshape(*latent.shape[:2], -1, latent_channels)


class Autoencoder(nnx.Module):
    """Log-mel to latent and back, in float32."""

    def __init__(self, cfg: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.latent_channels = latent = cfg.latent_channels
        self.encoder = Encoder(cfg, rngs=rngs)
        self.quant_conv = nnx.Conv(2 * latent, 2 * latent, (1, 1), rngs=rngs)
        self.post_quant_conv = nnx.Conv(latent, latent, (1, 1), rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)

    def encode(self, log_mel: jax.Array) -> Posterior:
        """[b, n, m] -> posterior of [b, t, c]."""
        moments = self.quant_conv(self.encoder(log_mel[..., None]))
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return Posterior(to_flow(mean), to_flow(jnp.clip(log_variance, *LOG_VARIANCE_RANGE)))

    def decode(self, latent: jax.Array) -> jax.Array:
        """[b, t, c] -> [b, n, m]."""
        maps = from_flow(latent, self.latent_channels)
        return self.decoder(self.post_quant_conv(maps))[..., 0]


class Encoder(nnx.Module):
    """[b, n, m, 1] -> [b, t, latent band, 2 * latent channels]."""

    def __init__(self, cfg: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = cfg.block_out_channels, cfg.norm_num_groups
        self.conv_in = _conv3x3(1, widths[0], rngs=rngs)
        self.down_blocks = nnx.List(
            DownBlock(
                widths[max(level - 1, 0)],
                width,
                cfg.layers_per_block,
                groups,
                is_last=level == len(widths) - 1,
                rngs=rngs,
            )
            for level, width in enumerate(widths)
        )
        self.mid_block = MidBlock(widths[-1], groups, rngs=rngs)
        self.conv_norm_out = _norm(widths[-1], groups, rngs=rngs)
        self.conv_out = _conv3x3(widths[-1], 2 * cfg.latent_channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(nnx.silu(self.conv_norm_out(x)))


class Decoder(nnx.Module):
    """[b, t, latent band, latent channel] -> [b, n, m, 1]."""

    def __init__(self, cfg: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = cfg.block_out_channels[::-1], cfg.norm_num_groups
        self.conv_in = _conv3x3(cfg.latent_channels, widths[0], rngs=rngs)
        self.mid_block = MidBlock(widths[0], groups, rngs=rngs)
        self.up_blocks = nnx.List(
            UpBlock(
                widths[max(level - 1, 0)],
                width,
                cfg.layers_per_block + 1,
                groups,
                is_last=level == len(widths) - 1,
                rngs=rngs,
            )
            for level, width in enumerate(widths)
        )
        self.conv_norm_out = _norm(widths[-1], groups, rngs=rngs)
        self.conv_out = _conv3x3(widths[-1], 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(nnx.silu(self.conv_norm_out(x)))


class DownBlock(nnx.Module):
    """Residual blocks, then, but on the last level, a convolution that halves both axes."""

    def __init__(
        self,
        width_in: int,
        width: int,
        layers: int,
        groups: int,
        *,
        is_last: bool,
        rngs: nnx.Rngs,
    ):
        self.resnets = _resnets(width_in, width, layers, groups, rngs=rngs)
        # The zeros are on the far sides only, as PyTorch checkpoints expect.
        far_sides = ((0, 1), (0, 1))
        self.downsampler = (
            None
            if is_last
            else nnx.Conv(width, width, (3, 3), strides=2, padding=far_sides, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.downsampler is None else self.downsampler(x)


class UpBlock(nnx.Module):
    """Residual blocks, then, but on the last level, nearest doubling and a convolution."""

    def __init__(
        self,
        width_in: int,
        width: int,
        layers: int,
        groups: int,
        *,
        is_last: bool,
        rngs: nnx.Rngs,
    ):
        self.resnets = _resnets(width_in, width, layers, groups, rngs=rngs)
        self.upsampler = None if is_last else _conv3x3(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for resnet in self.resnets:
            x = resnet(x)
        if self.upsampler is None:
            return x
        return self.upsampler(x.repeat(2, axis=1).repeat(2, axis=2))


class MidBlock(nnx.Module):
    """Attention over all positions between two residual blocks."""

    def __init__(self, width: int, groups: int, *, rngs: nnx.Rngs):
        self.resnets = _resnets(width, width, 2, groups, rngs=rngs)
        self.attention = Attention(width, groups, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        before, after = self.resnets
        return after(self.attention(before(x)))


class ResnetBlock(nnx.Module):
    """Two convolutions with norm and SiLU before each, and a residual around them."""

    def __init__(self, width_in: int, width: int, groups: int, *, rngs: nnx.Rngs):
        self.norm1 = _norm(width_in, groups, rngs=rngs)
        self.conv1 = _conv3x3(width_in, width, rngs=rngs)
        self.norm2 = _norm(width, groups, rngs=rngs)
        self.conv2 = _conv3x3(width, width, rngs=rngs)
        self.conv_shortcut = (
            None if width_in == width else nnx.Conv(width_in, width, (1, 1), rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        residual = x if self.conv_shortcut is None else self.conv_shortcut(x)
        x = self.conv1(nnx.silu(self.norm1(x)))
        return residual + self.conv2(nnx.silu(self.norm2(x)))


class Attention(nnx.Module):
    """Self-attention of one head over all frames and bands, with a residual around it."""

    def __init__(self, width: int, groups: int, *, rngs: nnx.Rngs):
        self.norm = _norm(width, groups, rngs=rngs)
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, *_, width = x.shape
        positions = self.norm(x).reshape(batch, -1, 1, width)  # [b, positions, one head, d]
        mixed = jax.nn.dot_product_attention(
            self.query(positions), self.key(positions), self.value(positions)
        )
        return x + self.output(mixed.reshape(x.shape))


def _resnets(
    width_in: int, width: int, layers: int, groups: int, *, rngs: nnx.Rngs
) -> nnx.List[ResnetBlock]:
    """`layers` residual blocks, the first of which changes the width."""
    return nnx.List(
        ResnetBlock(width if layer else width_in, width, groups, rngs=rngs)
        for layer in range(layers)
    )


def _conv3x3(width_in: int, width: int, *, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(width_in, width, (3, 3), padding=1, rngs=rngs)


def _norm(width: int, groups: int, *, rngs: nnx.Rngs) -> nnx.GroupNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits where the mean is large.
    return nnx.GroupNorm(width, groups, epsilon=NORM_EPSILON, use_fast_variance=False, rngs=rngs)
