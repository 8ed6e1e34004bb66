"""Synchformer's sound side, its judge and its log-mels against `synchformer_sound.npz`."""

from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.networks.synchformer_sound import SynchformerSound, log_mels

MELS = (1, 2, 1, 128, 66)  # one clip, two segments, one channel
VIDEO, SOUND = (1, 14, 8, 768), (1, 14, 6, 768)


def check(golden: Golden) -> Iterator[Row]:
    """A row for the features of segments, for what the judge says, and for the log-mel."""
    mels = formula.noise(golden, "mel", MELS)
    rows = [
        formula.noise(golden, f"{name}_rows", shape)
        for name, shape in (("video", VIDEO), ("audio", SOUND))
    ]
    waveform = 0.1 * formula.noise(golden, "waveform", (10_240,))
    inputs = np.concatenate([x.ravel() for x in (mels, *rows, waveform)])
    yield from formula.check_input(golden, inputs)
    network = formula.network(golden, "synchformer_sound")
    features = nnx.jit(SynchformerSound.__call__)(network, mels[0, :, 0])
    yield golden.row("out/features", features[None], FORWARD)
    logits = jax.jit(synchformer.forward)(formula.weights(golden), *rows)
    yield golden.row("out/logits", logits, FORWARD)
    yield golden.row("out/mel", log_mels(waveform[None])[0], FORWARD)
