import numpy as np
import pytest

from vssflow_jax.evaluate.metrics.of_sets import (
    clean_sample_name,
    cosine_similarity,
    distance_of_rows,
    mel_distances,
    mel_statistics,
    pair_by_name,
)
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError

CLIP = "zxpo56cpUBU_000007"


def log_mels(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rng.integers(20, 40), 5)) for _ in range(count)]


def test_statistics_are_the_mean_and_deviation_of_each_band():
    log_mel = np.array([[0.0, 1.0], [2.0, 1.0]], np.float32)
    np.testing.assert_array_equal(mel_statistics(log_mel), [1, 1, 1, 0])


def rows(generated: list[np.ndarray], reference: list[np.ndarray]) -> list[Row]:
    return [
        Row(
            "v2s",
            index,
            mel_statistics={
                "generated": mel_statistics(ours).tolist(),
                "ground_truth": mel_statistics(truth).tolist(),
            },
        )
        for index, (ours, truth) in enumerate(zip(generated, reference, strict=True))
    ]


def fd(generated: list[np.ndarray], reference: list[np.ndarray]) -> float:
    versions = ("generated", "ground_truth")
    return mel_distances(rows(generated, reference), versions)["generated"].value


def test_a_change_of_level_counts_in_every_band():
    clips = log_mels(30)
    louder = [log_mel + 0.5 for log_mel in clips]
    assert fd(louder, clips) == pytest.approx(5 * 0.5**2)
    assert fd(clips[::-1], clips) == pytest.approx(0, abs=1e-12)


def test_too_few_clips_are_refused():
    with pytest.raises(UserError, match="at least 2"):
        fd(log_mels(1), log_mels(1))


def test_few_rows_are_told():
    rng = np.random.default_rng(0)
    generated, reference = rng.standard_normal((2, 40, 40))
    assert not distance_of_rows(generated, reference).more
    more = distance_of_rows(generated, reference[:39]).more
    assert "39 rows of features are fewer than the 40 numbers of each" in more["warning"]
    assert more["infinity"] < distance_of_rows(generated, reference[:39]).value
    assert 0 < more["r_squared"] <= 1
    assert list(distance_of_rows(generated[:20], reference).more) == ["warning"]


def test_true_sounds_are_at_no_distance_from_themselves():
    log_mels_of_few = log_mels(4)
    found = mel_distances(rows(log_mels_of_few, log_mels(4, seed=1)), ["generated", "ground_truth"])
    assert (found["ground_truth"].value, found["ground_truth"].more) == (0, {})
    assert "4 rows of features are fewer than the 10 numbers" in found["generated"].more["warning"]


def test_similarity_is_the_cosine_whatever_the_lengths():
    a = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]], np.float32)
    b = np.array([[5.0, 0], [3, 3], [-0.1, 0], [1, 2]], np.float32)
    assert cosine_similarity(a, b) == pytest.approx([1, np.sqrt(0.5), -1, 0])


def test_pairs_follow_the_generated_clips():
    assert list(pair_by_name("abc", "cxa").items()) == [("c", "c"), ("a", "a")]


def test_several_samples_of_a_clip_find_it_once_their_names_are_cleaned():
    names = [f"{CLIP}-0", f"{CLIP}-1", CLIP]
    assert pair_by_name([CLIP], names) == {CLIP: CLIP}
    assert pair_by_name([CLIP], names, clean=True) == dict.fromkeys(names, CLIP)


@pytest.mark.parametrize("name", [CLIP, f"{CLIP}-0", f"000000014_{CLIP}-0", f"Y{CLIP}_0"])
def test_names_of_vggsound_clips(name: str):
    assert clean_sample_name(name) == CLIP


def test_other_names_stay():
    assert clean_sample_name("bbaf2n") == "bbaf2n"


def test_what_finds_no_partner_is_refused():
    with pytest.raises(UserError, match="none of 1 generated clips"):
        pair_by_name(["a"], ["b"])
