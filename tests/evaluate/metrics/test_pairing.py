import pytest

from vssflow_jax.evaluate.metrics.pairing import clean_sample_name, pair_by_name
from vssflow_jax.utils.errors import UserError

CLIP = "zxpo56cpUBU_000007"


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
