"""Audiobox-Aesthetics against `audiobox.npz`: a sound of two windows and a part of a third."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import EXACT, FORWARD, Golden, Row
from vssflow_jax.networks import audiobox
from vssflow_jax.networks.audiobox import SAMPLES, Audiobox
from vssflow_jax.networks.wav2vec import frames_of

LOW = 8  # samples that each drawn one of the second window stands for, so that it sounds otherwise
PART = 48_000  # of the third window


def check(golden: Golden) -> Iterator[Row]:
    """A row for layers at the start of the last window, and for the scores of windows and sound."""
    drawn = formula.noise(golden, "waveform", (SAMPLES + SAMPLES // LOW + PART,))
    first, second, third = np.split(drawn, [SAMPLES, SAMPLES + SAMPLES // LOW])
    sound = np.concatenate([first, np.repeat(second, LOW), third]) * np.float32(0.1)
    yield from formula.check_input(golden, sound)
    rows, samples = audiobox.windows(sound)
    network = formula.network(golden, "audiobox")
    frames = audiobox.own_frames(samples, SAMPLES, frames_of(SAMPLES))
    yield golden.row("out/frames", frames, EXACT)
    layers = nnx.jit(last_layers)(network, rows[-1:], frames[-1:])
    yield golden.row("out/layers", layers, FORWARD)
    scores = np.asarray(nnx.jit(Audiobox.__call__)(network, rows, samples=samples))
    yield golden.row("out/windows", scores, FORWARD)
    yield golden.row("out/scores", audiobox.mean_of_windows(scores, samples), FORWARD)


def last_layers(network: Audiobox, row: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """All layers at the first 8 frames of a window, 64 channels of each."""
    x = network.embed(row, np.float32)
    return network.trunk.trace(x, lambda x: x[0, :8, :64], frames=frames)
