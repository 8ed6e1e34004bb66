"""Codecs by name: log-mel to latent and back.

waveform -> log-mel -> codec -> latent, and back: latent -> codec -> log-mel -> vocoder -> waveform.
"""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from vssflow_jax.audio import autoencoder, patch_dct
from vssflow_jax.audio.autoencoder import AutoencoderConfig, Posterior
from vssflow_jax.audio.pretrained import AUTOENCODER, folder_of
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

CodecParams = Any  # a tree of arrays
LatentStats = Mapping[str, Sequence[float]]
"""Statistics of a dataset's sounds, as `latent_stats.json` has them (`patch_dct.LatentStats`)."""

LATENTS = ("online", "offline")


class Codec(Protocol):
    """Pure functions of the codec's parameters, which lie in the state of a run.

    Letters: b clips, n mel frames, m mel bands, t latent frames, c flow channels.
    """

    @property
    def fitted(self) -> bool:
        """Whether its parameters are statistics of a dataset."""

    @property
    def abstract(self) -> CodecParams:
        """Shapes of the parameters."""

    def load(self, stats: LatentStats | None) -> CodecParams:
        """The parameters.

        Args:
          stats: statistics of the dataset, if it has any.

        Raises:
          UserError: the codec needs them and there are none, or its weights are not there.
        """

    def encode(self, params: CodecParams, log_mel: jax.Array) -> Posterior:
        """What the codec knows of the latents [b, t, c] of log-mels [b, n, m]."""

    def decode(self, params: CodecParams, latent: jax.Array) -> jax.Array:
        """Log-mels [b, n, m] of latents [b, t, c]."""


class PatchDct:
    """The transform of mel patches, whose parameters are statistics of a dataset's sounds."""

    fitted = True
    abstract = patch_dct.LatentStats(*[jax.ShapeDtypeStruct((LATENT_CHANNELS,), jnp.float32)] * 2)

    def load(self, stats: LatentStats | None) -> CodecParams:
        """See `Codec`."""
        if stats is None:
            raise UserError(
                "codec 'patch_dct' is fitted to the sounds of a dataset, and there is no dataset "
                "with their statistics: name one by --config.data.path (python -m data.build, "
                "given as before, adds them to one of an earlier version), or another codec by "
                "--config.codec.kind"
            )
        return patch_dct.LatentStats(**{k: jnp.asarray(v, jnp.float32) for k, v in stats.items()})

    def encode(self, params: CodecParams, log_mel: jax.Array) -> Posterior:
        """See `Codec`."""
        return Posterior(patch_dct.encode(params, log_mel), None)

    def decode(self, params: CodecParams, latent: jax.Array) -> jax.Array:
        """See `Codec`."""
        return patch_dct.decode(params, latent)


class AutoencoderCodec:
    """An autoencoder of AudioLDM's kind, whatever its weights."""

    fitted = False

    def __init__(self, cfg: AutoencoderConfig):
        self._cfg = cfg
        self._definition = nnx.graphdef(nnx.eval_shape(lambda: AUTOENCODER.make(cfg)))

    @property
    def abstract(self) -> CodecParams:
        """See `Codec`."""
        return AUTOENCODER.abstract(self._cfg)

    def encode(self, params: CodecParams, log_mel: jax.Array) -> Posterior:
        """See `Codec`."""
        return nnx.merge(self._definition, params).encode(log_mel)

    def decode(self, params: CodecParams, latent: jax.Array) -> jax.Array:
        """See `Codec`."""
        return nnx.merge(self._definition, params).decode(latent)


class AudioldmVae(AutoencoderCodec):
    """AudioLDM's autoencoder, from a folder of its weights.

    Raises:
      UserError: the folder is not one.
    """

    def __init__(self, folder: Path):
        super().__init__(AUTOENCODER.read_config(folder))
        self._folder = folder
        _warn(folder)

    def load(self, stats: LatentStats | None) -> CodecParams:
        """See `Codec`."""
        return AUTOENCODER.load(self._folder)


CODECS: dict[str, Callable[["ml_collections.ConfigDict"], Codec]] = {
    "patch_dct": lambda section: PatchDct(),
    "audioldm_vae": lambda section: AudioldmVae(folder_of("codec", section)),
}
"""Kind -> the codec of a config's `codec` section."""


def make_codec(config: "ml_collections.ConfigDict") -> Codec:
    """The codec of a config's `codec` section.

    Raises:
      UserError: its folder of weights is not one.
    """
    return CODECS[config.kind](config)


def latents_digest(config: "ml_collections.ConfigDict") -> str:
    """Tells the weights of a `codec` section's autoencoder, and so its latents, from others."""
    return AUTOENCODER.digest(folder_of("codec", config))


@functools.cache
def _warn(folder: Path) -> None:
    """Says once what to know of an autoencoder's weights."""
    if note := autoencoder.warning(AUTOENCODER.read_options(folder)):
        print(f"warning: {folder}: {note}", file=sys.stderr)
