"""KL divergences and inception scores against `metrics_kl_is.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, METRIC, Golden, Row, compare
from vssflow_jax.evaluate.metrics import classes
from vssflow_jax.utils.errors import UserError

FEW = 7


def check(golden: Golden) -> Iterator[Row]:
    """A row for each score of each set of clips, and for what has none."""
    for name in golden.cases("_gt_names"):
        yield from check_set(golden, name)
    yield without_score(golden, "underflow_is", golden["underflow_logits"])


def check_set(golden: Golden, name: str) -> Iterator[Row]:
    reference, generated = (golden[f"{name}_{side}_logits"] for side in ("gt", "pred"))
    for pairing in ("exact", "clean"):
        of_reference, of_generated = golden.pairs(name, clean=pairing == "clean")
        yield golden.row(f"{name}_{pairing}_n", len(of_reference), EXACT)
        ours = classes.kl_softmax(reference[of_reference], generated[of_generated]).mean()
        for rest in golden.below(f"{name}_kl_softmax_{pairing}"):
            yield golden.row(f"{name}_kl_softmax_{pairing}{rest}", ours, METRIC)
        golden.below(f"{name}_kl_sigmoid_{pairing}")  # is no metric here
    clean = generated[of_generated]
    unshuffled = clean[np.argsort(classes.shuffled(len(clean)))]
    yield golden.row(f"{name}_perm", classes.shuffled(len(clean)), EXACT)
    for key, ours in (
        ("all", classes.inception_score(generated)),
        ("clean", classes.inception_score(clean)),
        ("clean_1split", classes.inception_score(clean, splits=1)),
        ("clean_noshuffle", classes.inception_score(unshuffled)),
    ):
        mean, _ = golden[f"{name}_is_{key}"]  # and the deviation over splits
        yield compare(f"{golden.name}/{name}_is_{key}", ours, mean, METRIC)
    yield without_score(golden, f"{name}_is_first{FEW}", clean[:FEW])


def without_score(golden: Golden, key: str, logits: np.ndarray) -> Row:
    """Where the original gives NaN, ours refuses."""
    try:
        ours = np.full(2, classes.inception_score(logits))
    except UserError:
        ours = np.full(2, np.nan)
    return compare(f"{golden.name}/{key} (none)", np.isnan(ours), np.isnan(golden[key]), EXACT)
