"""SyncNet, its cepstra and its distances against `syncnet.npz`."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, METRIC, Golden, Row
from vssflow_jax.audio.mfcc import mfcc
from vssflow_jax.networks.syncnet import SyncNet, synchrony

CEPSTRA = (2, 1, 13, 20)
FACES = (2, 3, 5, 224, 224)
ROWS = (20, 1024)


def check(golden: Golden) -> Iterator[Row]:
    """A row for each of the two networks, for the cepstra, and for what is found of features."""
    cepstra = 10 * formula.noise(golden, "mfcc", CEPSTRA)
    faces = np.clip(128 + 64 * formula.noise(golden, "frames", FACES), 0, 255)
    samples = np.round(3000 * formula.noise(golden, "waveform", (16_000,))).astype(np.int16)
    rows = [formula.noise(golden, f"{name}_rows", ROWS) for name in ("video", "audio")]
    inputs = [cepstra, faces, samples, *rows]
    yield from formula.check_input(golden, np.concatenate([x.ravel() for x in inputs]))
    network = formula.network(golden, "syncnet")
    sound = nnx.jit(SyncNet.sound)(network, cepstra[:, 0])
    yield golden.row("out/audio", sound, FORWARD)
    picture = nnx.jit(SyncNet.picture)(network, faces.transpose(0, 2, 3, 4, 1))
    yield golden.row("out/video", picture, FORWARD)

    yield golden.row("out/mfcc", mfcc(samples), METRIC)
    found = synchrony(*rows)
    yield golden.row("out/mean_distance", found.distances, METRIC)
    yield golden.row("out/offset", np.asarray(found.offset), METRIC)
    yield golden.row("out/lse_d", np.asarray(found.distance), METRIC)
    # A small difference of distances, which the original has in float32.
    yield golden.row("out/lse_c", np.asarray(found.confidence), FORWARD)
