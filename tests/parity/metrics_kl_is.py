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
        for link, kl in (("softmax", classes.kl_softmax), ("sigmoid", classes.kl_sigmoid)):
            ours = kl(reference[of_reference], generated[of_generated]).mean()
            for rest in golden.below(f"{name}_kl_{link}_{pairing}"):
                yield golden.row(f"{name}_kl_{link}_{pairing}{rest}", ours, METRIC)
    clean = generated[of_generated]
    unshuffled = clean[np.argsort(classes.shuffled(len(clean)))]
    yield golden.row(f"{name}_perm", classes.shuffled(len(clean)), EXACT)
    for key, ours in (
        ("all", classes.inception_scores(generated)),
        ("clean", classes.inception_scores(clean)),
        ("clean_1split", classes.inception_scores(clean, splits=1)),
        ("clean_noshuffle", classes.inception_scores(unshuffled)),
    ):
        yield golden.row(f"{name}_is_{key}", [ours.mean(), ours.std()], METRIC)
    yield without_score(golden, f"{name}_is_first{FEW}", clean[:FEW])


def without_score(golden: Golden, key: str, logits: np.ndarray) -> Row:
    """Where the original gives NaN, ours refuses."""
    try:
        ours = classes.inception_scores(logits)[:2]
    except UserError:
        ours = np.full(2, np.nan)
    return compare(f"{golden.name}/{key} (none)", np.isnan(ours), np.isnan(golden[key]), EXACT)
