"""The stretch of phonemes and both nearest-neighbour resamplings against `phones.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, Golden, Row
from vssflow_jax.clip import nearest, nearest_exact, stretch_phonemes

MODES = {"nearest": nearest, "nearest-exact": nearest_exact}


def check(golden: Golden) -> Iterator[Row]:
    """A row for each stretched sequence and each table of indices, all exact."""
    for case in range(int(golden["in/count"])):
        frames = int(golden[f"{case}/in/target_len"])
        ids = stretch_phonemes(golden[f"{case}/in/ids"], frames)
        # Theirs loses its axis where one frame is wanted.
        yield golden.row(f"{case}/out/ids", np.squeeze(ids), EXACT)
    for num_in, num_out in golden["in/probe_lengths"]:
        for mode, indices in MODES.items():
            key = f"out/index_{mode}_{num_in}_{num_out}"
            yield golden.row(key, indices(num_in, num_out), EXACT)
