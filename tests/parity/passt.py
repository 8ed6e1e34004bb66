"""PaSST and its log-mels against `passt.npz`."""

from collections.abc import Iterator

from flax import nnx

from tests.parity import formula
from tests.parity.golden import FORWARD, Golden, Row
from vssflow_jax.networks.passt import PaSST, log_mels

WAVEFORMS = (1, 300_000)
EACH = 50  # frame of the log-mel is there


def check(golden: Golden) -> Iterator[Row]:
    """A row for the log-mel of a sound that is too short, and for both outputs."""
    waveforms = 0.1 * formula.noise(golden, "waveform", WAVEFORMS)
    yield from formula.check_input(golden, waveforms)
    mels = log_mels(waveforms)
    yield golden.row("out/mel", mels[:, ::EACH], FORWARD)
    network = formula.network(golden, "passt")
    logits, features = nnx.jit(PaSST.__call__)(network, mels)
    yield golden.row("out/logits", logits, FORWARD)
    yield golden.row("out/features", features, FORWARD)
