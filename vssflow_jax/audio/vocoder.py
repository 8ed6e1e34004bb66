"""Vocoders by name: log-mel to waveform."""

from collections.abc import Callable
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx

from vssflow_jax.audio import mel
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.audio.pretrained import HIFIGAN, folder_of

Vocoder = Callable[[np.ndarray], np.ndarray]
"""Log-mel [n, m] to float32 [n * HOP] at 16 kHz."""


class HifiGanVocoder:
    """HiFi-GAN, from a folder of its weights.

    Raises:
      UserError: the folder is not one.
    """

    def __init__(self, folder: Path):
        cfg = HIFIGAN.read_config(folder)
        definition = nnx.graphdef(nnx.eval_shape(lambda: HIFIGAN.make(cfg)))
        self._weights = HIFIGAN.load(folder)
        self._waveforms = jax.jit(lambda weights, x: nnx.merge(definition, weights)(x))

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
