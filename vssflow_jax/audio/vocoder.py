"""Vocoders by name: log-mel to waveform."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx

from vssflow_jax.audio import mel
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.audio.pretrained import HIFIGAN, folder_of
from vssflow_jax.weights.mapping import Weights

Vocoder = Callable[[np.ndarray], np.ndarray]
"""Log-mel [n, m] to float32 [n * HOP] at 16 kHz."""


class HifiGanVocoder:
    """HiFi-GAN, from a folder of its weights, which are read when the first sound is made.

    Raises:
      UserError: the folder is not one.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._cfg = HIFIGAN.read_config(folder)
        self._definition = nnx.graphdef(nnx.eval_shape(lambda: HIFIGAN.make(self._cfg)))
        self._waveforms = jax.jit(lambda weights, x: nnx.merge(self._definition, weights)(x))

    @functools.cached_property
    def _weights(self) -> Weights:
        return HIFIGAN.load(self._folder)

    def __call__(self, log_mel: np.ndarray) -> np.ndarray:
        # The network gives a few samples more than the frames last.
        waveforms = self._waveforms(self._weights, log_mel[None])
        return np.asarray(waveforms[0, : len(log_mel) * mel.HOP])


VOCODERS: dict[str, Callable[[ml_collections.ConfigDict], Vocoder]] = {
    "griffin_lim": lambda section: griffin_lim,
    "hifigan": lambda section: HifiGanVocoder(folder_of("vocoder", section)),
}
"""Kind -> the vocoder of a config's `vocoder` section."""


def make_vocoder(config: ml_collections.ConfigDict) -> Vocoder:
    """The vocoder of a config's `vocoder` section.

    Raises:
      UserError: its folder of weights is not one.
    """
    return VOCODERS[config.kind](config)
