"""Word error rates against `metrics_wer.json`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, METRIC, Golden, Row, compare
from vssflow_jax.evaluate.metrics import wer

NORMALISATIONS: tuple[wer.Normalisation, ...] = ("raw", "lower_nopunct")
"""Those that the data has; `spoken` is our own, and `whisper` is held against transformers."""


def check(golden: Golden) -> Iterator[Row]:
    """A row for each figure under each normalisation."""
    for key in ("about", "jiwer", "rapidfuzz"):
        golden[key]  # what the data was made with
    for texts in ("", "edge/"):
        for normalisation in NORMALISATIONS:
            yield from check_block(golden, texts, normalisation)


def check_block(golden: Golden, texts: str, normalisation: wer.Normalisation) -> Iterator[Row]:
    references, hypotheses = (golden[f"{texts}{side}"] for side in ("references", "hypotheses"))
    block = f"{texts}{normalisation}/"
    for key, side in (("ref_words", references), ("hyp_words", hypotheses)):
        ours = [" ".join(wer.words(text, normalisation)) for text in side.tolist()]
        yield golden.row(f"{block}{key}", ours, EXACT)

    pairs = zip(references.tolist(), hypotheses.tolist(), strict=True)
    found = [wer.word_errors(*pair, normalisation) for pair in pairs]
    errors, words = np.transpose([(one.total, one.said) for one in found])
    yield golden.row(f"{block}errors_per_utt", errors, EXACT)
    yield golden.row(f"{block}ref_len_per_utt", words, EXACT)
    # What `metrics.of_words` makes of them, and the sums over clips.
    rates = errors / np.maximum(words, 1)
    yield golden.row(f"{block}wer_per_utt", rates, METRIC)
    yield golden.row(f"{block}mean_utt_wer", rates.mean(), METRIC)
    yield golden.row(f"{block}corpus_wer", errors.sum() / words.sum(), METRIC)

    # Of several best alignments any may be counted; two sums are the same in all.
    hits, substitutions, deletions, insertions = (
        golden[f"{block}total_{kind}"]
        for kind in ("hits", "substitutions", "deletions", "insertions")
    )
    name = f"{golden.name}/{block}total"
    yield compare(f"{name}_errors", errors.sum(), substitutions + deletions + insertions, EXACT)
    yield compare(f"{name}_words", words.sum(), hits + substitutions + deletions, EXACT)
