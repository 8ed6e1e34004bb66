"""DeSync and the image-bind score against `metrics_desync.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, METRIC, Golden, Row
from vssflow_jax.evaluate.metrics.of_sets import cosine_similarity
from vssflow_jax.evaluate.networks import synchformer

BATCH = 16  # of the original: its offsets lie window by window within a batch


def check(golden: Golden) -> Iterator[Row]:
    """A row for the offsets, and for each score of each set of clips."""
    yield golden.row("grid", synchformer.OFFSETS_SEC, EXACT)
    for name in golden.cases("_gt_names"):
        yield from check_set(golden, name)


def check_set(golden: Golden, name: str) -> Iterator[Row]:
    of_reference, of_generated = golden.pairs(name, clean=True)
    paired = golden[f"{name}_pred_names"][of_generated]
    yield golden.row(f"{name}_paired_pred_names", paired, EXACT)

    logits = [golden[f"{name}_sync_logits_{window}14"] for window in ("first", "last")]
    first, last = map(synchformer.absolute_offset, logits)
    starts = range(0, len(first), BATCH)
    in_order = [x for i in starts for x in (*first[i : i + BATCH], *last[i : i + BATCH])]
    yield golden.row(f"{name}_abs_offsets_in_order", in_order, METRIC)
    yield golden.row(f"{name}_desync", synchformer.desync(*logits).mean(), METRIC)

    video, audio = golden[f"{name}_ib_video"], golden[f"{name}_ib_audio"]
    cosines = cosine_similarity(video[of_reference], audio[of_generated])
    yield golden.row(f"{name}_ib_cosines", cosines, METRIC)
    for rest in golden.below(f"{name}_ib_score"):
        yield golden.row(f"{name}_ib_score{rest}", np.mean(cosines), METRIC)
