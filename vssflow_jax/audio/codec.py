"""The sound side of a config by name: the codec that the flow's latents are of, and the vocoder.

waveform -> log-mel -> codec -> latent, and back: latent -> codec -> log-mel -> vocoder -> waveform.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from vssflow_jax.audio import autoencoder, patch_dct
from vssflow_jax.audio.autoencoder import Posterior
from vssflow_jax.audio.pretrained import AUTOENCODER, HIFIGAN, folder_of
from vssflow_jax.clip import LATENT_CHANNELS

CodecParams = Any  # a tree of arrays

PATCH_DCT, AUDIOLDM_VAE = CODECS = ("patch_dct", "audioldm_vae")
LATENTS = ("online", "offline")


@dataclasses.dataclass(frozen=True)
class Codec:
    """Pure functions of the codec's parameters.

    Attributes:
      kind: one of `CODECS`.
      abstract: shapes of the parameters.
      prepare: parameters to train with, given a function that returns a sample of the training
        sounds as log-mels [b, n, m].
      encode: (parameters, log-mels [b, n, m]) to what the codec knows of their latents.
      decode: (parameters, latents [b, t, c]) to log-mels [b, n, m].
    """

    kind: str
    abstract: CodecParams
    prepare: Callable[[Callable[[], jax.Array]], CodecParams]
    encode: Callable[[CodecParams, jax.Array], Posterior]
    decode: Callable[[CodecParams, jax.Array], jax.Array]

    @property
    def fitted(self) -> bool:
        """Whether the parameters are fitted to the sounds of a run, rather than read from files."""
        return self.kind == PATCH_DCT


def make_codec(config: ml_collections.ConfigDict) -> Codec:
    """The codec of a config's `codec` section.

    Raises:
      UserError: its folder of weights is not one.
    """
    return _patch_dct() if config.kind == PATCH_DCT else _autoencoder(folder_of("codec", config))


def check(config: ml_collections.ConfigDict) -> None:
    """See that the folders of weights that a config names are there and of the right kind.

    Raises:
      UserError: one is not.
    """
    make_codec(config.codec)
    if config.vocoder.kind == "hifigan":
        HIFIGAN.read_config(folder_of("vocoder", config.vocoder))


def latents_digest(config: ml_collections.ConfigDict) -> str:
    """Tells the weights of a `codec` section's autoencoder, and so its latents, from others."""
    return AUTOENCODER.digest(folder_of("codec", config))


def _patch_dct() -> Codec:
    stats = jax.ShapeDtypeStruct((LATENT_CHANNELS,), jnp.float32)
    return Codec(
        kind=PATCH_DCT,
        abstract=patch_dct.LatentStats(stats, stats),
        prepare=lambda sample: jax.jit(patch_dct.fit)(sample()),
        encode=lambda params, log_mel: Posterior(patch_dct.encode(params, log_mel), None),
        decode=patch_dct.decode,
    )


def _autoencoder(folder: Path) -> Codec:
    cfg = AUTOENCODER.read_config(folder)
    definition = nnx.graphdef(nnx.eval_shape(lambda: AUTOENCODER.make(cfg)))
    _warn(folder)

    return Codec(
        kind=AUDIOLDM_VAE,
        abstract=AUTOENCODER.abstract(cfg),
        prepare=lambda sample: AUTOENCODER.load(folder),
        encode=lambda params, log_mel: nnx.merge(definition, params).encode(log_mel),
        decode=lambda params, latent: nnx.merge(definition, params).decode(latent),
    )


@functools.cache
def _warn(folder: Path) -> None:
    """Says once what to know of an autoencoder's weights."""
    if note := autoencoder.warning(AUTOENCODER.read_options(folder)):
        print(f"warning: {folder}: {note}", file=sys.stderr)
