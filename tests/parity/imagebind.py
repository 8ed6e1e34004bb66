"""ImageBind's picture and sound, and its log-mel, against `imagebind.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.imagebind import ImageBind, log_mels

MELS = (1, 3, 1, 128, 204)  # one clip, three parts, one channel
PICTURES = (1, 2, 3, 2, 224, 224)  # one clip, two parts
# In ten of 26,112 places, in the lowest bands, hardly more than nothing is left of the energy,
# whose logarithm shows how the original's transform rounds in float32; others are within 1e-5.
NEAR_FLOOR = 1e-4


def check(golden: Golden) -> Iterator[Row]:
    """A row for the vectors of either side, the means of the parts, and for the log-mel."""
    mels = formula.noise(golden, "mel", MELS)
    pictures = formula.noise(golden, "frames", PICTURES)
    waveform = 0.1 * formula.noise(golden, "waveform", (1, 32_000))
    inputs = np.concatenate([x.ravel() for x in (mels, pictures, waveform)])
    yield from formula.check_input(golden, inputs)
    network = formula.network(golden, "imagebind")
    sound = nnx.jit(ImageBind.sound)(network, mels[0, :, 0])
    yield golden.row("out/audio", sound.mean(axis=0, keepdims=True), FORWARD)
    vision = nnx.jit(ImageBind.vision)(network, pictures[0].transpose(0, 2, 3, 4, 1))
    yield golden.row("out/vision", vision.mean(axis=0, keepdims=True), FORWARD)
    yield golden.row("out/mel", log_mels(waveform)[0], NEAR_FLOOR)
