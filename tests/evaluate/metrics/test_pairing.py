import pytest

from vssflow_jax.evaluate.metrics.pairing import clean_sample_name, pair_by_name
from vssflow_jax.utils.errors import UserError

CLIP = "zxpo56cpUBU_000007"


def test_pairs_follow_the_generated_clips():
    reference, generated = pair_by_name(["a", "b", "c"], ["c", "x", "a"])
    assert (reference.tolist(), generated.tolist()) == ([2, 0], [0, 2])


def test_several_samples_of_a_clip_find_it_once_their_names_are_cleaned():
    names = [f"{CLIP}-0", f"{CLIP}-1", CLIP]
    assert [indices.tolist() for indices in pair_by_name([CLIP], names)] == [[0], [2]]
    cleaned = pair_by_name([CLIP], names, clean=True)
    assert [indices.tolist() for indices in cleaned] == [[0, 0, 0], [0, 1, 2]]


@pytest.mark.parametrize("name", [CLIP, f"{CLIP}-0", f"000000014_{CLIP}-0", f"Y{CLIP}_0"])
def test_names_of_vggsound_clips(name: str):
    assert clean_sample_name(name) == CLIP


def test_other_names_stay():
    assert clean_sample_name("bbaf2n") == "bbaf2n"


def test_what_finds_no_partner_is_refused():
    with pytest.raises(UserError, match="none of 1 generated clips"):
        pair_by_name(["a"], ["b"])
    with pytest.raises(UserError, match="twice"):
        pair_by_name(["a", "a"], ["a"])
