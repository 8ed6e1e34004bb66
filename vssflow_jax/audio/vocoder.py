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

VOCODERS = ("griffin_lim", "hifigan")


def make_vocoder(config: ml_collections.ConfigDict) -> Vocoder:
    """The vocoder of a config's `vocoder` section: log-mel [n, m] to float32 [n * HOP] at 16 kHz.

    Raises:
      UserError: its folder of weights is not one.
    """
    return griffin_lim if config.kind == "griffin_lim" else _hifigan(folder_of("vocoder", config))


def _hifigan(folder: Path) -> Vocoder:
    cfg = HIFIGAN.read_config(folder)
    definition = nnx.graphdef(nnx.eval_shape(lambda: HIFIGAN.make(cfg)))
    weights = HIFIGAN.load(folder)
    waveforms = jax.jit(lambda weights, log_mel: nnx.merge(definition, weights)(log_mel))

    def vocode(log_mel: np.ndarray) -> np.ndarray:
        # The network gives a few samples more than the frames last.
        return np.asarray(waveforms(weights, log_mel[None])[0, : len(log_mel) * mel.HOP])

    return vocode
