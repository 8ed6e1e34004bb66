"""Voices as vectors, by the network that the package Resemblyzer carries (see `INSTALL`).

It is a GE2E speaker encoder (Wan et al. 2018, "Generalized End-to-End Loss for Speaker
Verification"): the cosine of two of its vectors is how alike two voices are.
"""

import functools
import importlib
import warnings
from typing import Any

import numpy as np

from vssflow_jax.utils.errors import UserError

WIDTH = 256
PACKAGE = "resemblyzer"
# Without what it asks for: setup.py says why.
INSTALL = "pip install -e '.[voices]' && pip install --no-deps Resemblyzer==0.1.4"


def embed(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """The voice in a sound [samples]: float32 [256] of length 1; [0] where none is heard.

    Raises:
      UserError: the package is not there.
    """
    package = _package()
    if not waveform.any():  # Its level in decibels is none.
        return np.zeros(0, np.float32)
    spoken = package.preprocess_wav(waveform, source_sr=sampling_rate)
    if not len(spoken):
        return np.zeros(0, np.float32)
    return _encoder().embed_utterance(spoken)


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What it imports, it imports by names that grow old.
        try:
            return importlib.import_module(PACKAGE)
        except ModuleNotFoundError as error:
            raise UserError(f"voices need the package {error.name}: run  {INSTALL}") from error


@functools.cache
def _encoder() -> Any:
    return _package().VoiceEncoder(verbose=False)
